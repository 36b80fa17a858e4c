import test from 'ava'
import { createJwks } from '../../packages/verify/jwks.ts'
import { createVerifier } from '../../packages/verify/verifier.ts'
import { makeKey } from '../support/verify/keys.ts'
import { refused } from '../support/verify/refused.ts'
import { audience, dpopRequest, issuer, jwks, start } from '../support/verify/world.ts'

/** An issuer whose answers a test decides, on a clock that it moves. */
function makeIssuer() {
  const state = { now: start, set: jwks as object | Error, fetched: 0, failures: [] as unknown[] }
  const keys = createJwks({
    source: async () => 'https://as.example/jwks',
    fetch: async () => {
      state.fetched++
      if (state.set instanceof Error) throw state.set
      return Response.json(state.set)
    },
    now: () => state.now,
    maxAge: 600,
    onFailure: (cause) => state.failures.push(cause),
    maxStale: 3600,
    cooldown: 30,
  })
  return { state, keys }
}

const k2 = { keys: [{ ...makeKey().publicJwk, kid: 'k2' }] }

test('fetches once for many concurrent tokens, and not again while fresh', async (t) => {
  const { state, keys } = makeIssuer()
  await Promise.all(Array.from({ length: 9 }, () => keys.find('ES256', 'k1')))
  state.now += 600
  t.false(keys.find('ES256', 'k1') instanceof Promise)
  t.is(state.fetched, 1)
})

test('fetches again for an unknown key, but not before the cool-down is over', async (t) => {
  const { state, keys } = makeIssuer()
  await keys.find('ES256', 'k1')
  state.set = k2
  for (let i = 0; i < 9; i++) {
    await refused(t, 'token_key', () => keys.find('ES256', 'k2'))
    state.now += 3
  }
  t.is(state.fetched, 1)
  state.now += 3
  await t.notThrowsAsync(async () => keys.find('ES256', 'k2'))
  await refused(t, 'token_key', () => keys.find('ES256', 'k1'))
  t.is(state.fetched, 2)
})

test('drops a key that the issuer has dropped', async (t) => {
  const { state, keys } = makeIssuer()
  await keys.find('ES256', 'k1')
  state.set = k2
  state.now += 601
  await refused(t, 'token_key', () => keys.find('ES256', 'k1'))
})

test('serves old keys for a bounded time while the issuer is down', async (t) => {
  const { state, keys } = makeIssuer()
  await keys.find('ES256', 'k1')
  state.set = new Error('down')
  state.now += 4200
  await t.notThrowsAsync(async () => keys.find('ES256', 'k1'))
  state.now += 1
  await refused(t, 'issuer_unavailable', () => keys.find('ES256', 'k1'))
  state.now += 30
  const error = await refused(t, 'issuer_unavailable', () => keys.find('ES256', 'k1'))
  t.is(error.status, 503)
  state.set = jwks
  state.now += 30
  await t.notThrowsAsync(async () => keys.find('ES256', 'k1'))
})

for (const set of [{}, { keys: 'none' }, [], new Error('no')]) {
  test(`is unavailable when the first key set is ${JSON.stringify(set)} ${set}`, async (t) => {
    const { state, keys } = makeIssuer()
    state.set = set
    await refused(t, 'issuer_unavailable', () => keys.find('ES256', 'k1'))
  })
}

const metadata = `${issuer}/.well-known/oauth-authorization-server`
const openid = `${issuer}/.well-known/openid-configuration`
const jwksUri = `${issuer}/keys`

function discovering(documents: Record<string, unknown>) {
  const asked: string[] = []
  const redirects: unknown[] = []
  const verifier = createVerifier({
    issuer,
    audience,
    now: () => start * 1000,
    fetch: async (url, init) => {
      asked.push(url)
      redirects.push(init.redirect)
      const body = documents[url]
      return body === undefined ? new Response('', { status: 404 }) : Response.json(body)
    },
  })
  return { asked, redirects, verifier }
}

test('finds the keys through RFC 8414 metadata, following no redirect', async (t) => {
  const { asked, redirects, verifier } = discovering({
    [metadata]: { issuer, jwks_uri: jwksUri },
    [jwksUri]: jwks,
  })
  await t.notThrowsAsync(verifier.verify(dpopRequest()))
  t.deepEqual(asked, [metadata, jwksUri])
  t.true(redirects.every((redirect) => redirect === 'error'))
})

test('finds the keys through OpenID Connect metadata', async (t) => {
  const { asked, verifier } = discovering({
    [openid]: { issuer, jwks_uri: jwksUri },
    [jwksUri]: jwks,
  })
  await t.notThrowsAsync(verifier.verify(dpopRequest()))
  t.deepEqual(asked, [metadata, openid, jwksUri])
})

for (const [title, document] of [
  ['of another issuer', { issuer: 'https://evil.example', jwks_uri: jwksUri }],
  ['without jwks_uri', { issuer }],
  ['with a jwks_uri over plain HTTP', { issuer, jwks_uri: 'http://as.example/keys' }],
] as const) {
  test(`does not use metadata ${title}`, async (t) => {
    const { verifier } = discovering({ [metadata]: document, [jwksUri]: jwks })
    await refused(t, 'issuer_unavailable', () => verifier.verify(dpopRequest()))
  })
}
