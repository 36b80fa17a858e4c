import { readFileSync } from 'node:fs'
import test, { type ExecutionContext } from 'ava'
import {
  type CertificateHeaderFormat,
  ClientCertificateError,
  type ClientCertificateErrorCode,
  certificateHeaderFormats,
  readClientCertificateHeader,
  socketCertificate,
} from '../../packages/verify/client-certificate.ts'
import { decodeXfcc } from '../../packages/verify/lib/certificate-formats.ts'
import {
  createAuthority,
  selfSigned,
  type TestAuthority,
  type TestCertificate,
} from '../support/certificates.ts'

let authority: TestAuthority
let client: TestCertificate
let other: TestCertificate
let base64: string
let escaped: string
let escapedChain: string

/** One request for each format, as the proxy that speaks it writes it. */
let valid: Record<CertificateHeaderFormat, [name: string, value: string]>

test.before(async () => {
  authority = await createAuthority()
  client = await authority.issue()
  other = await selfSigned()
  base64 = client.der.toString('base64')
  escaped = encodeURIComponent(client.cert)
  escapedChain = encodeURIComponent(`${client.cert}\n${authority.cert}\n`)
  valid = {
    rfc9440: ['Client-Cert', `:${base64}:`],
    nginx: ['X-SSL-Cert', escaped],
    haproxy: ['X-SSL-Client-DER', base64],
    envoy: [
      'x-forwarded-client-cert',
      `By=spiffe://x/y;Hash=00;Subject="CN=a\\",b,c";Cert="${escaped}";DNS=a.example;DNS=b.example`,
    ],
    'aws-alb': [
      'X-Amzn-Mtls-Clientcert-Leaf',
      escaped.replaceAll('%2B', '+').replaceAll('%2F', '/'),
    ],
  }
})

const read = (format: CertificateHeaderFormat, headers: readonly string[], header?: string) =>
  readClientCertificateHeader(headers, { trusted: true, format, header })

function refused(t: ExecutionContext, code: ClientCertificateErrorCode, attempt: () => unknown) {
  t.is(t.throws(attempt, { instanceOf: ClientCertificateError })?.code, code)
}

for (const format of certificateHeaderFormats) {
  test(`${format}: reads the certificate`, (t) => {
    const [name, value] = valid[format]
    const found = read(format, ['Host', 'x', name, value])
    t.is(found?.thumbprint, client.thumbprint)
    t.deepEqual(found?.certificate.raw, client.der)
    t.deepEqual(found?.chain, [])
  })

  test(`${format}: a request without the header has no certificate`, (t) => {
    const [name] = valid[format]
    t.is(read(format, ['Host', 'x']), undefined)
    t.is(read(format, [name, '']), undefined)
  })

  test(`${format}: refuses the header from anyone but a proxy`, (t) => {
    const [name, value] = valid[format]
    refused(t, 'untrusted_peer', () =>
      readClientCertificateHeader([name, value], { trusted: false, format }),
    )
  })

  test(`${format}: overlooks the header of strangers where that was asked for`, (t) => {
    const [name, value] = valid[format]
    const options = { trusted: false, untrusted: 'ignore', format } as const
    t.is(readClientCertificateHeader([name, value], options), undefined)
  })

  test(`${format}: refuses a repeated header`, (t) => {
    const [name, value] = valid[format]
    refused(t, 'repeated_header', () => read(format, [name, value, name.toUpperCase(), value]))
  })

  test(`${format}: refuses a list`, (t) => {
    const [name, value] = valid[format]
    refused(t, 'repeated_header', () => read(format, [name, `${value}, ${value}`]))
  })

  test(`${format}: refuses what is too large`, (t) => {
    const [name] = valid[format]
    refused(t, 'header_too_large', () => read(format, [name, 'A'.repeat(16 * 1024 + 1)]))
  })

  test(`${format}: refuses half a value`, (t) => {
    const [name, value] = valid[format]
    refused(t, 'malformed_header', () => read(format, [name, value.slice(0, value.length / 2)]))
  })

  test(`${format}: refuses text`, (t) => {
    const [name] = valid[format]
    refused(t, 'malformed_header', () => read(format, [name, 'subject=CN%3Dadmin']))
  })
}

const { mtls: vectors } = JSON.parse(readFileSync('test/vectors/binding-vectors.json', 'utf8'))

for (const vector of vectors.filter((each: object) => 'client_cert_header' in each)) {
  test(`rfc9440: reads the certificate of ${vector.source}`, (t) => {
    const headers = ['client-cert', vector.client_cert_header]
    const chain = vector.client_cert_chain_header
    if (chain) headers.push('client-cert-chain', chain)
    const found = read('rfc9440', headers)
    t.is(found?.thumbprint, vector.x5t_S256 ?? vector.computed_x5t_S256)
    t.is(found?.chain.length, chain ? 2 : 0)
  })
}

test('rfc9440: a chain may be spread over several fields', (t) => {
  const chain = ['Client-Cert-Chain', `:${authority.der.toString('base64')}:`]
  t.is(read('rfc9440', ['Client-Cert', valid.rfc9440[1], ...chain, ...chain])?.chain.length, 2)
})

test('rfc9440: refuses a chain without a certificate', (t) => {
  const chain = ['Client-Cert-Chain', `:${authority.der.toString('base64')}:`]
  refused(t, 'malformed_header', () => read('rfc9440', chain))
})

test('rfc9440: refuses a chain from anyone but a proxy', (t) => {
  refused(t, 'untrusted_peer', () =>
    readClientCertificateHeader(['Client-Cert-Chain', ':AA==:'], {
      trusted: false,
      format: 'rfc9440',
    }),
  )
})

test('rfc9440: refuses a chain of more certificates than anyone has', (t) => {
  const chain = Array.from({ length: 8 }, () => `:${other.der.toString('base64')}:`).join(', ')
  refused(t, 'header_too_large', () =>
    read('rfc9440', ['Client-Cert', valid.rfc9440[1], 'Client-Cert-Chain', chain]),
  )
})

for (const [title, text] of [
  ['without colons', () => base64],
  ['in base64url', () => `:${client.der.toString('base64url')}:`],
  ['with spaces inside', () => `:${base64.slice(0, 8)} ${base64.slice(8)}:`],
  ['that is empty', () => '::'],
  ['that is no certificate', () => `:${Buffer.from('no certificate').toString('base64')}:`],
  [
    'with bytes after the certificate',
    () => `:${Buffer.concat([client.der, Buffer.from('x')]).toString('base64')}:`,
  ],
] as const) {
  test(`rfc9440: refuses a value ${title}`, (t) => {
    refused(t, 'malformed_header', () => read('rfc9440', ['Client-Cert', text()]))
  })
}

for (const [title, text] of [
  ['a broken escape', () => `${escaped}%`],
  ['text before the certificate', () => `x${escaped}`],
  ['a private key', () => encodeURIComponent(client.key)],
] as const) {
  test(`nginx: refuses ${title}`, (t) => {
    refused(t, 'malformed_header', () => read('nginx', ['X-SSL-Cert', text()]))
  })
}

test('nginx: the header may have another name', (t) => {
  t.is(
    read('nginx', ['ssl-client-cert', escaped], 'SSL-Client-Cert')?.thumbprint,
    client.thumbprint,
  )
})

test('haproxy: refuses another spelling of the same bytes', (t) => {
  for (const text of [
    client.der.toString('base64url'),
    `${base64.slice(0, 8)} ${base64.slice(8)}`,
  ]) {
    refused(t, 'malformed_header', () => read('haproxy', ['X-SSL-Client-DER', text]))
  }
})

test('haproxy: the value may be in quotes', (t) => {
  t.is(read('haproxy', ['X-SSL-Client-DER', `"${base64}"`])?.thumbprint, client.thumbprint)
})

test('aws-alb: pass-through mode sends the chain, client first', (t) => {
  const header = 'X-Amzn-Mtls-Clientcert'
  const found = read('aws-alb', [header, escapedChain], header)
  t.is(found?.thumbprint, client.thumbprint)
  t.is(found?.chain.length, 1)
})

const envoy = (value: string) => read('envoy', ['x-forwarded-client-cert', value])

test('envoy: reads the chain', (t) => {
  const found = envoy(`Cert="${escaped}";Chain="${escapedChain}"`)
  t.is(found?.thumbprint, client.thumbprint)
  t.is(found?.chain.length, 1)
})

test('envoy: refuses a chain of another certificate', (t) => {
  refused(t, 'malformed_header', () =>
    envoy(`Cert="${encodeURIComponent(other.cert)}";Chain="${escapedChain}"`),
  )
})

test('envoy: refuses an element without the certificate', (t) => {
  refused(t, 'malformed_header', () => envoy(`Hash=${client.thumbprint};Subject="CN=client"`))
})

test('envoy: refuses two certificates', (t) => {
  refused(t, 'malformed_header', () =>
    envoy(`Cert="${escaped}";Cert="${encodeURIComponent(other.cert)}"`),
  )
  refused(t, 'malformed_header', () =>
    envoy(`Cert="${escaped}";cert="${encodeURIComponent(other.cert)}"`),
  )
})

/** A quadratic reader would need hours for these, and run into the limit of the test. */
for (const [what, text] of [
  ['letters', 'a'.repeat(4_000_000)],
  ['keys without values', 'a='.repeat(1_000_000)],
  ['an open quote', `a="${'\\"'.repeat(2_000_000)}`],
  ['quotes', 'a="b"'.repeat(500_000)],
] as const) {
  test(`envoy: reads ${what} in linear time`, (t) => {
    t.is(decodeXfcc(text), undefined)
    refused(t, 'header_too_large', () => envoy(text))
  })
}

test('envoy: a certificate inside the quotes of another value is text', (t) => {
  const spoofed = `Subject="CN=a\\";Cert=\\"${encodeURIComponent(other.cert)}\\"";Cert="${escaped}"`
  t.is(envoy(spoofed)?.thumbprint, client.thumbprint)
})

test('a socket without TLS has no certificate', (t) => {
  t.is(socketCertificate({}), undefined)
})

test('the certificate of a socket is asked for once', (t) => {
  let asked = 0
  const socket = {
    getPeerX509Certificate: () => {
      asked += 1
      return client.certificate
    },
  }
  t.is(socketCertificate(socket)?.thumbprint, client.thumbprint)
  t.is(socketCertificate(socket)?.thumbprint, client.thumbprint)
  t.is(asked, 1)
})
