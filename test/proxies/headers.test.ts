// What a real proxy, with the configuration that ships, lets through to the application.
import { once } from 'node:events'
import { createServer } from 'node:http'
import { Agent, type AgentOptions, request } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { TLSSocket } from 'node:tls'
import test, { type TestFn } from 'ava'
import {
  type CertificateHeaderFormat,
  readClientCertificateHeader,
} from '../../packages/verify/client-certificate.ts'
import {
  createAuthority,
  selfSigned,
  type TestAuthority,
  type TestCertificate,
} from '../support/certificates.ts'
import {
  isInstalled,
  type ProxyName,
  type RunningProxy,
  startProxy,
  testWith,
} from '../support/proxies.ts'

const setups: { title: string; proxy: ProxyName; format: CertificateHeaderFormat }[] = [
  { title: 'nginx', proxy: 'nginx', format: 'nginx' },
  { title: 'HAProxy by RFC 9440', proxy: 'haproxy', format: 'rfc9440' },
  { title: 'Envoy', proxy: 'envoy', format: 'envoy' },
  { title: 'HAProxy in DER', proxy: 'haproxy', format: 'haproxy' },
]

const opened = new AsyncDisposableStack()
test.after.always(() => opened.disposeAsync())

let authority: TestAuthority
let client: TestCertificate
let victim: TestCertificate
let upstream: number

test.serial.before(async () => {
  authority = await createAuthority()
  client = await authority.issue()
  victim = await authority.issue()
  const echo = createServer((req, res) => res.end(JSON.stringify(req.rawHeaders)))
  echo.listen(0, '127.0.0.1')
  await once(echo, 'listening')
  opened.defer(() => {
    echo.closeAllConnections()
    echo.close()
  })
  upstream = (echo.address() as AddressInfo).port
})

interface Seen {
  readonly headers: string[]
  readonly resumed: boolean
  readonly protocol: string | null
}

function ask(url: string, agent: Agent, headers: Record<string, string | string[]> = {}) {
  return new Promise<Seen>((resolve, reject) => {
    const sent = request(url, { agent, headers }, async (response) => {
      const socket = response.socket as TLSSocket
      const facts = { resumed: socket.isSessionReused(), protocol: socket.getProtocol() }
      const text = (await response.toArray()).join('')
      resolve({ headers: JSON.parse(text), ...facts })
    })
    sent.on('error', reject)
    sent.end()
  })
}

/** Everything by which a certificate or a Token Binding could be claimed. */
const spoofed = () => {
  const base64 = victim.der.toString('base64')
  const escaped = encodeURIComponent(victim.cert)
  return {
    'Client-Cert': `:${base64}:`,
    'Client-Cert-Chain': `:${base64}:`,
    'X-SSL-Cert': escaped,
    'x-ssl-CERT': escaped,
    'X-SSL-Client-DER': base64,
    'X-Forwarded-Client-Cert': `Cert="${escaped}"`,
    'X-Amzn-Mtls-Clientcert': escaped,
    'X-Amzn-Mtls-Clientcert-Leaf': escaped,
    'Sec-Token-Binding': 'AIkAAgBBQ',
    'Sec-Provided-Token-Binding-ID': 'AgBBQ',
    'Sec-Referred-Token-Binding-ID': 'AgBBQ',
    'Sec-Other-Token-Binding-ID': '4d.AgBBQ',
  }
}

const claims = (headers: readonly string[]) =>
  headers.filter(
    (name, index) => index % 2 === 0 && /cert|ssl|token-binding/i.test(name.replace('_', '-')),
  )

for (const { title, proxy: name, format } of setups) {
  const run = testWith(test as TestFn, name)
  let proxy: RunningProxy
  const agent = (options: AgentOptions = {}) => new Agent({ ca: proxy.ca, ...options })
  const read = ({ headers }: Seen) =>
    readClientCertificateHeader(headers, { trusted: true, format })?.thumbprint

  test.before(async () => {
    if (isInstalled(name)) {
      proxy = opened.use(await startProxy(name, { upstream, authority, format }))
    }
  })

  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    run(`${title}, ${version}: forwards the certificate, on resumed connections too`, async (t) => {
      const { cert, key } = client
      const tls = agent({ cert, key, minVersion: version, maxVersion: version })
      const first = await ask(proxy.mtlsOrigin, tls)
      t.is(first.protocol, version)
      t.false(first.resumed)
      t.is(read(first), client.thumbprint)
      const second = await ask(proxy.mtlsOrigin, tls)
      t.true(second.resumed)
      t.is(read(second), client.thumbprint)
    })
  }

  run(`${title}: forwards the certificate of nobody's authority`, async (t) => {
    const own = await selfSigned()
    t.is(read(await ask(proxy.mtlsOrigin, agent(own))), own.thumbprint)
  })

  // The others have no way to write one.
  if (name === 'envoy') {
    run(`${title}: forwards the intermediate certificate beside it`, async (t) => {
      const intermediate = await authority.intermediate()
      const { cert, key, thumbprint } = await intermediate.issue()
      const both = agent({ cert: `${cert}\n${intermediate.cert}`, key })
      const { headers } = await ask(proxy.mtlsOrigin, both)
      const read = readClientCertificateHeader(headers, { trusted: true, format })
      t.is(read?.thumbprint, thumbprint)
      t.deepEqual(
        read?.chain.map(({ fingerprint256 }) => fingerprint256).at(-1),
        intermediate.certificate.fingerprint256,
      )
    })
  }

  run(`${title}: forwards a renewed certificate`, async (t) => {
    const renewed = await authority.issue()
    t.is(read(await ask(proxy.mtlsOrigin, agent(client))), client.thumbprint)
    t.is(read(await ask(proxy.mtlsOrigin, agent(renewed))), renewed.thumbprint)
  })

  run(`${title}: forwards nothing for a client without a certificate`, async (t) => {
    t.deepEqual(claims((await ask(proxy.mtlsOrigin, agent())).headers), [])
  })

  run(`${title}: a spoofed header never reaches the application`, async (t) => {
    for (const origin of [proxy.publicOrigin, proxy.mtlsOrigin]) {
      t.deepEqual(claims((await ask(origin, agent(), spoofed())).headers), [], origin)
    }
  })

  run(`${title}: a spoofed header does not stand beside the real one`, async (t) => {
    const seen = await ask(proxy.mtlsOrigin, agent(client), spoofed())
    t.is(claims(seen.headers).length, 1)
    t.is(read(seen), client.thumbprint)
  })

  run(`${title}: where browsers go, no certificate is asked for`, async (t) => {
    const seen = await ask(proxy.publicOrigin, agent(client))
    t.deepEqual(claims(seen.headers), [])
  })
}
