import { hash, randomBytes } from 'node:crypto'
import test from 'ava'
import { decodeJwt } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import {
  acrOf,
  boundSessionAcr as bound,
  knownAcrs,
  pageKeySessionAcr,
  passkeyAcr,
  passkeyAndSessionAcr,
  passwordAcr,
  passwordAndCodeAcr,
  passwordAndKeyAcr,
  signInMethods,
} from '../../src/accounts/acr.ts'
import {
  type Authenticator,
  addPasskey,
  createAuthenticator,
  passkeyOptions,
} from '../support/authenticator.ts'
import {
  allow,
  createDevice,
  holdMoment,
  letMomentPass,
  type SignedIn,
  signInAt,
} from '../support/device.ts'
import { newKey, post } from '../support/flow.ts'
import { authorizationUrl, begin, interact, signIn } from '../support/journey.ts'
import { query } from '../support/query.ts'
import { email, password, useTestServer } from '../support/server.ts'
import { trust } from '../support/trust.ts'
import type { UserAgent } from '../support/user-agent.ts'

const server = useTestServer(test, {
  HOLDFAST_TLS: 'on',
  HOLDFAST_GROUP_SIGN_IN: 'on-call = bound-session, vault = passkey-and-bound-session',
})
let client: ClientMetadata
let strict: ClientMetadata

test.before(async () => {
  await trust(server)
  client = await addClient()
  strict = await addClient({ acr: { [bound]: { proof_max_age: 10 } } })
})

const callback = 'https://rp.example/callback'
const verifier = randomBytes(32).toString('base64url')

const addClient = (session_policy: ClientMetadata['session_policy'] = {}) =>
  server.addClient({ application_type: 'web', redirect_uris: [callback], session_policy })

const request = (more: Record<string, string> = {}, { client_id } = client) => ({
  client_id,
  redirect_uri: callback,
  scope: 'openid',
  code_challenge: hash('sha256', verifier, 'base64url'),
  ...more,
})

const claims = (acr: unknown) => ({ claims: JSON.stringify({ id_token: { acr } }) })
const must = claims({ essential: true, value: bound })

async function signedIn({ bound }: { bound: boolean }): Promise<SignedIn['device']> {
  const person = await signInAt(server, request())
  if (bound) await person.device.register(person.offer)
  await allow(person.consent)
  return person.device
}

async function authorize(agent: UserAgent, more: Record<string, string> = {}, by = client) {
  return (await agent.get(authorizationUrl(server.issuer, request(more, by)))).location ?? ''
}

async function idToken(location: string) {
  const { body } = await post(
    server,
    '/token',
    {
      grant_type: 'authorization_code',
      client_id: client.client_id,
      code: new URL(location).searchParams.get('code') ?? '',
      code_verifier: verifier,
      redirect_uri: callback,
    },
    { key: await newKey() },
  )
  return decodeJwt(body.id_token)
}

const errorOf = (location: string) => new URL(location).searchParams.get('error')
const signInPage = /\/interaction\/[^/]+$/
const proofPage = /\/interaction\/[^/]+\/proof$/

/** Up to the response that offers registration, and sends the browser on. */
async function typePassword(agent?: UserAgent) {
  const login = await begin({ origin: server.issuer }, request(must), agent)
  const { location = '' } = await signIn(login, { password })
  const offer = await login.agent.get(location)
  return { agent: login.agent, offer, proof: offer.location ?? '' }
}

test('the metadata names the acr, and the parameter by which it can be a must', async (t) => {
  const answer = await fetch(`${server.issuer}/.well-known/openid-configuration`)
  t.like(await answer.json(), {
    acr_values_supported: [...knownAcrs],
    claims_parameter_supported: true,
  })
})

test('sets the acr in the ID token of a bound session on request', async (t) => {
  const { agent } = await signedIn({ bound: true })
  for (const asked of [{ acr_values: `other ${bound}` }, claims(null), must]) {
    t.is((await idToken(await authorize(agent, asked))).acr, bound)
  }
})

test('returns the acr of the session where another one is only a wish', async (t) => {
  const { agent } = await signedIn({ bound: false })
  t.false('acr' in (await idToken(await authorize(agent))))
  for (const asked of [{ acr_values: `other ${bound}` }, claims({ value: bound })]) {
    const token = await idToken(await authorize(agent, asked))
    t.is(token.acr, passwordAcr)
    // No password and no session says anything of hardware.
    t.false('amr' in token)
  }
})

test('returns the acr that was asked for where the session meets several', async (t) => {
  const { agent } = await signedIn({ bound: true })
  const password = claims({ essential: true, value: passwordAcr })
  t.is((await idToken(await authorize(agent, password))).acr, passwordAcr)
  const either = { acr_values: `${passwordAcr} ${bound}` }
  t.is((await idToken(await authorize(agent, either))).acr, passwordAcr)
})

test('returns amr on request', async (t) => {
  const { agent } = await signedIn({ bound: false })
  const asked = { claims: JSON.stringify({ id_token: { amr: null } }) }
  t.deepEqual((await idToken(await authorize(agent, asked))).amr, ['pwd'])
})

test('an essential acr that the session does not meet leads to a sign-in', async (t) => {
  const asked = claims({ essential: true, value: passkeyAcr })
  const { agent } = await signedIn({ bound: false })
  t.is(errorOf(await authorize(agent, { ...asked, prompt: 'none' })), 'login_required')
  t.regex(await authorize(agent, asked), signInPage)
})

test('a passkey sign-in registers the key of the session in the same response', async (t) => {
  const { agent } = await signedIn({ bound: false })
  const authenticator = createAuthenticator(server.issuer)
  t.is((await addPasskey(server.issuer, agent, authenticator)).status, 303)
  const asked = claims({ essential: true, value: passkeyAndSessionAcr })
  const login = await begin({ origin: server.issuer }, request(asked))
  const typed = await signIn(login, { password })
  t.is(typed.status, 401, 'a password never meets it')
  const credential = authenticator.get(passkeyOptions(login.page.text))
  const { token, url } = login
  const posted = await login.agent.post(`${url}/passkey`, { token, credential })
  const offer = await login.agent.get(posted.location ?? '')
  t.truthy(offer.headers.get('secure-session-registration'))
  t.regex(offer.location ?? '', proofPage, 'no code before the key is there')
  const waiting = login.agent.get(offer.location ?? '')
  t.is((await createDevice(server, login.agent).register(offer)).status, 200)
  await waiting
  const { location = '' } = await login.agent.get(`${offer.location}?again=1`)
  const arrived = await allow(await interact(login.agent, await login.agent.get(location)))
  t.is((await idToken(arrived.href)).acr, passkeyAndSessionAcr)
  const page = (await login.agent.get(`${server.issuer}/security/sessions`)).text
  t.regex(page, /Signed in with a passkey/)
  t.regex(page, /Locked to a key of its browser/)
  // The bound session alone is not enough for the next request, and neither is the passkey.
  const unbound = await authorize(agent, { ...asked, prompt: 'none' })
  t.is(errorOf(unbound), 'login_required')
})

/** A browser in which someone has signed in by a password, before they joined a group. */
async function joined(group: string, { bound }: { bound: boolean }) {
  const id = randomBytes(6).toString('hex')
  const as = { email: `${id}@example.com`, password }
  await query(
    server.databaseUrl,
    `insert into accounts (id, email, password_hash)
     select $1, $2, password_hash from accounts where email = $3`,
    [id, as.email, email],
  )
  const { device, offer, consent } = await signInAt(server, request(), { as })
  if (bound) await device.register(offer)
  await allow(consent)
  const authenticator = createAuthenticator(server.issuer)
  await addPasskey(server.issuer, device.agent, authenticator)
  await server.storage.accounts.change(id, { groups: [group] })
  return { device, as, authenticator }
}

/** From the page that waits for a key, in a browser that has registered one, to the `acr` of a code. */
async function acrAfter(agent: UserAgent, proof: string) {
  const first = await agent.get(proof)
  const { location = '' } = first.location ? first : await agent.get(`${proof}?again=1`)
  return acrOfCode((await allow(await interact(agent, await agent.get(location)))).href)
}

async function acrOfCode(location: string) {
  const code = new URL(location).searchParams.get('code') ?? ''
  return (await server.provider.AuthorizationCode.find(code))?.acr
}

/** Up to the response to a sign-in by a passkey. */
async function showPasskey(authenticator: Authenticator, agent?: UserAgent) {
  const login = await begin({ origin: server.issuer }, request(), agent)
  const credential = authenticator.get(passkeyOptions(login.page.text))
  const { token, url } = login
  const posted = await login.agent.post(`${url}/passkey`, { token, credential })
  return { agent: login.agent, offer: await login.agent.get(posted.location ?? '') }
}

test('a group may demand a bound session: others lead to one, or to an error', async (t) => {
  const { device, as } = await joined('on-call', { bound: false })
  const earlier = device.agent
  t.is(errorOf(await authorize(earlier, { prompt: 'none' })), 'login_required')
  t.regex(await authorize(earlier), signInPage)

  const typeIt = async () => {
    const login = await begin({ origin: server.issuer }, request())
    const posted = await signIn(login, as)
    const offer = await login.agent.get(posted.location ?? '')
    t.regex(offer.location ?? '', proofPage, 'no code before the key is there')
    return { agent: login.agent, offer, proof: offer.location ?? '' }
  }
  const unable = await typeIt()
  const sentBack = unable.agent.get(unable.proof)
  const able = await typeIt()
  const binding = createDevice(server, able.agent)
  await binding.register(able.offer)
  t.is(await acrAfter(able.agent, able.proof), bound)
  t.regex(await authorize(able.agent, { prompt: 'none' }), /[?&]code=/)
  await letMomentPass(server.databaseUrl, binding.session)
  const copy = able.agent.copy((cookie) => !cookie.startsWith('__Host-holdfast_bound'))
  t.is(errorOf(await authorize(copy, { prompt: 'none' })), 'login_required')

  const { location = '' } = await unable.agent.follow(await sentBack)
  t.is(errorOf(location), 'unmet_authentication_requirements')
})

test('a group may demand a passkey and a bound session: step-up leads to what is missing', async (t) => {
  const { device, as, authenticator } = await joined('vault', { bound: true })
  const { agent } = device
  t.is(errorOf(await authorize(agent, { prompt: 'none' })), 'login_required')
  t.regex(await authorize(agent), signInPage, 'a passkey is missing')
  const login = await begin({ origin: server.issuer }, request(), agent)
  t.is((await signIn(login, as)).status, 401, 'a password never meets it')
  const stepped = await showPasskey(authenticator, agent)
  t.regex(stepped.offer.location ?? '', /[?&]code=/, 'the key is there already')
  t.is(await acrOfCode(stepped.offer.location ?? ''), passkeyAndSessionAcr)

  const elsewhere = await showPasskey(authenticator)
  t.regex(elsewhere.offer.location ?? '', proofPage, 'a key is missing')
  await createDevice(server, elsewhere.agent).register(elsewhere.offer)
  t.is(await acrAfter(elsewhere.agent, elsewhere.offer.location ?? ''), passkeyAndSessionAcr)
})

test('each step of the ladder includes those below it', (t) => {
  const of = (amr: readonly string[], isBound = false, hasPageKey = false) =>
    knownAcrs.filter((acr) => acrOf({ amr, isBound, hasPageKey }, [acr]) === acr)
  const { passkey, passwordAndKey, passwordAndCode, password: typed } = signInMethods
  t.deepEqual(of(passkey), [passkeyAcr, passwordAndKeyAcr, passwordAndCodeAcr, passwordAcr])
  t.deepEqual(of(passwordAndKey), [passwordAndKeyAcr, passwordAndCodeAcr, passwordAcr])
  t.deepEqual(of(passwordAndCode), [passwordAndCodeAcr, passwordAcr])
  t.deepEqual(of(typed, true), [bound, pageKeySessionAcr, passwordAcr])
  t.deepEqual(of(typed, false, true), [pageKeySessionAcr, passwordAcr])
  t.false(of(passkey, false, true).includes(passkeyAndSessionAcr))
  t.deepEqual(of(passkey, true), [...knownAcrs])
  t.deepEqual(of(['pop']), [])
  t.is(acrOf({ amr: [], isBound: false }, [bound]), undefined)
})

test('an acr that is a must leads from an unbound session to a sign-in', async (t) => {
  const { agent } = await signedIn({ bound: false })
  t.regex(await authorize(agent, must), signInPage)
  t.is(errorOf(await authorize(agent, { ...must, prompt: 'none' })), 'login_required')
})

test('after that sign-in the browser is waited for, and no app learns of it', async (t) => {
  const { agent, offer, proof } = await typePassword()
  t.regex(proof, proofPage)
  const waiting = agent.get(proof)
  await createDevice(server, agent).register(offer)
  const page = await waiting
  t.regex(page.text, /http-equiv="refresh" content="0; url=\?again=1"/)
  t.false((page.headers.get('set-cookie') ?? '').includes('__Host-holdfast_bound'))
  const { location = '' } = await agent.get(`${proof}?again=1`)
  const arrived = await allow(await interact(agent, await agent.get(location)))
  t.is((await idToken(arrived.href)).acr, bound)
})

test('the same in a session that was unbound until then', async (t) => {
  const { agent: old } = await signedIn({ bound: false })
  const { agent, offer, proof } = await typePassword(old)
  await createDevice(server, agent).register(offer)
  const resumed = await agent.follow(await agent.get(proof))
  t.is((await idToken(resumed.location ?? '')).acr, bound)
})

test('a browser that binds nothing is sent back with an error, and is still signed in', async (t) => {
  const { agent, proof } = await typePassword()
  const { location = '' } = await agent.follow(await agent.get(proof))
  t.true(location.startsWith(callback))
  t.is(errorOf(location), 'unmet_authentication_requirements')
  t.regex(await authorize(agent, { prompt: 'none' }), /error=consent_required/)
})

test('an acr that nobody knows is an error at once, and never a second sign-in', async (t) => {
  for (const agent of [(await signedIn({ bound: true })).agent]) {
    for (const acr of [
      { essential: true, value: 'urn:unheard-of' },
      { essential: true, values: ['a', 'b'] },
    ]) {
      t.is(errorOf(await authorize(agent, claims(acr))), 'unmet_authentication_requirements')
    }
  }
})

test('of several essential acrs one is enough', async (t) => {
  const { agent } = await signedIn({ bound: true })
  const either = claims({ essential: true, values: ['urn:unheard-of', bound] })
  t.is((await idToken(await authorize(agent, either))).acr, bound)
})

for (const [title, acr] of [
  ['a number', { essential: true, value: 7 }],
  ['values that are not a list', { essential: true, values: 'abc' }],
  ['a list of numbers', { values: [7] }],
] as const) {
  test(`rejects an acr that is ${title}`, async (t) => {
    const { agent } = await signedIn({ bound: true })
    t.is(errorOf(await authorize(agent, claims(acr))), 'invalid_request')
  })
}

test('the moment of a registration is no proof', async (t) => {
  const { agent, session } = await signedIn({ bound: true })
  await holdMoment(server.databaseUrl, session)
  const without = () => agent.copy((cookie) => !cookie.startsWith('__Host-holdfast_bound'))
  t.regex(await authorize(without()), /[?&]code=/)
  const late = without()
  const page = await late.get(await authorize(late, must))
  t.regex(page.text, /http-equiv="refresh" content="0; url=\?again=1"/)
  t.is((await idToken(await authorize(without(), { acr_values: bound }))).acr, passwordAcr)
  const allowed = await signInAt(server, request({ prompt: 'login consent' }, strict), { agent })
  await allow(allowed.consent)
  t.regex(await authorize(without(), { acr_values: bound }, strict), proofPage)
})

test('a client may ask for a fresh proof where the acr is asked for', async (t) => {
  const { agent, session } = await signedIn({ bound: true })
  await letMomentPass(server.databaseUrl, session)
  const allowed = await signInAt(server, request({ prompt: 'login consent' }, strict), { agent })
  await allow(allowed.consent)
  t.regex(await authorize(agent, { acr_values: bound }, strict), /[?&]code=/)
})
