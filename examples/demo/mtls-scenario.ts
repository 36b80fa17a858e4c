import { generateKeyPair } from 'jose'
import { makeProof } from '../../src/doctor/proof.ts'
import { refreshAsOwner, signInAsOwner, signInElsewhere } from './owner-steps.ts'
import { asTokens, type TokenResponse, type Tokens } from './relying-party.ts'
import type { Fixtures } from './set-up.ts'
import type { Runner } from './steps.ts'

type Fetch = typeof globalThis.fetch

export interface MtlsFixtures extends Fixtures {
  /** Where the identity provider asks for certificates. */
  readonly mtlsOrigin: string
  /** Connections that show the owner's certificate, and a thief's. */
  readonly ownerFetch: Fetch
  /** The owner's next certificate, which the client's registration has as well. */
  readonly renewedFetch: Fetch
  readonly thiefFetch: Fetch
  /** The owner's certificate, which everybody may know. */
  readonly ownerCertificate: string
}

/**
 * The scenario with certificates: a person signs in to an application that authenticates by mutual
 * TLS, and a thief has all of its tokens and its certificate, and not the private key.
 */
export async function runMtlsScenario(
  fixtures: MtlsFixtures,
  { owner, thief }: Runner,
): Promise<void> {
  const { apiUrl, mtlsOrigin, ownerFetch, thiefFetch } = fixtures
  const bearer = ({ accessToken }: Tokens) => ({ authorization: `Bearer ${accessToken}` })
  const forged = {
    'client-cert': `:${fixtures.ownerCertificate}:`,
    'x-ssl-client-der': fixtures.ownerCertificate,
    'x-forwarded-client-cert': `Cert="${fixtures.ownerCertificate}"`,
  }

  let tokens = await signInAsOwner(fixtures, owner, 'certificate')

  // A thief has the access token.
  await thief('access token without a certificate', () =>
    fetch(apiUrl, { headers: bearer(tokens) }),
  )
  await thief("access token with the thief's certificate", () =>
    thiefFetch(apiUrl, { headers: bearer(tokens) }),
  )
  await thief("the owner's certificate in a header", () =>
    thiefFetch(apiUrl, { headers: { ...bearer(tokens), ...forged } }),
  )
  await thief('access token in the query', () =>
    thiefFetch(`${apiUrl}?access_token=${tokens.accessToken}`),
  )
  await thief("access token with a DPoP proof by the thief's key", async () => {
    const { accessToken } = tokens
    const key = await generateKeyPair('ES256', { extractable: true })
    const dpop = await makeProof(key, { method: 'GET', url: apiUrl, accessToken })
    return thiefFetch(apiUrl, { headers: { authorization: `DPoP ${accessToken}`, dpop } })
  })
  await thief('access token at userinfo', () =>
    thiefFetch(`${mtlsOrigin}/userinfo`, { headers: bearer(tokens) }),
  )

  // The thief has the refresh token.
  const askForTokens = (by: Fetch, parameters: Record<string, string>, headers = {}) =>
    by(`${mtlsOrigin}/token`, {
      method: 'POST',
      headers,
      body: new URLSearchParams({ client_id: fixtures.clientId, ...parameters }),
    })
  const refreshing = ({ refreshToken }: Tokens) => ({
    grant_type: 'refresh_token',
    refresh_token: refreshToken,
  })
  await thief('refresh token without a certificate', () => askForTokens(fetch, refreshing(tokens)))
  await thief("refresh token with the thief's certificate", () =>
    askForTokens(thiefFetch, refreshing(tokens)),
  )
  await thief("refresh token, the owner's certificate in a header", () =>
    askForTokens(thiefFetch, refreshing(tokens), forged),
  )

  // The owner signs in on another device, and the thief reads the code on its way.
  const exchanging = await signInElsewhere(fixtures)
  await thief("authorization code with the thief's certificate", () =>
    askForTokens(thiefFetch, exchanging),
  )
  await owner('the same code, by its owner', 'accept', () => askForTokens(ownerFetch, exchanging))

  // The first sign-in is untouched by all of it.
  const before = tokens
  tokens = await refreshAsOwner(fixtures, owner, tokens)

  // The owner renews the certificate, and nobody has to sign in again.
  const refresh = async (by: Fetch) => {
    const response = await askForTokens(by, {
      ...refreshing(tokens),
      resource: new URL(apiUrl).origin,
    })
    if (response.ok) {
      tokens = { ...tokens, ...asTokens((await response.clone().json()) as TokenResponse) }
    }
    return response
  }
  await owner('refresh with the renewed certificate', 'accept', () =>
    refresh(fixtures.renewedFetch),
  )
  await owner('call the API with the renewed certificate', 'accept', () =>
    fixtures.renewedFetch(apiUrl, { headers: bearer(tokens) }),
  )
  await thief('the token of the renewed certificate with none', () =>
    fetch(apiUrl, { headers: bearer(tokens) }),
  )
  await owner('the old refresh token, used twice', 'reject', () =>
    askForTokens(ownerFetch, refreshing(before)),
  )
  await owner('the new refresh token: its family has ended', 'reject', () =>
    refresh(fixtures.renewedFetch),
  )
}
