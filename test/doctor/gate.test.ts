import { once } from 'node:events'
import type { RequestListener } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import tls from 'node:tls'
import test, { type ExecutionContext } from 'ava'
import type { Finding } from '../../src/doctor/finding.ts'
import { examineGate } from '../../src/doctor/gate.ts'
import { freePort } from '../../src/net/free-port.ts'
import { createAuthority, type TestCertificate } from '../support/certificates.ts'
import { startApplication, startGate } from '../support/gate.ts'

const authority = await createAuthority()
const names = [{ type: 'dns', value: 'localhost' }] as const
const usage = ['1.3.6.1.5.5.7.3.1']
const pair = await authority.issue({ names: [...names], usage })
tls.setDefaultCACertificates([...tls.getCACertificates('default'), authority.cert])

/** Milliseconds: the machine that runs these tests may be busy. */
const patience = 60_000

const outcomes = (findings: readonly Finding[]) =>
  Object.fromEntries(findings.map(({ check, outcome }) => [check, outcome]))

const adviceOf = (findings: readonly Finding[], check: string) =>
  findings.find((each) => each.check === check)?.advice ?? ''

/** A gate at an origin of this machine. */
async function startGateAt(
  settings: Record<string, unknown> = {},
  change: Record<string, unknown> = {},
) {
  const application = await startApplication()
  const port = await freePort()
  const gate = await startGate(
    {
      listen: { port },
      tls: { certFile: 'unused', keyFile: 'unused' },
      applications: [
        { origin: `https://localhost:${port}`, upstream: { url: application.url }, ...change },
      ],
      ...settings,
    },
    { pair },
  )
  return { application, gate, url: `https://localhost:${port}/private` }
}

/** A server on this machine that answers like this. */
async function serve(t: ExecutionContext, listener: RequestListener, by: TestCertificate = pair) {
  const server = createServer({ cert: by.cert, key: by.key }, listener)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `https://localhost:${(server.address() as AddressInfo).port}/private`
}

test('finds nothing wrong with a gate, and says what it cannot see', async (t) => {
  const { application, gate, url } = await startGateAt()
  const steps: [string, number, number][] = []
  const findings = await examineGate({ url, patience }, { onStep: (...step) => steps.push(step) })
  t.deepEqual(
    Object.values(outcomes(findings)),
    [...Array.from({ length: 9 }, () => 'well'), 'not_examined', 'not_examined'],
    JSON.stringify(findings),
  )
  t.deepEqual(
    steps,
    findings.map(({ check }, at) => [check, at, findings.length]),
  )
  t.deepEqual(application.received, [])
  await Promise.all([gate[Symbol.asyncDispose](), application[Symbol.asyncDispose]()])
})

test('notices that proxies and applications can be reached beside the gate', async (t) => {
  const forwardAuth = { proxy: 'nginx', port: 0 }
  const { application, gate, url } = await startGateAt({
    forwardAuth,
    trustedProxies: ['127.0.0.1'],
  })
  const asked = 'the address at which proxies ask is out of reach'
  const alone = 'the application is out of reach beside the gate'
  const open = await examineGate({
    ...{ url, patience, forwardAuth: `http://127.0.0.1:${gate.forwardAuthPort}` },
    upstream: application.url,
  })
  t.regex(adviceOf(open, asked), /answered \d+ to a request from here/)
  t.regex(adviceOf(open, alone), /In mode plain anyone who reaches it/)
  await gate[Symbol.asyncDispose]()
  const strict = await startGateAt({ forwardAuth, trustedProxies: ['192.0.2.1'] })
  const closed = await examineGate({
    ...{ url: strict.url, patience, upstream: `http://127.0.0.1:${await freePort()}` },
    forwardAuth: `http://127.0.0.1:${strict.gate.forwardAuthPort}`,
  })
  t.is(outcomes(closed)[asked], 'well')
  t.is(outcomes(closed)[alone], 'well')
  await Promise.all([
    ...[strict.gate, strict.application, application].map((each) => each[Symbol.asyncDispose]()),
  ])
})

for (const [peers, outcome] of [
  ['127.0.0.1', 'wrong'],
  ['192.0.2.1', 'well'],
] as const) {
  test(`asks a gate by gRPC whether it answers peers such as ${peers}`, async (t) => {
    const { application, gate, url } = await startGateAt({
      forwardAuth: { proxy: 'envoy-grpc', port: 0 },
      trustedProxies: [peers],
    })
    const findings = await examineGate({
      ...{ url, patience, forwardAuth: `http://127.0.0.1:${gate.forwardAuthPort}` },
    })
    t.is(outcomes(findings)['the address at which proxies ask is out of reach'], outcome)
    await Promise.all([gate[Symbol.asyncDispose](), application[Symbol.asyncDispose]()])
  })
}

test('notices a public route', async (t) => {
  const { application, gate, url } = await startGateAt(
    {},
    { routes: [{ path: '/private', access: 'public' }] },
  )
  const findings = await examineGate({ url, patience })
  t.regex(adviceOf(findings, 'a request without a token is refused'), /route is public/)
  await Promise.all([gate[Symbol.asyncDispose](), application[Symbol.asyncDispose]()])
})

test('notices an application without a gate', async (t) => {
  const url = await serve(t, (_request, response) => response.end('hello'))
  const found = outcomes(await examineGate({ url, patience }))
  t.is(found['the keys of the gate are published'], 'wrong')
  t.is(found['a request without a token is refused'], 'wrong')
  t.is(found['a token without a proof of its key is refused'], 'wrong')
  t.is(found['a token of another issuer is refused, with its proof'], 'wrong')
  t.is(found['forged headers open nothing'], 'wrong')
  t.is(found['a path that can be read in two ways is refused'], 'wrong')
})

test('names the header that opens an application', async (t) => {
  const url = await serve(t, ({ headers }, response) => {
    const isOpen = headers['x-original-uri'] === '/.well-known/holdfast-gate/jwks.json'
    response.writeHead(isOpen ? 200 : 401, { 'www-authenticate': 'DPoP' }).end()
  })
  const findings = await examineGate({ url, patience })
  t.regex(adviceOf(findings, 'forged headers open nothing'), /writing X-Original-URI \(200\)\./)
  t.is(outcomes(findings)['a request without a token is refused'], 'well')
})

test('notices a private key, a certificate that expires and a clock that is wrong', async (t) => {
  const soon = await authority.issue({
    names: [...names],
    usage,
    notAfter: new Date(Date.now() + 86_400_000),
  })
  const url = await serve(
    t,
    (_request, response) => {
      response.setHeader('date', new Date(Date.now() + 120_000).toUTCString())
      response.end(JSON.stringify({ keys: [{ kty: 'OKP', d: 'x' }] }))
    },
    soon,
  )
  const findings = await examineGate({ url, patience })
  t.regex(adviceOf(findings, 'the keys of the gate are published'), /shows a private key/)
  t.regex(adviceOf(findings, 'its certificate is valid for another week'), /expires on 20/)
  t.regex(adviceOf(findings, 'its clock agrees with the one here'), /1\d\d seconds ahead of/)
})

test('says why a gate is not reached', async (t) => {
  const [gone] = await examineGate({ url: `https://localhost:${await freePort()}` })
  t.regex(gone?.advice ?? '', /\(ECONNREFUSED\)\.$/)
  const stranger = await createAuthority()
  const untrusted = await serve(t, () => {}, await stranger.issue({ names: [...names], usage }))
  const [finding] = await examineGate({ url: untrusted, patience })
  t.regex(finding?.advice ?? '', /cannot be reached \(UNABLE_TO.*NODE_EXTRA_CA_CERTS/)
})
