// What the gate tells its operator of people, sessions and keys.
import { hash } from 'node:crypto'
import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import test from 'ava'
import { createSealer } from '../../packages/gate/browser/sealing.ts'
import {
  createMemorySessionStore,
  RecentSessions,
  type Session,
} from '../../packages/gate/browser/sessions.ts'
import { createUpstreamTokens, sealSecrets } from '../../packages/gate/browser/upstream-tokens.ts'
import type { GateEvent } from '../../packages/gate/events.ts'
import { startApplication, startGate } from '../support/gate.ts'
import { app, type BrowserGate, startBrowserGate } from '../support/gate-browsers.ts'
import { useTestServer } from '../support/server.ts'
import { accessToken, audience, dpopProof } from '../support/verify/fixtures.ts'

const server = useTestServer(test)
const opened = new AsyncDisposableStack()
test.after.always(() => opened.disposeAsync())

let it: BrowserGate
test.before(async () => {
  it = opened.use(
    await startBrowserGate(server, {
      application: { routes: [{ path: '/staff', groups: ['staff'] }] },
    }),
  )
})

const script = { 'sec-fetch-mode': 'cors', 'sec-fetch-site': 'same-origin' }
const last = (type: GateEvent['type']) => it.gate.events.findLast((each) => each.type === type)

test.serial('names the person, the session and its key in what happens to a session', async (t) => {
  const browser = it.newBrowser()
  await browser.signIn()
  const cookie = (await browser.cookie('__Host-gate')) ?? ''
  const session = hash('sha256', cookie.split('.')[0] ?? '', 'base64url')
  const signedIn = last('signed_in')
  t.like(signedIn, { application: app, session, renewed: false })
  const { sub, requestId } = signedIn as { sub?: string; requestId?: string }
  t.truthy(sub)
  t.regex(`${requestId}`, /^[\da-f-]{36}$/)

  await browser.register()
  const { jkt } = last('session_bound') as { jkt?: string }
  t.like(last('session_bound'), { application: app, session })
  t.regex(`${jkt}`, /^[\w-]{43}$/)

  t.is((await browser.send('/staff/a?secret=1', { headers: script })).status, 403)
  const about = { application: app, sub, session, jkt }
  t.like(last('policy_refused'), { ...about, route: '/staff', code: 'groups' })
  const init = { method: 'POST', headers: { ...script, 'sec-fetch-site': 'cross-site' } }
  t.is((await browser.send('/a', init)).status, 403)
  t.like(last('policy_refused'), { ...about, route: '/', code: 'cross_origin' })

  const form = { ...script, 'content-type': 'application/x-www-form-urlencoded' }
  await browser.send('/.gate/sign-out', { method: 'POST', headers: form, body: '' })
  t.like(last('session_ended'), { ...about, reason: 'signed_out' })

  const said = JSON.stringify(it.gate.events)
  for (const name of ['secret=1', cookie, cookie.split('.')[0] ?? '']) t.false(said.includes(name))
})

test.serial('says why nobody was signed in', async (t) => {
  const answer = await it.newBrowser().send('/.gate/callback?state=0-none&code=secret-code')
  t.is(answer.status, 400)
  t.like(last('sign_in_failed'), { application: app, code: 'unknown_sign_in' })
  t.false(JSON.stringify(it.gate.events).includes('secret-code'))
})

test('names the subject and the key of a token that its route refuses', async (t) => {
  const application = opened.use(await startApplication())
  const routes = [{ path: '/admin', scopes: ['admin'] }]
  const gate = opened.use(
    await startGate({
      applications: [{ origin: audience, upstream: { url: application.url }, routes }],
    }),
  )
  const token = accessToken()
  const proof = dpopProof(token, { htm: 'GET', htu: `${audience}/admin/x` })
  const ask = async () => {
    const headers = { host: 'api.example', authorization: `DPoP ${token}`, dpop: proof }
    const target = { port: gate.port, host: '127.0.0.1', path: '/admin/x', agent: false }
    const sent = httpRequest({ ...target, headers })
    sent.end()
    const [answer] = (await once(sent, 'response')) as [IncomingMessage]
    answer.resume()
    return answer.statusCode
  }
  t.is(await ask(), 403)
  const about = { application: audience, route: '/admin', sub: 'alice' }
  const refused = gate.events.find(({ type }) => type === 'policy_refused')
  t.like(refused, { ...about, code: 'insufficient_scope' })
  t.regex(`${(refused as { jkt?: string }).jkt}`, /^[\w-]{43}$/)
  // A proof that was used before.
  t.is(await ask(), 401)
  t.like(gate.events.at(-1), { type: 'refused', application: audience, code: 'dpop_replayed' })
})

for (const [title, cause, reason] of [
  ['refuses', Object.assign(new Error('no'), { error: 'invalid_grant' }), 'invalid_grant'],
  ['does not answer', new TypeError('fetch failed'), 'unavailable'],
] as const) {
  test(`reports a refresh that the provider ${title}`, async (t) => {
    const events: GateEvent[] = []
    const sealer = createSealer([Buffer.alloc(32, 1)])
    const store = createMemorySessionStore({ capacity: 10 })
    const tokens = {
      ...{ idToken: 'i', accessToken: 'a', isBound: true, refreshToken: 'secret-token' },
      ...{ accessEndsAtMs: 0, accessLifeMs: 1000 },
    }
    const key = { x: 'x', y: 'y', d: 'd' }
    const session: Session = {
      ...{ id: 's', application: app, issuer: 'https://as.example', subject: 'alice', claims: {} },
      ...{ startedAtMs: 0, endsAtMs: 1e12, idleEndsAtMs: 1e12, renewAtMs: 0, askedAcr: [] },
      ...{ sealed: sealSecrets(sealer, 's', { key, tokens }, 1e12), version: 1 },
    }
    await store.insert(session, 1, 1)
    const upstream = createUpstreamTokens({
      ...{ origin: app, store, sealer, now: () => 1, wait: async () => {} },
      recent: new RecentSessions({ staleMs: 1, limit: 1 }),
      provider: { refresh: () => Promise.reject(cause) },
      report: (event) => events.push(event),
    })
    await t.throwsAsync(upstream.secretsOf(session))
    t.like(events, [
      { type: 'token_refresh_failed', application: app, sub: 'alice', session: 's', reason },
    ])
    t.false(JSON.stringify(events).includes('secret-token'))
  })
}
