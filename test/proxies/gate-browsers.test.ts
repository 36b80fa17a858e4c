// Browsers behind real proxies that ask the gate, with the configurations that ship.

import test from 'ava'
import { freePort } from '../../src/net/free-port.ts'
import { createAuthority } from '../support/certificates.ts'
import type { TestApplication, TestGate } from '../support/gate.ts'
import { app, type BrowserGate, startBrowserGate } from '../support/gate-browsers.ts'
import { formatOf, type ProxyName, startProxy, testWith } from '../support/proxies.ts'
import { useTestServer } from '../support/server.ts'

const kinds = ['nginx', 'haproxy', 'envoy', 'envoy-grpc', 'caddy', 'traefik'] as const
type Kind = (typeof kinds)[number]
const programOf = (kind: Kind): ProxyName => (kind === 'envoy-grpc' ? 'envoy' : kind)

const server = useTestServer(test)
const opened = new AsyncDisposableStack()
test.after.always(() => opened.disposeAsync())

const page = { 'sec-fetch-mode': 'navigate', 'sec-fetch-site': 'same-origin', accept: 'text/html' }
const script = { 'sec-fetch-mode': 'cors', 'sec-fetch-site': 'same-origin' }
const form = { 'content-type': 'application/x-www-form-urlencoded' }

async function setUp(kind: Kind): Promise<BrowserGate> {
  const name = programOf(kind)
  const startIn = async (gate: TestGate, application: TestApplication) => {
    const port = await freePort()
    const proxy = opened.use(
      await startProxy(name, {
        upstream: Number(new URL(application.url).port),
        authority: await createAuthority(),
        names: [new URL(app).hostname],
        ports: { public: port, mtls: port },
        templates: {
          folder: 'docker/gate',
          ...(kind === 'envoy-grpc' && { file: 'envoy-grpc.yaml.template' }),
          variables: {
            PUBLIC_NAME: new URL(app).hostname,
            GATE_UPSTREAM: `127.0.0.1:${gate.forwardAuthPort}`,
            GATE_PORT: String(gate.forwardAuthPort),
            GATE_PAGES: `127.0.0.1:${gate.port}`,
            GATE_PAGES_PORT: String(gate.port),
            GATE_LUA: 'docker/gate/gate.lua',
          },
        },
      }),
    )
    return { port, ca: proxy.ca }
  }
  return opened.use(
    await startBrowserGate(server, {
      application: { routes: [{ path: '/held', bound: true }] },
      config: {
        trustedProxies: ['127.0.0.1'],
        forwarded: { certificate: formatOf[name] },
        forwardAuth: { proxy: kind, port: 0 },
      },
      proxy: startIn,
    }),
  )
}

for (const kind of kinds) {
  testWith(test, programOf(kind))(
    `${kind}: a browser signs in, proves its key and signs out`,
    async (t) => {
      t.timeout(60_000)
      const it = await setUp(kind)
      const { received } = it.application
      const last = () => received.at(-1)
      const cookieOf = () =>
        last()?.rawHeaders.find((_, at, all) => all[at - 1]?.toLowerCase() === 'cookie')
      const browser = it.newBrowser()

      // Without a session: a script gets a link, and a page leads to the sign-in.
      const refused = await browser.send('/data', { headers: script })
      t.is(refused.status, 401)
      t.like(await refused.json(), { error: 'login_required', sign_in: `${app}/.gate/sign-in` })
      const led = await browser.send('/notes?a=1', { headers: page })
      t.is(led.status, 303)
      t.is(led.headers.get('location'), '/.gate/sign-in?return=%2Fnotes%3Fa%3D1')
      t.deepEqual(received, [])

      // The application gets no cookie of the gate, and all others.
      await browser.signIn('/first')
      t.is(last()?.url, '/first')
      t.is(cookieOf() ?? '', '')
      await browser.jar.setCookie('theme=dark; Secure; Path=/', app)
      await browser.send('/notes?a=1', { headers: page })
      t.is(last()?.url, '/notes?a=1')
      t.is(typeof last()?.assertion?.identity?.claims.sub, 'string', last()?.code)
      t.is(cookieOf(), 'theme=dark')

      // The key of the browser: registered at the gate, and shown with every request.
      t.is(browser.offers.length, 1)
      t.is((await browser.register()).status, 200)
      t.is((await browser.send('/held', { headers: page })).status, 200)
      t.deepEqual(last()?.assertion?.identity?.methods, ['dbsc'])
      it.advance(5000)
      const thief = browser.copy((cookie) => cookie === '__Host-gate')
      const count = received.length
      t.is((await thief.send('/data', { headers: script })).status, 401)

      // Another site cannot send forms with the session.
      const body = new URLSearchParams({ a: 'b' })
      const foreign = { ...form, 'sec-fetch-mode': 'navigate', 'sec-fetch-site': 'cross-site' }
      const crossed = await browser.send('/notes', { method: 'POST', headers: foreign, body })
      t.is(crossed.status, 403)
      t.is(received.length, count)
      const own = await browser.send('/notes', {
        method: 'POST',
        headers: { ...page, ...form },
        body,
      })
      t.is(own.status, 200)
      t.is(last()?.body.toString(), 'a=b')

      // The gate's own pages never reach the application.
      t.is((await browser.send('/.gate/sign-out', { headers: page })).status, 200)
      const out = await browser.send('/.gate/sign-out', {
        method: 'POST',
        headers: { ...page, ...form },
      })
      t.is(out.status, 303)
      t.is((await browser.send('/data', { headers: script })).status, 401)
      t.false(received.some(({ url }) => url.startsWith('/.')))
    },
  )
}
