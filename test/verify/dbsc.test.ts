import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import express from 'express'
import { calculateJwkThumbprint } from 'jose'
import Koa from 'koa'
import {
  type DbscExpectation,
  type DbscRegistration,
  parseDbscHeader,
  verifyDbscRefresh,
  verifyDbscRegistration,
} from '../../packages/verify/dbsc.ts'
import { expressDbsc } from '../../packages/verify/dbsc-express.ts'
import { koaDbsc } from '../../packages/verify/dbsc-koa.ts'
import {
  createDbscSessions,
  type DbscAnswer,
  type DbscEvent,
  type DbscOptions,
  type DbscSessions,
} from '../../packages/verify/dbsc-sessions.ts'
import { createMemoryReplayStore } from '../../packages/verify/replay.ts'
import { deviceKey, refreshProof, registrationProof } from '../support/verify/dbsc.ts'
import { encode, makeKey, weakExponents } from '../support/verify/keys.ts'
import { refused } from '../support/verify/refused.ts'

const outstanding = ['older challenge', 'challenge']
const expected: DbscExpectation = {
  audience: 'https://op.example/dbsc/refresh',
  acceptChallenge: (challenge) => outstanding.includes(challenge),
}
const authorized = { ...expected, acceptAuthorization: (given?: string) => given === 'ticket' }
const key = { alg: 'ES256', jwk: deviceKey.publicJwk as Record<string, string> }

test('accepts a registration and returns a frozen fact', async (t) => {
  const registration = verifyDbscRegistration(
    registrationProof({ authorization: 'ticket' }),
    authorized,
  )
  t.deepEqual(
    { ...registration },
    {
      jkt: await calculateJwkThumbprint(deviceKey.publicJwk),
      alg: 'ES256',
      jwk: deviceKey.publicJwk as Record<string, string>,
      challenge: 'challenge',
      authorization: 'ticket',
    },
  )
  t.true(Object.isFrozen(registration))
})

test('keeps only what makes a key of the jwk that was registered', (t) => {
  const jwk = { ...deviceKey.publicJwk, kid: 'x', note: 'y'.repeat(100) }
  const registration = verifyDbscRegistration(registrationProof({}, { jwk }), expected)
  t.deepEqual(Object.keys(registration.jwk).sort(), ['crv', 'kty', 'x', 'y'])
})

test('accepts a refresh and returns the challenge that it answers', (t) => {
  t.is(verifyDbscRefresh(refreshProof(), key, expected), 'challenge')
})

test('accepts each of several outstanding challenges', (t) => {
  for (const jti of outstanding) t.is(verifyDbscRefresh(refreshProof({ jti }), key, expected), jti)
})

test('accepts RS256', (t) => {
  const rsa = makeKey('RS256')
  const { alg, jwk } = verifyDbscRegistration(registrationProof({}, {}, rsa), expected)
  t.notThrows(() => verifyDbscRefresh(refreshProof({}, {}, rsa), { alg, jwk }, expected))
})

test('rejects an RSA key whose exponent is weak', async (t) => {
  const rsa = makeKey('RS256')
  for (const e of weakExponents) {
    const jwk = { ...rsa.publicJwk, e: encode(e) }
    await refused(t, 'dbsc_key', () =>
      verifyDbscRegistration(registrationProof({}, { jwk }, rsa), expected),
    )
  }
})

test('accepts the endpoint as aud', (t) => {
  const { audience: aud } = expected
  t.notThrows(() => verifyDbscRefresh(refreshProof({ aud }), key, expected))
})

test('accepts a quoted proof as the specification writes it', (t) => {
  t.notThrows(() => verifyDbscRefresh(`"${refreshProof()}"`, key, expected))
})

type Code = Parameters<typeof refused>[1]

const brokenAlways: [title: string, code: Code, claims: object, header: object][] = [
  ['of typ dpop+jwt', 'dbsc_type', {}, { typ: 'dpop+jwt' }],
  ['without typ', 'dbsc_type', {}, { typ: undefined }],
  ['with alg none', 'dbsc_algorithm', {}, { alg: 'none' }],
  ['with alg HS256', 'dbsc_algorithm', {}, { alg: 'HS256' }],
  ['with another algorithm of the library', 'dbsc_algorithm', {}, { alg: 'ES384' }],
  ['with the algorithm of another key type', 'dbsc_algorithm', {}, { alg: 'RS256' }],
  ['with crit', 'dbsc_malformed', {}, { crit: ['exp'] }],
  ['with an unknown challenge', 'dbsc_challenge', { jti: 'guessed' }, {}],
  ['without jti', 'dbsc_challenge', { jti: undefined }, {}],
  ['with a list of challenges', 'dbsc_challenge', { jti: ['challenge'] }, {}],
  ['for another endpoint', 'dbsc_audience', { aud: 'https://evil.example/dbsc/refresh' }, {}],
  ['with a list of audiences', 'dbsc_audience', { aud: [expected.audience] }, {}],
]

for (const [title, code, claims, header] of brokenAlways) {
  test(`rejects a registration ${title}`, async (t) => {
    const proof = registrationProof({ ...claims }, { ...header })
    await refused(t, code, () => verifyDbscRegistration(proof, expected))
  })
  test(`rejects a refresh ${title}`, async (t) => {
    const proof = refreshProof({ ...claims }, { ...header })
    await refused(t, code, () => verifyDbscRefresh(proof, key, expected))
  })
}

const brokenRegistrations: [title: string, code: Code, proof: () => string][] = [
  [
    'by an algorithm of others',
    'dbsc_algorithm',
    () => registrationProof({}, {}, makeKey('ES384')),
  ],
  ['without a key', 'dbsc_key', () => registrationProof({}, { jwk: undefined })],
  ['with a private key', 'dbsc_key', () => registrationProof({}, { jwk: deviceKey.privateJwk })],
  [
    'with a point off its curve',
    'dbsc_key',
    () => registrationProof({}, { jwk: { ...deviceKey.publicJwk, y: deviceKey.publicJwk.x } }),
  ],
  [
    'signed by another key than it shows',
    'dbsc_signature',
    () => registrationProof({}, { jwk: makeKey().publicJwk }),
  ],
]

for (const [title, code, proof] of brokenRegistrations) {
  test(`rejects a registration ${title}`, async (t) => {
    await refused(t, code, () => verifyDbscRegistration(proof(), expected))
  })
}

for (const authorization of [undefined, 'another', 7]) {
  test(`rejects a registration with the authorization ${authorization}`, async (t) => {
    const proof = registrationProof({ authorization })
    await refused(t, 'dbsc_authorization', () => verifyDbscRegistration(proof, authorized))
  })
}

for (const authorization of ['ticket', 7]) {
  test(`rejects the authorization ${authorization} that nobody offered`, async (t) => {
    const proof = registrationProof({ authorization })
    await refused(t, 'dbsc_authorization', () => verifyDbscRegistration(proof, expected))
  })
}

test('rejects a refresh by another key', async (t) => {
  const proof = refreshProof({}, {}, makeKey())
  await refused(t, 'dbsc_signature', () => verifyDbscRefresh(proof, key, expected))
})

test('rejects a refresh that brings a key', async (t) => {
  await refused(t, 'dbsc_key', () => verifyDbscRefresh(registrationProof(), key, expected))
})

test('rejects a refresh by a good algorithm that is not that of the session', async (t) => {
  const proof = refreshProof({}, {}, makeKey('RS256'))
  await refused(t, 'dbsc_algorithm', () => verifyDbscRefresh(proof, key, expected))
})

test('rejects a missing proof', async (t) => {
  await refused(t, 'dbsc_missing', () => verifyDbscRefresh(undefined, key, expected))
  await refused(t, 'dbsc_missing', () => verifyDbscRefresh('', key, expected))
})

test('rejects an overlong proof', async (t) => {
  const proof = refreshProof({ pad: 'x'.repeat(8192) })
  await refused(t, 'dbsc_too_large', () => verifyDbscRefresh(proof, key, expected))
})

for (const [title, change] of [
  ['no JWT', () => 'proof'],
  ['two of them', (proof) => `${proof}, ${proof}`],
  ['one quote short', (proof) => `"${proof}`],
  ['not JSON', (proof) => proof.replace(/\.[^.]+\./, '.AAAA.')],
] as [string, (proof: string) => string][]) {
  test(`rejects a proof that is ${title}`, async (t) => {
    await refused(t, 'dbsc_malformed', () =>
      verifyDbscRefresh(change(refreshProof()), key, expected),
    )
  })
}

test('reads header fields quoted and bare', (t) => {
  t.is(parseDbscHeader('abc'), 'abc')
  t.is(parseDbscHeader(' "abc" '), 'abc')
  t.is(parseDbscHeader('"a\\"b\\\\c";x=1'), 'a"b\\c')
  for (const bad of [undefined, '', '""', '"a', 'a, b', '"a", "b"', '"a\\n"', 'a b', '"ä"']) {
    t.is(parseDbscHeader(bad), undefined, bad)
  }
})

const origin = 'https://op.example'

/** A site with one session, `s1`, and a clock that a test moves. */
function makeSite(options: Partial<DbscOptions> = {}) {
  const keys = new Map<string, DbscRegistration>()
  const events: DbscEvent[] = []
  const clock = { now: 1_800_000_000_000 }
  const dbsc = createDbscSessions({
    origin,
    secret: Buffer.alloc(32, 7),
    bindings: {
      async insert(session, registration) {
        if (keys.has(session)) return false
        keys.set(session, registration)
        return true
      },
      find: async (session) => keys.get(session),
    },
    replays: createMemoryReplayStore({ capacity: 100 }),
    onEvent: (event) => void events.push(event),
    now: () => clock.now,
    ...options,
  })
  const send = async (
    path: string,
    headers: Record<string, string>,
    session: string | undefined = 's1',
  ): Promise<DbscAnswer> => {
    const answer = await dbsc.handle({
      method: 'POST',
      path,
      header: (name) => headers[name],
      session: () => session,
    })
    if (!answer) throw new Error(`nobody answers ${path}`)
    return answer
  }
  return {
    dbsc,
    keys,
    events,
    clock,
    register: (proof: string, session?: string) =>
      send('/dbsc/registration', { 'secure-session-response': proof }, session),
    refresh: (proof: string | undefined, id = 's1', session?: string) =>
      send(
        '/dbsc/refresh',
        { 'sec-secure-session-id': id, ...(proof && { 'secure-session-response': proof }) },
        session,
      ),
  }
}

type Site = ReturnType<typeof makeSite>

/** What a header of ours offers a browser. */
function offered(header: string) {
  const parameter = (name: string) => new RegExp(`;${name}="([^"]+)"`).exec(header)?.[1] ?? ''
  return { jti: parameter('challenge'), authorization: parameter('authorization') }
}

const nextChallenge = ({ headers }: DbscAnswer) => ({
  jti: /^"([^"]+)";id="s1"$/.exec(headers['Secure-Session-Challenge'] ?? '')?.[1] ?? '',
})

async function bound(t: ExecutionContext, site: Site): Promise<DbscAnswer> {
  const answer = await site.register(registrationProof(offered(site.dbsc.offer('s1'))))
  t.is(answer.status, 200)
  return answer
}

test('names the hosts that may have the browser refresh, where there are any', async (t) => {
  const allowedRefreshInitiators = ['app.example', '*.partner.example']
  const answer = await bound(t, makeSite({ allowedRefreshInitiators }))
  t.deepEqual(
    (answer.body as { allowed_refresh_initiators?: unknown }).allowed_refresh_initiators,
    allowedRefreshInitiators,
  )
})

const boundCookieOf = ({ headers }: DbscAnswer) => (headers['Set-Cookie'] ?? '').split(';')[0]

test('registers a key, and sets the bound cookie and the rules of refreshes', async (t) => {
  const site = makeSite({ excludedPaths: ['/token'] })
  const answer = await bound(t, site)
  t.deepEqual(answer.body, {
    session_identifier: 's1',
    refresh_url: '/dbsc/refresh',
    scope: {
      origin,
      include_site: false,
      scope_specification: [
        '/dbsc/registration',
        '/.well-known/device-bound-sessions',
        '/token',
      ].map((path) => ({ type: 'exclude', domain: 'op.example', path })),
    },
    credentials: [
      {
        type: 'cookie',
        name: '__Host-bound',
        attributes: 'Path=/; Secure; HttpOnly; SameSite=Lax',
      },
    ],
  })
  t.regex(
    answer.headers['Set-Cookie'] ?? '',
    /^__Host-bound=[\w.-]+; Path=\/; Secure; HttpOnly; SameSite=Lax; Max-Age=570$/,
  )
  t.is(site.dbsc.provenAt('s1', `a=b; ${boundCookieOf(answer)}`), site.clock.now)
  const jkt = await calculateJwkThumbprint(deviceKey.publicJwk)
  t.deepEqual(site.events, [{ type: 'bound', session: 's1', jkt }])
})

test('a registration that is repeated by its own key is answered again', async (t) => {
  const site = makeSite()
  const proof = registrationProof(offered(site.dbsc.offer('s1')))
  t.is((await site.register(proof)).status, 200)
  t.is((await site.register(proof)).status, 200)
  t.is(site.keys.size, 1)
})

test('the first key stays', async (t) => {
  const site = makeSite()
  const offer = offered(site.dbsc.offer('s1'))
  await bound(t, site)
  const first = site.keys.get('s1')
  const thief = await site.register(registrationProof(offer, {}, makeKey()))
  t.like(thief, { status: 403, body: { error: 'dbsc_bound_already' } })
  t.is(site.keys.get('s1'), first)
})

for (const [title, change] of [
  ['no authorization', () => ({ authorization: undefined })],
  ['the authorization of another session', (site) => offerFor(site, 's2', 'authorization')],
  ['a challenge in its place', (site) => ({ authorization: offered(site.dbsc.offer('s1')).jti })],
] as [string, (site: Site) => object][]) {
  test(`rejects a registration with ${title}`, async (t) => {
    const site = makeSite()
    const proof = registrationProof({ ...offered(site.dbsc.offer('s1')), ...change(site) })
    const answer = await site.register(proof)
    t.like(answer, { status: 403, body: { error: 'dbsc_authorization' } })
    t.is(site.keys.size, 0)
    t.is(answer.headers['Set-Cookie'], undefined)
  })
}

test('rejects a registration with the challenge of another session', async (t) => {
  const site = makeSite()
  const claims = { ...offered(site.dbsc.offer('s1')), ...offerFor(site, 's2', 'jti') }
  const answer = await site.register(registrationProof(claims))
  t.like(answer, { status: 403, body: { error: 'dbsc_challenge' } })
})

test('rejects a registration that comes too late', async (t) => {
  const site = makeSite()
  const proof = registrationProof(offered(site.dbsc.offer('s1')))
  site.clock.now += 120_000
  t.is((await site.register(proof)).status, 403)
})

test('rejects a registration by a browser that is in another session', async (t) => {
  const site = makeSite()
  const proof = registrationProof(offered(site.dbsc.offer('s1')))
  const answer = await site.register(proof, 's2')
  t.like(answer, { status: 403, body: { error: 'dbsc_authorization' } })
  t.is(site.keys.size, 0)
})

test('rejects a registration that names no session where the cookie is withheld', async (t) => {
  const site = makeSite()
  const { jti } = offered(site.dbsc.offer('s1'))
  const answer = await site.dbsc.handle({
    method: 'POST',
    path: '/dbsc/registration',
    header: () => registrationProof({ jti }),
    session: () => undefined,
  })
  t.like(answer, { status: 403, body: { error: 'dbsc_authorization' } })
})

test('refuses while the store of used challenges is full', async (t) => {
  const site = makeSite({ replays: { shared: true, consume: () => 'full' } })
  const registered = await bound(t, site)
  const answer = await site.refresh(refreshProof(nextChallenge(registered)))
  t.like(answer, { status: 503, body: { error: 'replay_store_full' } })
})

test('the offer names the session where the cookie is withheld', async (t) => {
  const site = makeSite()
  const headers = { 'secure-session-response': registrationProof(offered(site.dbsc.offer('s1'))) }
  const answer = await site.dbsc.handle({
    method: 'POST',
    path: '/dbsc/registration',
    header: (name) => headers[name as keyof typeof headers],
    session: () => undefined,
  })
  t.like(answer, { status: 200, body: { session_identifier: 's1' } })
})

test('an offer of a shared key is for that key', async (t) => {
  const provider = {
    key: await calculateJwkThumbprint(deviceKey.publicJwk),
    session: 'session at the provider',
    url: 'https://idp.example',
  }
  const site = makeSite()
  const header = site.dbsc.offer('s1', provider)
  t.true(header.includes(`;provider_key="${provider.key}"`))
  t.true(header.includes(';provider_session_id="session at the provider"'))
  t.true(header.includes(';provider_url="https://idp.example"'))
  const other = await site.register(registrationProof(offered(header), {}, makeKey()))
  t.like(other, { status: 403, body: { error: 'dbsc_authorization' } })
  t.is((await site.register(registrationProof(offered(header)))).status, 200)
})

test('a refresh is a challenge, a proof, and the next challenge', async (t) => {
  const site = makeSite()
  await bound(t, site)
  site.clock.now += 600_000
  const asked = await site.refresh(undefined)
  t.is(asked.status, 403)
  t.is(asked.headers['Set-Cookie'], undefined)
  const answer = await site.refresh(refreshProof(nextChallenge(asked)))
  t.is(answer.status, 200)
  t.is(site.dbsc.provenAt('s1', boundCookieOf(answer)), site.clock.now)
  t.is((await site.refresh(refreshProof(nextChallenge(answer)))).status, 200)
  t.deepEqual(
    site.events.map(({ type }) => type),
    ['bound', 'refreshed', 'refreshed'],
  )
})

test('a challenge from before the cookie ran out saves a round trip', async (t) => {
  const site = makeSite()
  const registered = await bound(t, site)
  site.clock.now += 700_000
  t.is((await site.refresh(refreshProof(nextChallenge(registered)))).status, 200)
})

test('several challenges are outstanding, each for one use', async (t) => {
  const site = makeSite()
  await bound(t, site)
  const [first, second] = [await site.refresh(undefined), await site.refresh(undefined)]
  const proof = refreshProof(nextChallenge(first))
  t.is((await site.refresh(refreshProof(nextChallenge(second)))).status, 200)
  t.is((await site.refresh(proof)).status, 200)
  const again = await site.refresh(proof)
  t.like(again, { status: 403, body: { error: 'dbsc_replayed' } })
  t.truthy(nextChallenge(again).jti)
})

test('rejects a challenge that has expired', async (t) => {
  const site = makeSite()
  const registered = await bound(t, site)
  site.clock.now += 720_000
  const answer = await site.refresh(refreshProof(nextChallenge(registered)))
  t.like(answer, { status: 403, body: { error: 'dbsc_challenge' } })
})

test('rejects a refresh by another key, and tells', async (t) => {
  const site = makeSite()
  await bound(t, site)
  const asked = await site.refresh(undefined)
  const answer = await site.refresh(refreshProof(nextChallenge(asked), {}, makeKey()))
  t.like(answer, { status: 403, body: { error: 'dbsc_signature' } })
  t.is(answer.headers['Set-Cookie'], undefined)
  t.like(site.events.at(-1), { type: 'refused', session: 's1', code: 'dbsc_signature' })
})

test('ends an unknown session by a 200 response', async (t) => {
  const answer = await makeSite().refresh(undefined, '"gone"')
  t.is(answer.status, 200)
  t.deepEqual(answer.body, { session_identifier: 'gone', continue: false })
})

test('ends an ended session at the browser, even with a good proof', async (t) => {
  const site = makeSite()
  const registered = await bound(t, site)
  site.keys.delete('s1')
  const answer = await site.refresh(refreshProof(nextChallenge(registered)))
  t.deepEqual(answer.body, { session_identifier: 's1', continue: false })
  t.is(answer.headers['Set-Cookie'], undefined)
})

test('ends a session that another one of the same browser has replaced', async (t) => {
  const site = makeSite()
  await bound(t, site)
  const answer = await site.refresh(undefined, 's1', 's2')
  t.like(answer, { status: 200, body: { continue: false } })
})

test('a refresh without a session identifier is a bad request', async (t) => {
  t.is((await makeSite().refresh(undefined, '')).status, 400)
})

test('leaves other requests alone', async (t) => {
  const { dbsc } = makeSite()
  const request = { header: () => undefined, session: () => 's1' }
  for (const [method, path] of [
    ['GET', '/dbsc/refresh'],
    ['POST', '/dbsc'],
    ['GET', '/.well-known/device-bound-sessions'],
  ] as const) {
    t.is(await dbsc.handle({ ...request, method, path }), undefined)
  }
})

test('serves the given document at the well-known address', async (t) => {
  const { dbsc } = makeSite({ wellKnown: () => ({ provider_origin: 'https://idp.example' }) })
  const answer = await dbsc.handle({
    method: 'GET',
    path: '/.well-known/device-bound-sessions',
    header: () => undefined,
    session: () => undefined,
  })
  t.like(answer, { status: 200, body: { provider_origin: 'https://idp.example' } })
})

test('accepts a bound cookie for its session and lifetime only', async (t) => {
  const site = makeSite()
  const cookie = boundCookieOf(await bound(t, site)) ?? ''
  const { provenAt } = site.dbsc
  const madeAt = site.clock.now
  t.is(provenAt('s2', cookie), undefined)
  t.is(provenAt('s1', undefined), undefined)
  t.is(provenAt('s1', cookie.replace('__Host-', '')), undefined)
  t.is(provenAt('s1', cookie.replace(/=\d/, '=2')), undefined)
  t.is(
    provenAt('s1', `__Host-bound=${nextChallenge(await site.refresh(undefined)).jti}`),
    undefined,
  )
  t.is(provenAt('s1', `__Host-bound=forged; ${cookie}`), madeAt)
  site.clock.now += 599_999
  t.is(provenAt('s1', cookie), madeAt)
  site.clock.now += 1
  t.is(provenAt('s1', cookie), undefined)
})

test('accepts an older bound cookie until it expires', async (t) => {
  const site = makeSite()
  const registered = await bound(t, site)
  await site.refresh(refreshProof(nextChallenge(registered)))
  t.is(site.dbsc.provenAt('s1', boundCookieOf(registered)), site.clock.now)
})

test('keeps sessions when a secret is changed', async (t) => {
  const [old, next] = [Buffer.alloc(32, 7), Buffer.alloc(32, 8)]
  let secrets = [old, next]
  const site = makeSite({ secret: () => secrets })
  const offer = offered(site.dbsc.offer('s1'))
  secrets = [next, old]
  const registered = await site.register(registrationProof(offer))
  t.is(registered.status, 200)
  secrets = [old, next]
  const before = boundCookieOf(registered)
  t.is(site.dbsc.provenAt('s1', before), site.clock.now)
  const challenge = nextChallenge(await site.refresh(undefined))
  secrets = [next, old]
  t.is((await site.refresh(refreshProof(challenge))).status, 200)

  const byOld = boundCookieOf(registered)
  secrets = [old]
  t.is(site.dbsc.provenAt('s1', byOld), undefined)
  t.is((await site.refresh(refreshProof(nextChallenge(registered)))).status, 403)
})

test('refuses a short secret, and none at all', (t) => {
  t.throws(() => makeSite({ secret: Buffer.alloc(31) }), { instanceOf: TypeError })
  t.throws(() => makeSite({ secret: () => [] }), { instanceOf: TypeError })
  t.throws(() => makeSite({ secret: () => [Buffer.alloc(32), Buffer.alloc(31)] }), {
    instanceOf: TypeError,
  })
})

function offerFor(site: Site, session: string, claim: 'jti' | 'authorization') {
  return { [claim]: offered(site.dbsc.offer(session))[claim] }
}

const attributesOf = (answer: DbscAnswer) => answer.headers['Set-Cookie']?.replace(/=[^;]*;/, ';')

test('a site below a path has its addresses and its cookie there', async (t) => {
  const { dbsc, register } = makeSite({ basePath: '/auth', excludedPaths: ['/assets'] })
  const offer = dbsc.offer('s1')
  t.regex(offer, /;path="\/auth\/dbsc\/registration";/)
  t.regex(dbsc.expiredCookie, /^__Secure-bound=; Path=\/auth; Secure;/)
  const [, jti, authorization] = /challenge="([^"]+)";authorization="([^"]+)"/.exec(offer) ?? []
  const answer = await register(registrationProof({ jti, authorization }))
  t.is(answer.status, 200)
  t.regex(attributesOf(answer) ?? '', /^__Secure-bound; Path=\/auth; Secure; HttpOnly;/)
  const { refresh_url, scope, credentials } = answer.body as {
    refresh_url: string
    scope: { scope_specification: { path: string }[] }
    credentials: { attributes: string }[]
  }
  t.is(refresh_url, '/auth/dbsc/refresh')
  t.deepEqual(
    scope.scope_specification.map(({ path }) => path),
    ['/auth/dbsc/registration', '/.well-known/device-bound-sessions', '/auth/assets'],
  )
  t.regex(credentials[0]?.attributes ?? '', /^Path=\/auth;/)
})

test('a cookie of __Host- is for the origin, whatever the path of the site', (t) => {
  const { dbsc } = makeSite({ basePath: '/auth', cookieName: '__Host-x' })
  t.regex(dbsc.expiredCookie, /^__Host-x=; Path=\/; Secure;/)
})

const apps: Record<string, (dbsc: DbscSessions) => RequestListener> = {
  koa(dbsc) {
    const app = new Koa()
    app.silent = true
    app.use(koaDbsc(dbsc, (ctx) => ctx.get('x-session') || undefined))
    app.use((ctx) => {
      ctx.body = 'the site'
    })
    return app.callback()
  },
  express(dbsc) {
    const app = express()
    app.use(expressDbsc(dbsc, (request) => request.get('x-session')))
    app.use((_request, response) => void response.send('the site'))
    return app
  },
}

function makeAdapterSite(broken = false) {
  const keys = new Map<string, DbscRegistration>()
  return createDbscSessions({
    origin: 'https://app.example',
    secret: Buffer.alloc(32, 1),
    replays: createMemoryReplayStore({ capacity: 100 }),
    wellKnown: () => ({ provider_origin: 'https://op.example' }),
    bindings: {
      insert: async (session, registration) => Boolean(keys.set(session, registration)),
      async find(session) {
        if (broken) throw new Error('the database is gone')
        return keys.get(session)
      },
    },
  })
}

async function serve(listener: RequestListener) {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const send = (path: string, headers: Record<string, string> = {}, method = 'POST') =>
    fetch(`http://127.0.0.1:${port}${path}`, { method, headers: { 'x-session': 's1', ...headers } })
  return { send, [Symbol.asyncDispose]: async () => void server.close() }
}

for (const [name, makeApp] of Object.entries(apps)) {
  test(`${name}: registers a key and refreshes with it`, async (t) => {
    const dbsc = makeAdapterSite()
    await using site = await serve(makeApp(dbsc))
    const [, jti, authorization] =
      /challenge="(.+)";authorization="(.+)"/.exec(dbsc.offer('s1')) ?? []
    const registered = await site.send('/dbsc/registration', {
      'secure-session-response': registrationProof({ jti, authorization }),
    })
    t.is(registered.status, 200)
    t.like(await registered.json(), { session_identifier: 's1' })
    const id = { 'sec-secure-session-id': 's1' }
    const asked = await site.send('/dbsc/refresh', id)
    t.is(asked.status, 403)
    const [, challenge] =
      /^"([^"]+)"/.exec(asked.headers.get('secure-session-challenge') ?? '') ?? []
    const proof = { 'secure-session-response': refreshProof({ jti: challenge }) }
    const refreshed = await site.send('/dbsc/refresh', { ...id, ...proof })
    t.is(refreshed.status, 200)
    const [boundCookie] = refreshed.headers.getSetCookie()
    t.is(typeof dbsc.provenAt('s1', boundCookie?.split(';')[0]), 'number')
  })

  test(`${name}: refuses as the core does`, async (t) => {
    await using site = await serve(makeApp(makeAdapterSite()))
    const registration = await site.send('/dbsc/registration')
    t.is(registration.status, 403)
    t.like(await registration.json(), { error: 'dbsc_missing' })
    t.is((await site.send('/dbsc/refresh')).status, 400)
    const gone = await site.send('/dbsc/refresh', { 'sec-secure-session-id': '"gone"' })
    t.deepEqual(await gone.json(), { session_identifier: 'gone', continue: false })
  })

  test(`${name}: serves the well-known document, and leaves the rest to the site`, async (t) => {
    await using site = await serve(makeApp(makeAdapterSite()))
    const wellKnown = await site.send('/.well-known/device-bound-sessions', {}, 'GET')
    t.regex(wellKnown.headers.get('content-type') ?? '', /^application\/json/)
    t.deepEqual(await wellKnown.json(), { provider_origin: 'https://op.example' })
    t.is(await (await site.send('/', {}, 'GET')).text(), 'the site')
  })

  test(`${name}: an error of the store is a 5xx, after which browsers try again`, async (t) => {
    await using site = await serve(makeApp(makeAdapterSite(true)))
    t.is((await site.send('/dbsc/refresh', { 'sec-secure-session-id': 's1' })).status, 500)
  })
}
