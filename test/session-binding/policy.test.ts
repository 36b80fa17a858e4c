import { hash, randomBytes } from 'node:crypto'
import test, { type ExecutionContext } from 'ava'
import { calculateJwkThumbprint, decodeJwt } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import { makeTicket } from '../../packages/verify/lib/ticket.ts'
import type { KeyPair } from '../../src/doctor/proof.ts'
import { sessionRules } from '../../src/engine/client-session-policy.ts'
import { secretsOf } from '../../src/engine/engine-keys.ts'
import { allow, letMomentPass, type SignedIn, signInAt } from '../support/device.ts'
import { newKey, post, refreshing } from '../support/flow.ts'
import { authorizationUrl } from '../support/journey.ts'
import { useTestServer } from '../support/server.ts'
import { trust } from '../support/trust.ts'
import type { UserAgent } from '../support/user-agent.ts'

const server = useTestServer(test, { HOLDFAST_TLS: 'on' })
let key: KeyPair

test.before(async () => {
  await trust(server)
  key = await newKey()
})

const callback = 'https://rp.example/callback'
const verifier = randomBytes(32).toString('base64url')

const addClient = (session_policy: ClientMetadata['session_policy'] = {}) =>
  server.addClient({ application_type: 'web', redirect_uris: [callback], session_policy })

const request = ({ client_id }: ClientMetadata, more: Record<string, string> = {}) => ({
  client_id,
  redirect_uri: callback,
  scope: 'openid offline_access',
  prompt: 'consent',
  code_challenge: hash('sha256', verifier, 'base64url'),
  ...more,
})

/** Signed in with an app, bound or not; what came back to the app. */
async function signedIn(client: ClientMetadata, { bound }: { bound: boolean }) {
  const person = await signInAt(server, request(client))
  if (bound) await person.device.register(person.offer)
  const arrived = await allow(person.consent)
  return { ...person, code: arrived.searchParams.get('code') ?? '' }
}

async function authorize(agent: UserAgent, client: ClientMetadata, more = {}): Promise<string> {
  const { prompt: _, ...parameters } = request(client)
  const url = authorizationUrl(server.issuer, { ...parameters, scope: 'openid', ...more })
  return (await agent.get(url)).location ?? ''
}

async function exchange(client: ClientMetadata, code: string) {
  const { status, body } = await post(
    server,
    '/token',
    {
      grant_type: 'authorization_code',
      client_id: client.client_id,
      code,
      code_verifier: verifier,
      redirect_uri: callback,
    },
    { key },
  )
  if (status !== 200) throw new Error(JSON.stringify(body))
  return body
}

test('the ID token of a bound session names its key and the session', async (t) => {
  const client = await addClient()
  const { device, code } = await signedIn(client, { bound: true })
  const claims = decodeJwt((await exchange(client, code)).id_token)
  t.is(claims.session_binding, 'dbsc')
  t.is(claims.dbsc_session, device.session)
  t.deepEqual(claims.cnf, { jkt: await calculateJwkThumbprint(device.key.publicJwk) })
})

test('the ID token of an unbound session says so, and names no key', async (t) => {
  const client = await addClient()
  const claims = decodeJwt(
    (await exchange(client, (await signedIn(client, { bound: false })).code)).id_token,
  )
  t.is(claims.session_binding, 'none')
  t.false('cnf' in claims || 'dbsc_session' in claims)
})

test('a key that is registered too late is not in the ID token, and is in the next', async (t) => {
  const client = await addClient()
  const { device, offer, code } = await signedIn(client, { bound: false })
  const early = await exchange(client, code)
  t.is(decodeJwt(early.id_token).session_binding, 'none')
  await device.register(offer)
  const { body } = await post(server, '/token', refreshing(client, early.refresh_token), { key })
  t.is(decodeJwt(body.id_token).session_binding, 'dbsc')
  const told = server.logged.filter((line) => line.includes('session_bound_late'))
  t.deepEqual(
    told.map((line) => JSON.parse(line)).map(({ sessionUid, clients }) => [sessionUid, clients]),
    [[device.session, [client.client_id]]],
  )
  const metrics = await (await fetch(`http://${server.operators}/metrics`)).text()
  t.regex(metrics, /^holdfast_session_events_total\{event="session_bound_late"\} 1$/m)
})

test('access tokens say how the session was bound, and that it has ended', async (t) => {
  const client = await addClient()
  const introspect = async (token: string) =>
    (await post(server, '/introspect', { client_id: client.client_id, token })).body
  const { code, device } = await signedIn(client, { bound: true })
  const tokens = await exchange(client, code)
  t.is((await introspect(tokens.access_token)).session_binding, 'dbsc')
  await server.storage.browserSessions.end(device.session)
  const { body } = await post(server, '/token', refreshing(client, tokens.refresh_token), { key })
  t.is((await introspect(body.access_token)).session_binding, 'ended')
})

test('offline access outlives the session, unless the client wants otherwise', async (t) => {
  for (const [ends_tokens, status] of [
    [false, 200],
    [true, 400],
  ] as const) {
    const client = await addClient({ ends_tokens })
    const { code, device } = await signedIn(client, { bound: true })
    const { refresh_token } = await exchange(client, code)
    await server.storage.browserSessions.end(device.session)
    const answer = await post(server, '/token', refreshing(client, refresh_token), { key })
    t.is(answer.status, status)
    if (status === 400) t.is(answer.body.error, 'invalid_grant')
  }
})

const codes = /[?&]code=/
const signIns = /\/interaction\/[^/]+$/
const silentlyRefused = /error=login_required/

async function unboundSession(t: ExecutionContext): Promise<SignedIn['device']> {
  const client = await addClient()
  const { device } = await signedIn(client, { bound: false })
  t.regex(await authorize(device.agent, client), codes)
  return device
}

/** The client's own consent, so that nothing but its policy is in the way. */
async function allowed(device: SignedIn['device'], client: ClientMetadata) {
  const again = await signInAt(server, request(client, { prompt: 'login consent' }), {
    agent: device.agent,
  })
  await allow(again.consent)
}

test('a client may refuse sessions without a key but for fresh sign-ins', async (t) => {
  const device = await unboundSession(t)
  const strict = await addClient({ unbound: { max_age: 0 } })
  await allowed(device, strict)
  t.regex(await authorize(device.agent, strict), signIns)
  t.regex(await authorize(device.agent, strict, { prompt: 'none' }), silentlyRefused)
  const lenient = await addClient({ unbound: { max_age: 3600 } })
  await allowed(device, lenient)
  t.regex(await authorize(device.agent, lenient), codes)
})

test('a client may refuse prompt=none to sessions without a key', async (t) => {
  const device = await unboundSession(t)
  const client = await addClient({ unbound: { prompt_none: false } })
  await allowed(device, client)
  t.regex(await authorize(device.agent, client), codes)
  t.regex(await authorize(device.agent, client, { prompt: 'none' }), silentlyRefused)
})

test('a rule may hold for one authentication context only', async (t) => {
  const device = await unboundSession(t)
  const client = await addClient({ acr: { high: { unbound: { max_age: 0 } } } })
  await allowed(device, client)
  t.regex(await authorize(device.agent, client), codes)
  t.regex(await authorize(device.agent, client, { acr_values: 'low' }), codes)
  t.regex(await authorize(device.agent, client, { acr_values: 'low high' }), signIns)
})

test('rules for unbound sessions do not touch bound ones', async (t) => {
  const client = await addClient({ unbound: { max_age: 0, prompt_none: false } })
  const { device } = await signedIn(client, { bound: true })
  t.regex(await authorize(device.agent, client, { prompt: 'none' }), codes)
})

test('a proof that is too old is asked for once more, before the app gets a code', async (t) => {
  const client = await addClient({ proof_max_age: 10 })
  const { device } = await signedIn(client, { bound: true })
  t.regex(await authorize(device.agent, client), codes)
  await makeProofOlder(device)
  t.regex(await authorize(device.agent, client, { prompt: 'none' }), silentlyRefused)
  const location = await authorize(device.agent, client)
  t.regex(location, /\/interaction\/[^/]+\/proof$/)
  const page = await device.agent.get(location)
  t.regex(page.text, /http-equiv="refresh" content="0; url=\?again=1"/)
  t.regex(page.headers.get('set-cookie') ?? '', /^__Host-holdfast_bound=;.*Max-Age=0/)
  await device.refresh()
  const proven = await device.agent.follow(await device.agent.get(`${location}?again=1`))
  t.regex(proven.location ?? '', codes)
})

test('a browser that cannot prove its key once more gets no code', async (t) => {
  const client = await addClient({ proof_max_age: 10 })
  const { device } = await signedIn(client, { bound: true })
  await makeProofOlder(device)
  const location = await authorize(device.agent, client)
  await device.agent.get(location)
  t.is((await device.agent.get(`${location}?again=1`)).status, 400)
})

test('a companion that a thief keeps is not asked for twice', async (t) => {
  const client = await addClient({ proof_max_age: 10 })
  const { device } = await signedIn(client, { bound: true })
  await makeProofOlder(device)
  const location = await authorize(device.agent, client)
  t.is((await device.agent.get(`${location}?again=1`)).status, 400)
})

test('rejects a policy that it does not know', async (t) => {
  for (const [session_policy, where] of [
    [{ proof_max_age: 9 }, 'session_policy.proof_max_age'],
    [{ unbound: { max_age: -1 } }, 'session_policy.unbound.max_age'],
    [{ unbounded: {} }, 'session_policy'],
    [{ acr: { high: { federation: true } } }, 'session_policy.acr.high'],
  ] as const) {
    const error = await t.throwsAsync(addClient(session_policy as never))
    t.regex(error?.message ?? '', new RegExp(`${where}: `))
  }
})

test('of several rules the strictest holds', (t) => {
  const policy = {
    proof_max_age: 60,
    unbound: { max_age: 100 },
    acr: { high: { proof_max_age: 10, unbound: { prompt_none: false } } },
  }
  t.deepEqual(sessionRules(policy, []), {
    proofMaxAge: 60,
    unboundMaxAge: 100,
    unboundPromptNone: true,
  })
  t.deepEqual(sessionRules(policy, ['other', 'high']), {
    proofMaxAge: 10,
    unboundMaxAge: 100,
    unboundPromptNone: false,
  })
  t.is(sessionRules({}, []).proofMaxAge, Number.POSITIVE_INFINITY)
})

/** A companion that was made by this server half a minute ago. */
async function makeProofOlder(device: SignedIn['device']): Promise<void> {
  await letMomentPass(server.databaseUrl, device.session)
  const cookie = (await device.agent.jar.getCookies(server.issuer)).find(
    ({ key: name }) => name === '__Host-holdfast_bound',
  )
  const [secret] = secretsOf(server.keys.view(), 'session-binding') as [Buffer]
  const value = makeTicket(secret, ['companion', device.session], Date.now() - 30_000)
  await device.agent.jar.setCookie(`${cookie?.key}=${value}; Path=/; Secure`, server.issuer)
}
