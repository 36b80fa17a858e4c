import { createHash } from 'node:crypto'
import test from 'ava'
import { createIdTokenVerifier } from '../../packages/verify/id-token.ts'
import { parseTokenBindingId } from '../../packages/verify/token-binding.ts'
import {
  beginTokenBoundLogin,
  finishTokenBoundLogin,
} from '../../packages/verify/token-binding-login.ts'
import { makeEcKey, tokenBindingId } from '../support/token-binding-messages.ts'
import { signJws } from '../support/verify/keys.ts'
import { refused } from '../support/verify/refused.ts'
import {
  accessToken,
  bearerRequest,
  issuer,
  issuerKey,
  jwks,
  start,
  verifierWith,
} from '../support/verify/world.ts'

function newProof() {
  const provided = parseTokenBindingId(tokenBindingId(makeEcKey()).toString('base64url'))
  if (!provided) throw new Error('not a Token Binding ID')
  return { provided }
}

const browser = newProof()
const another = newProof()
const { verifyIdToken } = createIdTokenVerifier({
  issuer,
  clientId: 'rp',
  jwks,
  now: () => start * 1000,
})

/** What the identity provider issues for a browser whose referred ID it has seen. */
function idTokenFor({ provided }: typeof browser, aud = 'rp'): string {
  const claims = { iss: issuer, sub: 'alice', aud, nonce: 'n', iat: start, exp: start + 60 }
  const header = { alg: issuerKey.alg, kid: 'k1' }
  return signJws(issuerKey, header, { ...claims, cnf: { tbh: provided.tbh } })
}

test('a login asks that the browser show its ID, and that the code be bound to it', (t) => {
  const login = beginTokenBoundLogin(browser)
  t.deepEqual(login.headers, { 'Include-Referred-Token-Binding-ID': 'true' })
  t.deepEqual(login.parameters, {
    code_challenge: 'referred_tb',
    code_challenge_method: 'referred_tb',
  })
  t.is(login.browserId, browser.provided.id)
})

test('the browser that began a login finishes it', async (t) => {
  const { browserId } = beginTokenBoundLogin(browser)
  const { codeVerifier, tokenBinding } = finishTokenBoundLogin(browserId, browser)
  t.is(codeVerifier, browser.provided.id)
  const hash = createHash('sha256').update(tokenBinding.providedId).digest('base64url')
  t.is(hash, browser.provided.tbh)
  const { methods } = await verifyIdToken(idTokenFor(browser), { nonce: 'n', tokenBinding })
  t.deepEqual(methods, ['token-binding'])
})

test('an ID token that is bound to another browser is refused', async (t) => {
  const { browserId } = beginTokenBoundLogin(browser)
  const { tokenBinding } = finishTokenBoundLogin(browserId, browser)
  const expected = { nonce: 'n', tokenBinding }
  await refused(t, 'token_binding_mismatch', () => verifyIdToken(idTokenFor(another), expected))
})

test('an ID token for another relying party is refused, in the same browser', async (t) => {
  const { tokenBinding } = finishTokenBoundLogin(browser.provided.id, browser)
  const expected = { nonce: 'n', tokenBinding }
  await refused(t, 'token_audience', () => verifyIdToken(idTokenFor(browser, 'other'), expected))
})

test('no login begins or ends without Token Binding', async (t) => {
  await refused(t, 'token_binding_missing', () => beginTokenBoundLogin(undefined))
  await refused(t, 'token_binding_missing', () =>
    finishTokenBoundLogin(browser.provided.id, undefined),
  )
})

test('another browser does not finish a login', async (t) => {
  await refused(t, 'token_binding_mismatch', () =>
    finishTokenBoundLogin(browser.provided.id, another),
  )
})

// Tokens in a query or form

const token = accessToken({ cnf: { tbh: browser.provided.tbh } })
const factOf = ({ provided }: typeof browser) => ({
  tokenBinding: { providedId: Buffer.from(provided.id, 'base64url') },
})
const places = {
  query: { method: 'GET', url: `/notes?access_token=${token}`, headers: [] },
  body: {
    method: 'POST',
    url: '/notes',
    headers: ['Content-Type', 'application/x-www-form-urlencoded'],
    body: `access_token=${token}`,
  },
}

for (const [place, request] of Object.entries(places)) {
  test(`a tbh-bound token in the ${place} needs the matching ID, where it is allowed`, async (t) => {
    const lax = verifierWith({ tokenLocations: ['header', 'body', 'query'] })
    const { location } = await lax.verify({ ...request, ...factOf(browser) })
    t.is(location as string, place)
    await refused(t, 'token_binding_mismatch', () => lax.verify({ ...request, ...factOf(another) }))
    await refused(t, 'token_binding_missing', () => lax.verify(request))
  })

  test(`a tbh-bound token in the ${place} is refused where it is not allowed`, async (t) => {
    await refused(t, 'credentials_location', () =>
      verifierWith().verify({ ...request, ...factOf(browser) }),
    )
  })
}

test("a token of one relying party by another's connection is refused", async (t) => {
  const request = bearerRequest(token)
  await t.notThrowsAsync(verifierWith().verify({ ...request, ...factOf(browser) }))
  await refused(t, 'token_binding_mismatch', () =>
    verifierWith().verify({ ...request, ...factOf(another) }),
  )
})
