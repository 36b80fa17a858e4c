// Real proxies that ask the gate, with the configurations that ship.

import { hash, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { Agent, request } from 'node:https'
import test from 'ava'
import { WebSocket, WebSocketServer } from 'ws'
import { freePort } from '../../src/net/free-port.ts'
import { createAuthority, type TestCertificate } from '../support/certificates.ts'
import {
  type Received,
  startApplication,
  startGate,
  type TestApplication,
  type TestGate,
} from '../support/gate.ts'
import { type Attack, attackOn, attacksOn } from '../support/gate-attacks.ts'
import {
  formatOf,
  type ProxyName,
  type RunningProxy,
  startProxy,
  testWith,
} from '../support/proxies.ts'
import { accessToken, dpopProof } from '../support/verify/fixtures.ts'

interface Setup {
  readonly proxy: RunningProxy
  readonly application: TestApplication
  readonly gate: TestGate
  readonly client: TestCertificate
}

/** Kinds of proxies, as `forwardAuth.proxy` names them. */
const kinds = ['nginx', 'haproxy', 'envoy', 'envoy-grpc', 'caddy', 'traefik'] as const
type Kind = (typeof kinds)[number]

const programOf = (kind: Kind): ProxyName => (kind === 'envoy-grpc' ? 'envoy' : kind)

const opened = new AsyncDisposableStack()
test.after.always(() => opened.disposeAsync())

async function setUp(kind: Kind): Promise<Setup> {
  const name = programOf(kind)
  const port = await freePort()
  const origin = `https://localhost:${port}`
  const application = opened.use(
    await startApplication({ audience: origin, acceptUnsignedBody: true }),
  )
  const gate = opened.use(
    await startGate({
      trustedProxies: ['127.0.0.1'],
      forwarded: {
        certificate: formatOf[name],
        ...(kind === 'traefik' && { certificateHeader: 'x-forwarded-tls-client-cert' }),
      },
      forwardAuth: { proxy: kind, port: 0 },
      applications: [
        {
          origin,
          upstream: { url: application.url },
          routes: [
            { path: '/admin', scopes: ['admin'] },
            { path: '/public', access: 'public' },
          ],
        },
      ],
    }),
  )
  const authority = await createAuthority()
  const proxy = opened.use(
    await startProxy(name, {
      upstream: Number(new URL(application.url).port),
      authority,
      ports: { public: port, mtls: port },
      templates: {
        folder: 'docker/gate',
        ...(kind === 'envoy-grpc' && { file: 'envoy-grpc.yaml.template' }),
        variables: {
          GATE_UPSTREAM: `127.0.0.1:${gate.forwardAuthPort}`,
          GATE_PORT: String(gate.forwardAuthPort),
          GATE_PAGES: `127.0.0.1:${gate.port}`,
          GATE_PAGES_PORT: String(gate.port),
          GATE_LUA: 'docker/gate/gate.lua',
        },
      },
    }),
  )
  return { proxy, application, gate, client: await authority.issue() }
}

interface Sent {
  readonly method?: string
  readonly headers?: Record<string, string>
  readonly body?: string
  readonly certificate?: TestCertificate
}

async function send({ proxy }: Setup, path: string, { body, certificate, ...sent }: Sent) {
  const { hostname, port } = new URL(proxy.publicOrigin)
  const { cert, key } = certificate ?? {}
  const agent = new Agent({ ca: proxy.ca, ...(cert && key && { cert, key }) })
  const asked = request({ hostname, port, path, agent, ...sent })
  asked.end(body)
  const [answer] = (await once(asked, 'response')) as [IncomingMessage]
  let text = ''
  for await (const chunk of answer) text += chunk
  agent.destroy()
  return { status: answer.statusCode, text, headers: answer.headers }
}

/** Credentials for the origin of a proxy. */
function credentials({ proxy }: Setup, method: string, path: string, scope = 'notes:read') {
  const token = accessToken({ aud: proxy.publicOrigin, scope })
  const htu = proxy.publicOrigin + path.replace(/\?.*/, '')
  return { authorization: `DPoP ${token}`, dpop: dpopProof(token, { htm: method, htu }) }
}

for (const name of kinds) {
  testWith(test, programOf(name))(
    `${name} forwards what the gate has verified, and nothing else`,
    async (t) => {
      const setup = await setUp(name)
      const { application } = setup
      const got = () => application.received.at(-1)

      const headers = credentials(setup, 'GET', '/notes?a=%20b')
      const first = await send(setup, '/notes?a=%20b', { headers })
      t.is(first.status, 200, first.text)
      t.is(got()?.assertion?.identity?.claims.sub, 'alice', got()?.code)
      t.false(got()?.rawHeaders.some((each) => /^(?:authorization|dpop)$/i.test(each)))

      // A stolen token with its proof: used up.
      const before = application.received.length
      t.is((await send(setup, '/notes?a=%20b', { headers })).status, 401)
      const nothing = await send(setup, '/notes', {})
      t.is(nothing.status, 401)
      t.regex(`${nothing.headers['www-authenticate']}`, /DPoP/)
      const wrong = credentials(setup, 'GET', '/other')
      t.is((await send(setup, '/notes', { headers: wrong })).status, 401)
      for (const path of [
        '/public/../admin',
        '/public%2f..%2fadmin',
        '/ADMIN',
        '//admin',
        '/admin',
      ]) {
        const { status } = await send(setup, path, { headers: credentials(setup, 'GET', path) })
        t.true(status !== undefined && status >= 400 && status < 500, `${path}: ${status}`)
      }
      t.is(application.received.length, before)

      // Bodies reach the application, and are not in the assertion.
      const posted = await send(setup, '/notes', {
        method: 'POST',
        headers: { ...credentials(setup, 'POST', '/notes'), 'content-type': 'text/plain' },
        body: 'hello',
      })
      t.is(posted.status, 200, posted.text)
      t.is(got()?.body.toString(), 'hello')
      t.is(got()?.assertion?.bodySigned, false, got()?.code)

      // What a client forges is not there.
      const forged = {
        ...{
          'holdfast-identity': 'forged',
          signature: 'gate=:forged:',
          'content-digest': 'forged',
        },
        ...{ 'signature-input': 'forged', forwarded: 'for=forged', holdfast_identity: 'forged' },
        ...{ 'x-original-uri': '/public/forged', 'x-original-method': 'forged' },
      }
      const mine = { ...credentials(setup, 'GET', '/mine'), ...forged }
      t.is((await send(setup, '/mine', { headers: mine })).status, 200)
      t.is(got()?.assertion?.identity?.claims.sub, 'alice', got()?.code)
      const isTheirs = /^(?:holdfast.identity|signature|signature-input|content-digest|forwarded)$/i
      const theirs = got()?.rawHeaders.filter((_, at, all) => isTheirs.test(all[at - 1] ?? ''))
      t.false(theirs?.join().includes('forged'))
      t.is((await send(setup, '/public/x', { headers: forged })).status, 200)
      t.is(got()?.assertion?.identity, undefined)

      // A token that is bound to a certificate, on a connection with it and on one without.
      const { client: certificate } = setup
      const thumbprint = hash('sha256', new X509Certificate(certificate.cert).raw, 'base64url')
      const bound = accessToken({ aud: setup.proxy.publicOrigin, cnf: { 'x5t#S256': thumbprint } })
      const bearer = { authorization: `Bearer ${bound}` }
      t.is((await send(setup, '/bound', { headers: bearer, certificate })).status, 200)
      t.deepEqual(got()?.assertion?.identity?.methods, ['mtls'])
      t.is((await send(setup, '/bound', { headers: bearer })).status, 401)

      // No gate, no request.
      await setup.gate[Symbol.asyncDispose]()
      const last = await send(setup, '/notes', { headers: credentials(setup, 'GET', '/notes') })
      t.true(last.status !== undefined && last.status >= 500, `${last.status}`)
      t.is(got()?.url, '/bound')
    },
  )
}

for (const name of ['haproxy', 'caddy', 'traefik'] as const) {
  testWith(test, name)(`${name} joins a WebSocket that the gate has admitted`, async (t) => {
    const setup = await setUp(name)
    const { application, proxy } = setup
    await using sockets = new AsyncDisposableStack()
    const server = sockets.adopt(new WebSocketServer({ noServer: true }), (each) => each.close())
    application.server.on('upgrade', (request, socket, head) =>
      server.handleUpgrade(request, socket, head, (client) => client.send(request.url ?? '')),
    )
    const url = `${proxy.publicOrigin.replace('https', 'wss')}/socket`
    const headers = credentials(setup, 'GET', '/socket')
    const client = sockets.adopt(new WebSocket(url, { ca: proxy.ca, headers }), (each) =>
      each.terminate(),
    )
    const [message] = await once(client, 'message')
    t.is(String(message), '/socket')

    const again = new WebSocket(url, { ca: proxy.ca, headers })
    const [error] = await once(again, 'error')
    t.regex(error.message, /401/)
  })
}

/** What became of an attack. */
interface Fates {
  /** The gate refused it. */
  readonly gate: string[]
  /** The proxy answered by itself, or closed the connection. */
  readonly proxy: string[]
  /** The proxy made an ordinary request of it, which is the client's own. */
  readonly harmless: string[]
  /** The attacker got something. */
  readonly won: string[]
}

const forgedText = /forged|evil\.example|203\.0\.113\.66/

/** Of the client itself, for what it may have, and with nothing that it has forged. */
const isOwn = ({ assertion, rawHeaders, url }: Received) =>
  assertion?.identity?.claims.sub === 'alice' &&
  !url.toLowerCase().includes('admin') &&
  // A proxy may leave a broken line in the field that the row has begun, where it is worth nothing.
  !rawHeaders.some((text, at) => forgedText.test(text) && rawHeaders[at - 1] !== 'x-a')

async function attackThrough({ proxy, application, gate }: Setup): Promise<Fates> {
  const { publicOrigin: origin, ca } = proxy
  const { refused, unproven, stripped } = attacksOn(new URL(origin).host)
  const fates: Fates = { gate: [], proxy: [], harmless: [], won: [] }
  const refusals = () => gate.events.filter(({ type }) => /refused$/.test(type)).length
  const rows: Record<string, Attack> = { ...refused, ...unproven, ...stripped }
  for (const [title, row] of Object.entries(rows)) {
    const [before, refusedBefore] = [application.received.length, refusals()]
    await attackOn({ audience: origin, origin, ca, patienceMs: 3000 }, row)
    const got = application.received.slice(before)
    // With credentials that are worth nothing, nothing may come through at all.
    const isWon = got.length > 1 || !got.every(isOwn) || (title in unproven && got.length > 0)
    if (isWon) fates.won.push(title)
    else if (got.length > 0) fates.harmless.push(title)
    else fates[refusals() > refusedBefore ? 'gate' : 'proxy'].push(title)
  }
  return fates
}

for (const name of kinds) {
  testWith(test, programOf(name))(`${name} lets no attack on the gate through`, async (t) => {
    t.timeout(240_000)
    const setup = await setUp(name)
    const fates = await attackThrough(setup)
    t.deepEqual(fates.won, [])
    t.true(fates.gate.length > 40, JSON.stringify(fates))
    t.true(fates.harmless.includes('a forged plain identity'))
    t.log(`the proxy itself answers: ${fates.proxy.join(', ')}`)
  })
}
