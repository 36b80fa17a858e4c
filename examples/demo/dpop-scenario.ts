import { generateKeyPair } from 'jose'
import { type KeyPair, makeProof } from '../../src/doctor/proof.ts'
import { refreshAsOwner, signInAsOwner, signInElsewhere } from './owner-steps.ts'
import { asTokens, type TokenResponse } from './relying-party.ts'
import type { Fixtures } from './set-up.ts'
import type { Runner } from './steps.ts'

export interface DpopFixtures extends Fixtures {
  readonly clientSecret: string
  readonly ownerKey: KeyPair
}

/**
 * Runs the scenario: a person signs in, a thief who has everything but the private key tries what
 * thieves try (client credentials and all), and the person goes on.
 */
export async function runDpopScenario(
  fixtures: DpopFixtures,
  { owner, thief }: Runner,
): Promise<void> {
  const { apiUrl, issuer, ownerKey } = fixtures
  const tokenEndpoint = `${issuer}/token`
  const thiefKey = await generateKeyPair('ES256', { extractable: true })
  const callApi = (init: RequestInit = {}, url = apiUrl) => fetch(url, init)
  const dpop = (accessToken: string, proof?: string) => ({
    headers: { authorization: `DPoP ${accessToken}`, ...(proof && { dpop: proof }) },
  })

  // The owner signs in.
  let tokens = await signInAsOwner(fixtures, owner, 'DPoP proof')

  // A thief has the access token, and has seen a request of the owner's.
  const { accessToken } = tokens
  const request = { method: 'GET', url: apiUrl, accessToken }
  const usedProof = await makeProof(ownerKey, request)
  await owner('call the API again', 'accept', () => callApi(dpop(accessToken, usedProof)))
  await thief('access token as Bearer', () =>
    callApi({ headers: { authorization: `Bearer ${accessToken}` } }),
  )
  await thief('access token in the query', () =>
    callApi({}, `${apiUrl}?access_token=${accessToken}`),
  )
  await thief('access token in a form', () =>
    callApi({ method: 'POST', body: new URLSearchParams({ access_token: accessToken }) }),
  )
  await thief('access token without a proof', () => callApi(dpop(accessToken)))
  await thief("proof by the thief's own key", async () =>
    callApi(dpop(accessToken, await makeProof(thiefKey, request))),
  )
  await thief("the owner's proof, replayed", () => callApi(dpop(accessToken, usedProof)))
  await thief('proof for another method', async () =>
    callApi(dpop(accessToken, await makeProof(ownerKey, { ...request, method: 'DELETE' }))),
  )
  await thief('proof for another URL', async () =>
    callApi(dpop(accessToken, await makeProof(ownerKey, { ...request, url: `${apiUrl}/1` }))),
  )
  await thief('proof for another token', async () =>
    callApi(dpop(accessToken, await makeProof(ownerKey, { ...request, accessToken: 'other' }))),
  )

  // The thief has the refresh token and the client's secret as well.
  const askForTokens = async (parameters: Record<string, string>, key?: typeof thiefKey) =>
    fetch(tokenEndpoint, {
      method: 'POST',
      headers: {
        authorization: `Basic ${btoa(`${fixtures.clientId}:${fixtures.clientSecret}`)}`,
        ...(key && { dpop: await makeProof(key, { method: 'POST', url: tokenEndpoint }) }),
      },
      body: new URLSearchParams(parameters),
    })
  const refreshing = (token: string) => ({ grant_type: 'refresh_token', refresh_token: token })
  await thief('refresh token without a proof', () => askForTokens(refreshing(tokens.refreshToken)))
  await thief("refresh token, thief's key", () =>
    askForTokens(refreshing(tokens.refreshToken), thiefKey),
  )

  // The owner signs in on another device, and the thief reads the code on its way.
  const exchanging = await signInElsewhere(fixtures)
  await thief("authorization code, thief's key", () => askForTokens(exchanging, thiefKey))
  await owner('the same code, by its owner', 'accept', () => askForTokens(exchanging, ownerKey))
  await owner('the same code, used twice', 'reject', () => askForTokens(exchanging, ownerKey))

  // The first sign-in is untouched by all of it.
  const before = tokens
  tokens = await refreshAsOwner(fixtures, owner, tokens)

  // The owner changes keys, and nobody has to sign in again.
  const nextKey = await generateKeyPair('ES256', { extractable: true })
  const refresh = async (key: KeyPair, successor?: KeyPair) => {
    const { refreshToken } = tokens
    const named = { method: 'POST', url: tokenEndpoint, accessToken: refreshToken }
    const response = await askForTokens(
      {
        ...refreshing(refreshToken),
        resource: new URL(apiUrl).origin,
        ...(successor && { successor: await makeProof(successor, named) }),
      },
      key,
    )
    if (response.ok) {
      tokens = { ...tokens, ...asTokens((await response.clone().json()) as TokenResponse) }
    }
    return response
  }
  await thief("refresh that names the thief's key as the next", () => refresh(thiefKey, thiefKey))
  await owner('refresh that names the next key', 'accept', () => refresh(ownerKey, nextKey))
  await owner('refresh with the next key', 'accept', () => refresh(nextKey))
  await owner('call the API with the next key', 'accept', async () => {
    const { accessToken } = tokens
    return callApi(dpop(accessToken, await makeProof(nextKey, { ...request, accessToken })))
  })
  await owner('refresh with the key before', 'reject', () => refresh(ownerKey))
  await owner('the old refresh token, used twice', 'reject', () =>
    askForTokens(refreshing(before.refreshToken), ownerKey),
  )
  await owner('the new refresh token: its family has ended', 'reject', () => refresh(nextKey))
}
