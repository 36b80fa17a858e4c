import * as oidc from 'openid-client'
import type { KeyPair } from '../../src/doctor/proof.ts'

export interface Login {
  /** Where the browser is sent. */
  readonly authorizeUrl: URL
  readonly codeVerifier: string
  readonly state: string
  readonly nonce: string
}

/** What binds a code to who began the login. */
export interface CodeChallenge {
  readonly codeVerifier: string
  readonly parameters: Readonly<{ code_challenge: string; code_challenge_method: string }>
}

export interface Tokens {
  readonly accessToken: string
  readonly refreshToken: string
  readonly subject: string
  readonly idToken?: string | undefined
}

export type RelyingParty = Awaited<ReturnType<typeof createRelyingParty>>

/**
 * The demo's relying party: what an application does with openid-client, as it is published. Its
 * tokens are bound to `dpopKey`, or else to the certificate that `fetch` shows.
 */
export async function createRelyingParty({
  issuer,
  clientId,
  authentication,
  dpopKey,
  redirectUri,
  resource,
  fetch,
}: {
  issuer: string
  clientId: string
  authentication: oidc.ClientAuth
  dpopKey?: KeyPair
  redirectUri: string
  resource: string
  fetch: typeof globalThis.fetch
}) {
  const config = await oidc.discovery(
    new URL(issuer),
    clientId,
    { use_mtls_endpoint_aliases: dpopKey === undefined },
    authentication,
    { [oidc.customFetch]: (url, options) => fetch(url, options as RequestInit) },
  )
  const options = dpopKey ? { DPoP: oidc.getDPoPHandle(config, dpopKey) } : {}

  return {
    /** Pushes an authorization request; a DPoP proof there binds the code to our key. */
    async begin(
      challenge?: CodeChallenge,
      more: Readonly<Record<string, string>> = {},
    ): Promise<Login> {
      const { codeVerifier, parameters } = challenge ?? (await makeChallenge())
      const state = oidc.randomState()
      const nonce = oidc.randomNonce()
      const authorizeUrl = await oidc.buildAuthorizationUrlWithPAR(
        config,
        {
          redirect_uri: redirectUri,
          scope: 'openid profile read',
          resource,
          ...{ ...parameters, ...more },
          state,
          nonce,
        },
        options,
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
        options,
      )
      const subject = answer.claims()?.sub
      if (!subject) throw new Error('the server issued no ID token')
      return { ...asTokens(answer), subject, idToken: answer.id_token }
    },

    async refresh({ refreshToken, subject }: Tokens): Promise<Tokens> {
      const answer = await oidc.refreshTokenGrant(config, refreshToken, { resource }, options)
      return { ...asTokens(answer), subject }
    },

    callApi({ accessToken }: Tokens): Promise<Response> {
      return oidc.fetchProtectedResource(
        config,
        accessToken,
        new URL('/orders', resource),
        'GET',
        undefined,
        undefined,
        options,
      )
    },
  }
}

async function makeChallenge(): Promise<CodeChallenge> {
  const codeVerifier = oidc.randomPKCECodeVerifier()
  const code_challenge = await oidc.calculatePKCECodeChallenge(codeVerifier)
  return { codeVerifier, parameters: { code_challenge, code_challenge_method: 'S256' } }
}

export interface TokenResponse {
  readonly access_token: string
  readonly refresh_token?: string
}

/** What is in a token response. */
export function asTokens({
  access_token,
  refresh_token,
}: TokenResponse): Pick<Tokens, 'accessToken' | 'refreshToken'> {
  if (!refresh_token) throw new Error('the server issued no refresh token')
  return { accessToken: access_token, refreshToken: refresh_token }
}
