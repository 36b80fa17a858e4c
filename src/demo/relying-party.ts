import * as oidc from 'openid-client'

export interface Login {
  /** Where the browser is sent. */
  readonly authorizeUrl: URL
  readonly codeVerifier: string
  readonly state: string
  readonly nonce: string
}

export interface Tokens {
  readonly accessToken: string
  readonly refreshToken: string
  readonly subject: string
}

export type RelyingParty = Awaited<ReturnType<typeof createRelyingParty>>

/**
 * The demo's relying party: what an application does with openid-client, as it is published. Its
 * DPoP key never leaves it; `ownerKey` is there for the story to play the owner by hand.
 */
export async function createRelyingParty({
  issuer,
  clientId,
  clientSecret,
  redirectUri,
  resource,
  fetch,
}: {
  issuer: string
  clientId: string
  clientSecret: string
  redirectUri: string
  resource: string
  fetch: typeof globalThis.fetch
}) {
  const config = await oidc.discovery(
    new URL(issuer),
    clientId,
    undefined,
    oidc.ClientSecretBasic(clientSecret),
    { [oidc.customFetch]: (url, options) => fetch(url, options as RequestInit) },
  )
  const ownerKey = await oidc.randomDPoPKeyPair('ES256', { extractable: true })
  const DPoP = oidc.getDPoPHandle(config, ownerKey)

  return {
    ownerKey,

    /** Pushes an authorization request; the DPoP proof there binds the code to our key. */
    async begin(): Promise<Login> {
      const codeVerifier = oidc.randomPKCECodeVerifier()
      const state = oidc.randomState()
      const nonce = oidc.randomNonce()
      const authorizeUrl = await oidc.buildAuthorizationUrlWithPAR(
        config,
        {
          redirect_uri: redirectUri,
          scope: 'openid profile read',
          resource,
          code_challenge: await oidc.calculatePKCECodeChallenge(codeVerifier),
          code_challenge_method: 'S256',
          state,
          nonce,
        },
        { DPoP },
      )
      return { authorizeUrl, codeVerifier, state, nonce }
    },

    /** Exchanges the code that came back with the browser. */
    async finish(callback: URL, { codeVerifier, state, nonce }: Login): Promise<Tokens> {
      const answer = await oidc.authorizationCodeGrant(
        config,
        callback,
        { pkceCodeVerifier: codeVerifier, expectedState: state, expectedNonce: nonce },
        { resource },
        { DPoP },
      )
      return asTokens(answer, answer.claims()?.sub)
    },

    async refresh({ refreshToken, subject }: Tokens): Promise<Tokens> {
      const answer = await oidc.refreshTokenGrant(config, refreshToken, { resource }, { DPoP })
      return asTokens(answer, subject)
    },

    callApi({ accessToken }: Tokens): Promise<Response> {
      return oidc.fetchProtectedResource(
        config,
        accessToken,
        new URL('/orders', resource),
        'GET',
        undefined,
        undefined,
        { DPoP },
      )
    },
  }
}

function asTokens(
  { access_token, refresh_token }: { access_token: string; refresh_token?: string },
  subject: string | undefined,
): Tokens {
  if (!refresh_token || !subject) throw new Error('the server issued no refresh or ID token')
  return { accessToken: access_token, refreshToken: refresh_token, subject }
}
