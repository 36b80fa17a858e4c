import test, { type ExecutionContext } from 'ava'
import { calculateJwkThumbprint } from 'jose'
import type { DbscRegistration } from '../../packages/verify/dbsc.ts'
import {
  createDbscSessions,
  type DbscAnswer,
  type DbscEvent,
  type DbscOptions,
} from '../../packages/verify/dbsc-sessions.ts'
import { createMemoryReplayStore } from '../../packages/verify/replay.ts'
import { deviceKey, refreshProof, registrationProof } from '../support/verify/dbsc.ts'
import { makeKey } from '../support/verify/keys.ts'

const origin = 'https://op.example'

/** A site with one session, `s1`, and a clock that moves when it is told to. */
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

const companion = ({ headers }: DbscAnswer) => (headers['Set-Cookie'] ?? '').split(';')[0]

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
  t.is(site.dbsc.provenAt('s1', `a=b; ${companion(answer)}`), site.clock.now)
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
  t.is(site.dbsc.provenAt('s1', companion(answer)), site.clock.now)
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

test('an ended session is told to end, even with a good proof', async (t) => {
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

test('serves what it was told for the well-known address', async (t) => {
  const { dbsc } = makeSite({ wellKnown: () => ({ provider_origin: 'https://idp.example' }) })
  const answer = await dbsc.handle({
    method: 'GET',
    path: '/.well-known/device-bound-sessions',
    header: () => undefined,
    session: () => undefined,
  })
  t.like(answer, { status: 200, body: { provider_origin: 'https://idp.example' } })
})

test('a companion is for its session, for its time, and nothing else is one', async (t) => {
  const site = makeSite()
  const cookie = companion(await bound(t, site)) ?? ''
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
  t.is(site.dbsc.provenAt('s1', companion(registered)), site.clock.now)
})

test('a secret can be changed while sessions go on', async (t) => {
  const [old, next] = [Buffer.alloc(32, 7), Buffer.alloc(32, 8)]
  let secrets = [old, next]
  const site = makeSite({ secret: () => secrets })
  const offer = offered(site.dbsc.offer('s1'))
  secrets = [next, old]
  const registered = await site.register(registrationProof(offer))
  t.is(registered.status, 200)
  secrets = [old, next]
  const before = companion(registered)
  t.is(site.dbsc.provenAt('s1', before), site.clock.now)
  const challenge = nextChallenge(await site.refresh(undefined))
  secrets = [next, old]
  t.is((await site.refresh(refreshProof(challenge))).status, 200)

  const byOld = companion(registered)
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
  t.regex(dbsc.forget, /^__Secure-bound=; Path=\/auth; Secure;/)
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
  t.regex(dbsc.forget, /^__Host-x=; Path=\/; Secure;/)
})
