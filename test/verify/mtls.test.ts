import { createHash, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import http2 from 'node:http2'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import {
  type CertificateHeaderFormat,
  ClientCertificateError,
  type ClientCertificateErrorCode,
  certificateHeaderFormats,
  readClientCertificateHeader,
  socketCertificate,
} from '../../packages/verify/client-certificate.ts'
import {
  confirmCertificate,
  confirmTokenBinding,
  parseConfirmation,
} from '../../packages/verify/confirmation.ts'
import { decodeXfcc } from '../../packages/verify/lib/certificate-formats.ts'
import { type NodeRequest, nodeRequest, nodeVerify } from '../../packages/verify/node.ts'
import {
  createAuthority,
  type TestCertificate as IssuedCertificate,
  selfSigned,
  type TestAuthority,
} from '../support/certificates.ts'
import { makeCertificate, type TestCertificate } from '../support/verify/certificates.ts'
import { accessToken, bearerRequest, verifierWith } from '../support/verify/fixtures.ts'
import { refused } from '../support/verify/refused.ts'

const server = await makeCertificate('localhost')
const client = await makeCertificate('client')
const thief = await makeCertificate('thief')
const thumbprint = createHash('sha256').update(client.der).digest('base64url')
const headers = { authorization: `Bearer ${accessToken({ cnf: { 'x5t#S256': thumbprint } })}` }

// RFC 8705 section 7.2: self-signed certificates have no chain that could be validated.
const tls = { cert: server.cert, key: server.key, requestCert: true, rejectUnauthorized: false }
const protect = nodeVerify<NodeRequest, import('node:http').ServerResponse>(verifierWith())
const listener = protect((_request, response, auth) => response.end(auth.methods.join()))

type Sending = (port: number, certificate?: TestCertificate) => Promise<number>

const overHttp1: Sending = (port, certificate) =>
  new Promise((resolve, reject) => {
    const { cert, key } = certificate ?? {}
    const options = { port, headers, ca: server.cert, cert, key, agent: false }
    https
      .get({ host: 'localhost', ...options }, (response) => {
        response.resume()
        response.on('end', () => resolve(response.statusCode ?? 0))
      })
      .on('error', reject)
  })

const overHttp2: Sending = (port, certificate) =>
  new Promise((resolve, reject) => {
    const { cert, key } = certificate ?? {}
    const ours = cert && key ? { cert, key } : {}
    const session = http2.connect(`https://localhost:${port}`, { ca: server.cert, ...ours })
    session.on('error', reject)
    const stream = session.request({ ':path': '/notes', ...headers })
    stream.on('error', reject)
    stream.on('response', (response) => {
      resolve(Number(response[':status']))
      session.close()
    })
    stream.resume()
  })

for (const [name, start, send] of [
  ['HTTP/1.1', () => https.createServer(tls, listener), overHttp1],
  ['HTTP/2', () => http2.createSecureServer(tls, listener as never), overHttp2],
] as const) {
  test(`accepts a bound token only on a connection with its certificate, over ${name}`, async (t) => {
    const listening = start()
    await new Promise<void>((resolve) => listening.listen(0, 'localhost', resolve))
    const { port } = listening.address() as AddressInfo
    t.is(await send(port, client), 200)
    t.is(await send(port, client), 200)
    t.is(await send(port, thief), 401)
    t.is(await send(port), 401)
    await new Promise((resolve) => listening.close(resolve))
  })
}

const certificate = Buffer.from('a certificate')
const providedId = Buffer.from('a token binding ID')
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('base64url')
const x = sha256(Buffer.from('x'))

test('reads no confirmation from a token without cnf', (t) => {
  t.deepEqual(parseConfirmation(undefined), [])
})

test('reads every member that must be proven', (t) => {
  t.deepEqual(parseConfirmation({ jkt: x, 'x5t#S256': x, tbh: x, 'kc-jkt-type': 'dpop' }), [
    { method: 'dpop', jkt: x },
    { method: 'mtls', thumbprint: x },
    { method: 'token-binding', tbh: x },
  ])
})

for (const cnf of [
  null,
  'jkt',
  1,
  [x],
  { jkt: 1 },
  { jkt: [x] },
  { jkt: '' },
  { jkt: x.slice(1) },
  { jkt: `${x}=` },
  { jkt: null },
  { 'x5t#S256': {} },
  { tbh: `${x}A` },
  { jkt: x, tbh: 1 },
]) {
  test(`refuses the malformed cnf ${JSON.stringify(cnf)}`, async (t) => {
    await refused(t, 'confirmation_malformed', () => parseConfirmation(cnf))
  })
}

for (const cnf of [
  {},
  { jwk: {} },
  { kid: 'a' },
  { x5t: x },
  { JKT: x },
  { 'kc-jkt-type': 'dpop' },
  { jkt: x, 'tbh#S512': x },
  JSON.parse('{"__proto__":{"jkt":"x"}}'),
]) {
  test(`refuses the unknown cnf ${JSON.stringify(cnf)}`, async (t) => {
    await refused(t, 'confirmation_unknown', () => parseConfirmation(cnf))
  })
}

test('ignores only members that are named harmless', (t) => {
  t.is(parseConfirmation({ jkt: x, note: 1 }, ['note']).length, 1)
})

test('confirms a certificate by its bytes and by its thumbprint', async (t) => {
  const thumbprint = sha256(certificate)
  t.notThrows(() => confirmCertificate(thumbprint, certificate))
  t.notThrows(() => confirmCertificate(thumbprint, { thumbprint }))
  await refused(t, 'certificate_missing', () => confirmCertificate(thumbprint, undefined))
  await refused(t, 'certificate_mismatch', () => confirmCertificate(x, certificate))
  await refused(t, 'certificate_mismatch', () => confirmCertificate(x, { thumbprint }))
})

test('rejects a certificate whose RSA key others can compute', async (t) => {
  const authority = await createAuthority()
  const rsa = (modulusLength: number, exponent: number[]) => ({
    keys: {
      name: 'RSASSA-PKCS1-v1_5',
      hash: 'SHA-256',
      modulusLength,
      publicExponent: Uint8Array.from(exponent),
    },
  })
  const factsOf = async (options: ReturnType<typeof rsa>) => {
    const parsed = new X509Certificate((await authority.issue(options)).cert)
    const thumbprint = sha256(parsed.raw)
    return { thumbprint, facts: [parsed.raw, { thumbprint, certificate: parsed }] }
  }
  const strong = await factsOf(rsa(2048, [1, 0, 1]))
  for (const fact of strong.facts) t.notThrows(() => confirmCertificate(strong.thumbprint, fact))
  for (const keys of [rsa(1024, [1, 0, 1]), rsa(2048, [3])]) {
    const { thumbprint, facts } = await factsOf(keys)
    for (const fact of facts.concat(facts)) {
      await refused(t, 'certificate_weak', () => confirmCertificate(thumbprint, fact))
    }
  }
})

test('confirms a Token Binding ID', async (t) => {
  const tbh = sha256(providedId)
  t.notThrows(() => confirmTokenBinding(tbh, { providedId }))
  await refused(t, 'token_binding_missing', () => confirmTokenBinding(tbh, undefined))
  await refused(t, 'token_binding_mismatch', () => confirmTokenBinding(x, { providedId }))
})

test('verifies requests with certificate-bound and Token-Binding-bound tokens', async (t) => {
  const verifier = verifierWith()
  const mtls = bearerRequest(accessToken({ cnf: { 'x5t#S256': sha256(certificate) } }))
  t.deepEqual((await verifier.verify({ ...mtls, certificate })).methods, ['mtls'])
  await refused(t, 'certificate_missing', () => verifier.verify(mtls))
  const bound = bearerRequest(accessToken({ cnf: { tbh: sha256(providedId) } }))
  const tokenBinding = { providedId }
  t.deepEqual((await verifier.verify({ ...bound, tokenBinding })).methods, ['token-binding'])
  await refused(t, 'token_binding_missing', () => verifier.verify(bound))
})

test('takes no header for a certificate or a Token Binding', async (t) => {
  const der = certificate.toString('base64')
  const spoofed = ['Client-Cert', `:${der}:`, 'X-SSL-Cert', der, 'X-Forwarded-Client-Cert', der]
  const request = bearerRequest(accessToken({ cnf: { 'x5t#S256': sha256(certificate) } }))
  const headers = [...(request.headers as string[]), ...spoofed]
  await refused(t, 'certificate_missing', () => verifierWith().verify({ ...request, headers }))
})

let authority: TestAuthority
let certificateClient: IssuedCertificate
let other: IssuedCertificate
let base64: string
let escaped: string
let escapedChain: string

/** One request for each format, as the proxy that speaks it writes it. */
let valid: Record<CertificateHeaderFormat, [name: string, value: string]>

test.before(async () => {
  authority = await createAuthority()
  certificateClient = await authority.issue()
  other = await selfSigned()
  base64 = certificateClient.der.toString('base64')
  escaped = encodeURIComponent(certificateClient.cert)
  escapedChain = encodeURIComponent(`${certificateClient.cert}\n${authority.cert}\n`)
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

function certificateRefused(
  t: ExecutionContext,
  code: ClientCertificateErrorCode,
  attempt: () => unknown,
) {
  t.is(t.throws(attempt, { instanceOf: ClientCertificateError })?.code, code)
}

for (const format of certificateHeaderFormats) {
  test(`${format}: reads the certificate`, (t) => {
    const [name, value] = valid[format]
    const found = read(format, ['Host', 'x', name, value])
    t.is(found?.thumbprint, certificateClient.thumbprint)
    t.deepEqual(found?.certificate.raw, certificateClient.der)
    t.deepEqual(found?.chain, [])
  })

  test(`${format}: parses a certificate that it has read before no second time`, (t) => {
    const [name, value] = valid[format]
    t.is(read(format, ['Host', 'x', name, value]), read(format, [name, value]))
  })

  test(`${format}: a request without the header has no certificate`, (t) => {
    const [name] = valid[format]
    t.is(read(format, ['Host', 'x']), undefined)
    t.is(read(format, [name, '']), undefined)
  })

  test(`${format}: refuses the header from anyone but a proxy`, (t) => {
    const [name, value] = valid[format]
    certificateRefused(t, 'untrusted_peer', () =>
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
    certificateRefused(t, 'repeated_header', () =>
      read(format, [name, value, name.toUpperCase(), value]),
    )
  })

  test(`${format}: refuses a list`, (t) => {
    const [name, value] = valid[format]
    certificateRefused(t, 'repeated_header', () => read(format, [name, `${value}, ${value}`]))
  })

  test(`${format}: refuses what is too large`, (t) => {
    const [name] = valid[format]
    certificateRefused(t, 'header_too_large', () => read(format, [name, 'A'.repeat(16 * 1024 + 1)]))
  })

  test(`${format}: refuses half a value`, (t) => {
    const [name, value] = valid[format]
    certificateRefused(t, 'malformed_header', () =>
      read(format, [name, value.slice(0, value.length / 2)]),
    )
  })

  test(`${format}: refuses text`, (t) => {
    const [name] = valid[format]
    certificateRefused(t, 'malformed_header', () => read(format, [name, 'subject=CN%3Dadmin']))
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
  certificateRefused(t, 'malformed_header', () => read('rfc9440', chain))
})

test('rfc9440: refuses a chain that is too large', (t) => {
  const chain = ['Client-Cert-Chain', `:${'A'.repeat(9000)}:`]
  certificateRefused(t, 'header_too_large', () =>
    read('rfc9440', ['Client-Cert', valid.rfc9440[1], ...chain, ...chain]),
  )
})

test('rfc9440: refuses a chain with a part that is no byte sequence', (t) => {
  const chain = `:${authority.der.toString('base64')}:, x`
  certificateRefused(t, 'malformed_header', () =>
    read('rfc9440', ['Client-Cert', valid.rfc9440[1], 'Client-Cert-Chain', chain]),
  )
})

test('rfc9440: refuses a chain from anyone but a proxy', (t) => {
  certificateRefused(t, 'untrusted_peer', () =>
    readClientCertificateHeader(['Client-Cert-Chain', ':AA==:'], {
      trusted: false,
      format: 'rfc9440',
    }),
  )
})

test('rfc9440: refuses a chain of more certificates than anyone has', (t) => {
  const chain = Array.from({ length: 8 }, () => `:${other.der.toString('base64')}:`).join(', ')
  certificateRefused(t, 'header_too_large', () =>
    read('rfc9440', ['Client-Cert', valid.rfc9440[1], 'Client-Cert-Chain', chain]),
  )
})

for (const [title, text] of [
  ['without colons', () => base64],
  ['in base64url', () => `:${certificateClient.der.toString('base64url')}:`],
  ['with spaces inside', () => `:${base64.slice(0, 8)} ${base64.slice(8)}:`],
  ['that is empty', () => '::'],
  ['that is no certificate', () => `:${Buffer.from('no certificate').toString('base64')}:`],
  [
    'with bytes after the certificate',
    () => `:${Buffer.concat([certificateClient.der, Buffer.from('x')]).toString('base64')}:`,
  ],
] as const) {
  test(`rfc9440: refuses a value ${title}`, (t) => {
    certificateRefused(t, 'malformed_header', () => read('rfc9440', ['Client-Cert', text()]))
  })
}

for (const [title, text] of [
  ['a broken escape', () => `${escaped}%`],
  ['text before the certificate', () => `x${escaped}`],
  ['a private key', () => encodeURIComponent(certificateClient.key)],
] as const) {
  test(`nginx: refuses ${title}`, (t) => {
    certificateRefused(t, 'malformed_header', () => read('nginx', ['X-SSL-Cert', text()]))
  })
}

test('nginx: the header may have another name', (t) => {
  t.is(
    read('nginx', ['ssl-client-cert', escaped], 'SSL-Client-Cert')?.thumbprint,
    certificateClient.thumbprint,
  )
})

test('haproxy: refuses another spelling of the same bytes', (t) => {
  for (const text of [
    certificateClient.der.toString('base64url'),
    `${base64.slice(0, 8)} ${base64.slice(8)}`,
  ]) {
    certificateRefused(t, 'malformed_header', () => read('haproxy', ['X-SSL-Client-DER', text]))
  }
})

test('haproxy: the value may be in quotes', (t) => {
  t.is(
    read('haproxy', ['X-SSL-Client-DER', `"${base64}"`])?.thumbprint,
    certificateClient.thumbprint,
  )
})

test('aws-alb: pass-through mode sends the chain, client first', (t) => {
  const header = 'X-Amzn-Mtls-Clientcert'
  const found = read('aws-alb', [header, escapedChain], header)
  t.is(found?.thumbprint, certificateClient.thumbprint)
  t.is(found?.chain.length, 1)
})

const envoy = (value: string) => read('envoy', ['x-forwarded-client-cert', value])

test('envoy: reads the chain', (t) => {
  const found = envoy(`Cert="${escaped}";Chain="${escapedChain}"`)
  t.is(found?.thumbprint, certificateClient.thumbprint)
  t.is(found?.chain.length, 1)
})

test('envoy: reads a certificate beside an empty chain', (t) => {
  t.is(envoy(`Cert="${escaped}";Chain=""`)?.thumbprint, certificateClient.thumbprint)
})

test('envoy: refuses a list whose first part is an open quote', (t) => {
  certificateRefused(t, 'repeated_header', () => envoy(`Cert="${escaped},Cert=${escaped}`))
})

test('envoy: refuses several certificates in the place of one', (t) => {
  certificateRefused(t, 'malformed_header', () => envoy(`Cert="${escapedChain}"`))
})

test('envoy: refuses a chain of another certificate', (t) => {
  certificateRefused(t, 'malformed_header', () =>
    envoy(`Cert="${encodeURIComponent(other.cert)}";Chain="${escapedChain}"`),
  )
})

test('envoy: refuses an element without the certificate', (t) => {
  certificateRefused(t, 'malformed_header', () =>
    envoy(`Hash=${certificateClient.thumbprint};Subject="CN=client"`),
  )
})

test('envoy: refuses two certificates', (t) => {
  certificateRefused(t, 'malformed_header', () =>
    envoy(`Cert="${escaped}";Cert="${encodeURIComponent(other.cert)}"`),
  )
  certificateRefused(t, 'malformed_header', () =>
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
    certificateRefused(t, 'header_too_large', () => envoy(text))
  })
}

test('envoy: a certificate inside the quotes of another value is text', (t) => {
  const spoofed = `Subject="CN=a\\";Cert=\\"${encodeURIComponent(other.cert)}\\"";Cert="${escaped}"`
  t.is(envoy(spoofed)?.thumbprint, certificateClient.thumbprint)
})

test('a socket without TLS has no certificate', (t) => {
  t.is(socketCertificate({}), undefined)
})

test('a request of node has the body that a parser has made, and nothing else in its place', (t) => {
  const bodyOf = (body: unknown) =>
    nodeRequest({ method: 'POST', url: '/', rawHeaders: [], socket: {}, body } as never).body
  t.is(bodyOf('a=b'), 'a=b')
  t.deepEqual(bodyOf({ a: 'b' }), { a: 'b' })
  for (const body of [undefined, null, 5, true]) t.is(bodyOf(body), undefined)
})

test('the certificate of a socket is asked for once', (t) => {
  let asked = 0
  const socket = {
    getPeerX509Certificate: () => {
      asked += 1
      return certificateClient.certificate
    },
  }
  t.is(socketCertificate(socket)?.thumbprint, certificateClient.thumbprint)
  t.is(socketCertificate(socket)?.thumbprint, certificateClient.thumbprint)
  t.is(asked, 1)
})
