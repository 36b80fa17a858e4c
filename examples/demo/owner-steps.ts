import { createBrowser } from '../../test/support/browser.ts'
import type { Tokens } from './relying-party.ts'
import type { Fixtures } from './set-up.ts'
import { type Runner, signIn } from './steps.ts'

/** The owner signs in to the relying party, and it calls the API. */
export async function signInAsOwner(
  fixtures: Fixtures,
  owner: Runner['owner'],
  proof: string,
): Promise<Tokens> {
  const { relyingParty, issuer } = fixtures
  await owner('discovery', 'accept', async () =>
    fetch(`${issuer}/.well-known/openid-configuration`),
  )
  const login = await relyingParty.begin()
  await owner('pushed authorization request', 'accept', async () => fixtures.lastResponse())
  let callback = new URL(issuer)
  await owner('sign in and consent in the browser', 'accept', async () => {
    callback = await signIn(createBrowser(), login.authorizeUrl, fixtures)
    return new Response(null, { status: callback.searchParams.has('code') ? 200 : 400 })
  })
  let tokens: Tokens = { accessToken: '', refreshToken: '', subject: '' }
  await owner(`code for tokens, with a ${proof}`, 'accept', async () => {
    tokens = await relyingParty.finish(callback, login)
    return fixtures.lastResponse()
  })
  await owner('call the API', 'accept', () => relyingParty.callApi(tokens))
  return tokens
}

/** Signs in on another device, and returns the token request with the code, which is not sent. */
export async function signInElsewhere(fixtures: Fixtures): Promise<Record<string, string>> {
  const login = await fixtures.relyingParty.begin()
  const callback = await signIn(createBrowser(), login.authorizeUrl, fixtures)
  return {
    grant_type: 'authorization_code',
    code: callback.searchParams.get('code') ?? '',
    code_verifier: login.codeVerifier,
    redirect_uri: fixtures.redirectUri,
  }
}

/** The relying party refreshes, and calls the API with the new token. */
export async function refreshAsOwner(
  { relyingParty, lastResponse }: Fixtures,
  owner: Runner['owner'],
  before: Tokens,
): Promise<Tokens> {
  let tokens = before
  await owner('refresh', 'accept', async () => {
    tokens = await relyingParty.refresh(before)
    return lastResponse()
  })
  await owner('call the API with the new token', 'accept', () => relyingParty.callApi(tokens))
  return tokens
}
