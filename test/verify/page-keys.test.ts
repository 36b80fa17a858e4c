import { randomBytes } from 'node:crypto'
import test from 'ava'
import { calculateJwkThumbprint } from 'jose'
import type { DbscEvent } from '../../packages/verify/dbsc-sessions.ts'
import { createPageKeys, type PageKeyOptions } from '../../packages/verify/page-keys.ts'
import { createMemoryReplayStore } from '../../packages/verify/replay.ts'
import { deviceKey, refreshProof, registrationProof } from '../support/verify/dbsc.ts'
import { makeKey } from '../support/verify/keys.ts'
import { refused } from '../support/verify/refused.ts'

const key = { alg: 'ES256', jwk: deviceKey.publicJwk as Record<string, string>, jkt: 'thumbprint' }

/** A site with one session, `s1`, that has a page key, and a clock. */
function createSite(options: Partial<PageKeyOptions> = {}) {
  const clock = { now: 1_800_000_000_000 }
  const events: DbscEvent[] = []
  const secret = randomBytes(32)
  const pageKeys = createPageKeys({
    origin: 'https://op.example',
    secret,
    find: async (session) => (session === 's1' ? key : undefined),
    replays: createMemoryReplayStore({ capacity: 100 }),
    now: () => clock.now,
    onEvent: (event) => void events.push(event),
    ...options,
  })
  const post = (headers: Record<string, string>, session: string | undefined = 's1') =>
    pageKeys.handle({
      method: 'POST',
      path: '/dbsc/refresh',
      header: (name) => headers[name],
      session: () => session,
    })
  const refresh = (jti: string) => post({ 'secure-session-response': refreshProof({ jti }) })
  return { clock, events, secret, pageKeys, post, refresh }
}

type Answer = Awaited<ReturnType<ReturnType<typeof createSite>['post']>>
const challengeOf = (answer: Answer) =>
  answer?.headers['Secure-Session-Challenge']?.replaceAll('"', '') ?? ''
const cookieOf = (answer: Answer) => answer?.headers['Set-Cookie']?.split(';')[0]
const codeOf = (answer: Answer) => (answer?.body as { error?: string } | undefined)?.error

test('accepts the page key of a form by the challenge of its page', async (t) => {
  const { pageKeys } = createSite()
  const proof = registrationProof({ jti: pageKeys.pageChallenge('form') })
  const { jkt, alg } = pageKeys.verifyRegistration(proof, 'form')
  t.is(jkt, await calculateJwkThumbprint(deviceKey.publicJwk))
  t.is(alg, 'ES256')
})

test('rejects a page key by the challenge of another form, or one that is too old', async (t) => {
  const { clock, pageKeys } = createSite({ pageLifetime: 60 })
  const proof = registrationProof({ jti: pageKeys.pageChallenge('form') })
  await refused(t, 'dbsc_challenge', () => pageKeys.verifyRegistration(proof, 'other'))
  clock.now += 59_999
  t.truthy(pageKeys.verifyRegistration(proof, 'form'))
  clock.now += 1
  await refused(t, 'dbsc_challenge', () => pageKeys.verifyRegistration(proof, 'form'))
})

test('rejects a page key by the challenge of a refresh, or by an algorithm of no script', async (t) => {
  const { pageKeys } = createSite()
  const { challenge } = pageKeys.stateOf('form', undefined)
  await refused(t, 'dbsc_challenge', () =>
    pageKeys.verifyRegistration(registrationProof({ jti: challenge }), 'form'),
  )
  const proof = registrationProof({ jti: pageKeys.pageChallenge('form') }, {}, makeKey('RS256'))
  await refused(t, 'dbsc_algorithm', () => pageKeys.verifyRegistration(proof, 'form'))
})

test('asks a script for a proof, and answers it by a cookie that expires on the server', async (t) => {
  const site = createSite()
  const { clock, pageKeys } = site
  const asked = await site.post({})
  t.is(asked?.status, 403)
  t.like(asked?.body, { error: 'dbsc_missing', key: 'thumbprint' })
  t.deepEqual(site.events, [])
  const answer = await site.refresh(challengeOf(asked))
  t.is(answer?.status, 200)
  t.like(answer?.body, { key: 'thumbprint', seconds: 600 })
  const madeAt = clock.now
  t.is(pageKeys.provenAt('s1', cookieOf(answer)), madeAt)
  t.is(pageKeys.provenAt('s2', cookieOf(answer)), undefined)
  clock.now += 599_999
  t.is(pageKeys.provenAt('s1', cookieOf(answer)), madeAt)
  clock.now += 1
  t.is(pageKeys.provenAt('s1', cookieOf(answer)), undefined)
})

test('accepts each challenge of a page once, in any order', async (t) => {
  const site = createSite()
  const challenges = [
    site.pageKeys.stateOf('s1', undefined).challenge,
    challengeOf(await site.post({})),
  ]
  for (const challenge of challenges.reverse()) {
    t.is((await site.refresh(challenge))?.status, 200)
    t.is(codeOf(await site.refresh(challenge)), 'dbsc_replayed')
  }
})

test('rejects challenges of pages that are too old or of another session', async (t) => {
  const site = createSite()
  t.is(
    codeOf(await site.refresh(site.pageKeys.stateOf('s2', undefined).challenge)),
    'dbsc_challenge',
  )
  const { challenge } = site.pageKeys.stateOf('s1', undefined)
  site.clock.now += 720_000
  t.is(codeOf(await site.refresh(challenge)), 'dbsc_challenge')
  t.deepEqual(
    site.events.map(({ type }) => type),
    ['refused', 'refused'],
  )
})

test('leaves a request to others that is no refresh of a page key', async (t) => {
  const { pageKeys, post } = createSite()
  t.is(await post({ 'sec-secure-session-id': 's1' }), undefined)
  t.is(await post({}, 's2'), undefined)
  t.is(await post({}, ''), undefined)
  const get = { method: 'GET', path: '/dbsc/refresh', header: () => undefined, session: () => 's1' }
  t.is(await pageKeys.handle(get), undefined)
  t.is(await pageKeys.handle({ ...get, method: 'POST', path: '/other' }), undefined)
})

test('rejects a proof of a page key that it cannot remember', async (t) => {
  const replays = { shared: true, consume: () => 'full' as const }
  const site = createSite({ replays })
  const answer = await site.refresh(challengeOf(await site.post({})))
  t.is(codeOf(answer), 'replay_store_full')
  t.false('Set-Cookie' in (answer?.headers ?? {}))
})

test('says how long a page has until its bound cookie expires', (t) => {
  const { clock, pageKeys } = createSite({ lifetime: 100 })
  t.is(pageKeys.stateOf('s1', clock.now - 30_000).seconds, 70)
  t.is(pageKeys.stateOf('s1', clock.now - 130_000).seconds, 0)
  t.is(pageKeys.stateOf('s1', undefined).seconds, 0)
})

test('names the cookie and the address of page keys by the path of the site', (t) => {
  const { pageKeys } = createSite({ basePath: '/auth' })
  t.regex(
    pageKeys.boundCookie('s1'),
    /^__Secure-page_key=[\w.-]+; Path=\/auth; Secure; HttpOnly; SameSite=Lax; Max-Age=570$/,
  )
  t.is(
    pageKeys.expiredCookie,
    '__Secure-page_key=; Path=/auth; Secure; HttpOnly; SameSite=Lax; Max-Age=0',
  )
  t.is(pageKeys.refreshUrl, 'https://op.example/auth/dbsc/refresh')
})

test('refuses options of page keys that are unknown or unsafe', (t) => {
  for (const wrong of [
    { secret: randomBytes(31) },
    { lifetime: 0 },
    { pageLifetime: 0 },
    { life: 1 },
  ]) {
    t.throws(() => createSite(wrong as never), { instanceOf: TypeError })
  }
})
