/** What the gate asks of an OpenID Connect provider, by openid-client, as a client of one application. */
import type { KeyObject } from 'node:crypto'
import type { Fetch } from '@holdfast/verify'
import {
  createRemoteJWKSet,
  type JWTPayload,
  type JWTVerifyGetKey,
  customFetch as joseFetch,
  jwtVerify,
} from 'jose'
import * as oidc from 'openid-client'

/** A client as the provider knows it. */
export type ClientSettings = Readonly<{
  issuer: string
  clientId: string
  /** For `private_key_jwt`. Left out: a public client, whose codes and tokens are bound by DPoP. */
  clientKey?: KeyObject | undefined
  scopes: readonly string[]
  /** RFC 8707. */
  resource?: string | undefined
  redirectUri: string
  fetch?: Fetch | undefined
}>

/** The key of one session: a private JWK on P-256. */
export type SessionJwk = Readonly<{ x: string; y: string; d: string }>

/** What one authorization request is made of, and its answer compared with. */
export type SignInRequest = Readonly<{
  state: string
  nonce: string
  verifier: string
  key: SessionJwk
  acrValues: readonly string[]
  maxAgeS?: number | undefined
  /** Whether the provider may show no page (`prompt=none`). */
  silent: boolean
}>

/** What the provider has said of a person, and its tokens. */
export type SignedIn = Readonly<{
  claims: Readonly<Record<string, unknown>> & Readonly<{ sub: string; exp: number }>
  tokens: Tokens
}>

/** Tokens that are bound to the key of a session. */
export type Tokens = Readonly<{
  idToken: string
  accessToken: string
  /** DPoP, by any provider that binds tokens. */
  isBound: boolean
  accessEndsAtMs: number
  accessLifeMs: number
  refreshToken?: string | undefined
}>

/** What a logout token names (OpenID Connect Back-Channel Logout 1.0 section 2.4). */
export type LogoutToken = Readonly<{ sid?: string; subject?: string; jti: string; expS: number }>

/** One provider, as the client of one application. Each method throws what openid-client or jose throw. */
export type Provider = Readonly<{
  newKey(): Promise<SessionJwk>
  /** The URL of an authorization request, which was pushed where the provider takes that. */
  begin(request: SignInRequest): Promise<URL>
  /** Redeems the code of an answer, after all checks of state, `iss`, nonce and ID token. */
  finish(answer: URL, request: SignInRequest): Promise<SignedIn>
  /** Gets the next tokens. */
  refresh(refreshToken: string, key: SessionJwk, idToken: string): Promise<Tokens>
  /** Where the person signs out of the provider; `undefined` where it has no such page. */
  signOutUrl(idToken: string, returnTo: string): Promise<URL | undefined>
  verifyLogoutToken(token: string): Promise<LogoutToken>
}>

/** Seconds that the gate waits for an answer of the provider. */
const patienceS = 10

/** Milliseconds after which the provider's metadata are read again. */
const metadataMs = 600_000

/** A default for access tokens without `expires_in`. */
const shortLifeS = 300

/**
 * Makes the client of a provider. Its metadata are read when they are first needed.
 *
 * ID tokens are verified with the provider's keys although they come over TLS. Logout tokens are
 * verified as section 2.6 says; it does NOT remember their `jti`.
 */
export function createProvider(settings: ClientSettings, now: () => number = Date.now): Provider {
  let found: Readonly<{ config: Promise<oidc.Configuration>; atMs: number }> | undefined
  let keys: Readonly<{ url: string; get: JWTVerifyGetKey }> | undefined

  function configuration(): Promise<oidc.Configuration> {
    if (found !== undefined && now() - found.atMs < metadataMs) return found.config
    const config = discover(settings)
    const attempt = { config, atMs: now() }
    found = attempt
    config.catch(() => {
      if (found === attempt) found = undefined
    })
    return config
  }

  async function handleOf(config: oidc.Configuration, key: SessionJwk) {
    return oidc.getDPoPHandle(config, await importKey(key))
  }

  return Object.freeze({
    async newKey() {
      const { privateKey } = await oidc.randomDPoPKeyPair('ES256', { extractable: true })
      const { x = '', y = '', d = '' } = await crypto.subtle.exportKey('jwk', privateKey)
      return { x, y, d }
    },

    async begin(request: SignInRequest) {
      const config = await configuration()
      const DPoP = await handleOf(config, request.key)
      const metadata = config.serverMetadata()
      const isPushed = metadata.pushed_authorization_request_endpoint !== undefined
      const parameters = {
        redirect_uri: settings.redirectUri,
        scope: settings.scopes.join(' '),
        response_type: 'code',
        code_challenge: await oidc.calculatePKCECodeChallenge(request.verifier),
        code_challenge_method: 'S256',
        state: request.state,
        nonce: request.nonce,
        // RFC 9449 section 10: the code is of no use without this key.
        dpop_jkt: await DPoP.calculateThumbprint(),
        ...(settings.resource !== undefined && { resource: settings.resource }),
        ...(request.acrValues.length > 0 && { acr_values: request.acrValues.join(' ') }),
        ...(request.maxAgeS !== undefined && { max_age: String(request.maxAgeS) }),
        ...(request.silent && { prompt: 'none' }),
        ...(metadata.claims_parameter_supported === true && { claims: wantedClaims }),
      }
      return isPushed
        ? oidc.buildAuthorizationUrlWithPAR(config, parameters, { DPoP })
        : oidc.buildAuthorizationUrl(config, parameters)
    },

    async finish(answer: URL, request: SignInRequest) {
      const config = await configuration()
      const DPoP = await handleOf(config, request.key)
      const response = await oidc.authorizationCodeGrant(
        config,
        answer,
        {
          pkceCodeVerifier: request.verifier,
          expectedState: request.state,
          expectedNonce: request.nonce,
          ...(request.maxAgeS !== undefined && { maxAge: request.maxAgeS }),
        },
        settings.resource === undefined ? {} : { resource: settings.resource },
        { DPoP },
      )
      const own = response.claims()
      if (own === undefined) throw new TypeError('the provider has sent no ID token')
      // UserInfo takes no token for another resource.
      const more =
        settings.resource === undefined ? await userInfo(config, response, DPoP, own.sub) : {}
      const scope = response.scope ?? settings.scopes.join(' ')
      return {
        // What the ID token says counts: UserInfo has no times and no nonce.
        claims: { ...more, ...own, scope },
        tokens: tokensOf(response, response.id_token ?? ''),
      }
    },

    async refresh(refreshToken: string, key: SessionJwk, idToken: string) {
      const config = await configuration()
      const DPoP = await handleOf(config, key)
      const parameters = settings.resource === undefined ? {} : { resource: settings.resource }
      const response = await oidc.refreshTokenGrant(config, refreshToken, parameters, { DPoP })
      const tokens = tokensOf(response, response.id_token ?? idToken)
      return { ...tokens, refreshToken: tokens.refreshToken ?? refreshToken }
    },

    async signOutUrl(idToken: string, returnTo: string) {
      const config = await configuration()
      if (config.serverMetadata().end_session_endpoint === undefined) return undefined
      return oidc.buildEndSessionUrl(config, {
        id_token_hint: idToken,
        post_logout_redirect_uri: returnTo,
      })
    },

    async verifyLogoutToken(token: string) {
      const { jwks_uri: url, issuer } = (await configuration()).serverMetadata()
      if (url === undefined) throw new TypeError('the provider publishes no keys')
      if (keys?.url !== url) keys = { url, get: keySetAt(url, settings.fetch) }
      const { payload, protectedHeader } = await jwtVerify(token, keys.get, {
        issuer,
        audience: settings.clientId,
        algorithms: [...signatureAlgorithms],
        clockTolerance: 10,
        maxTokenAge: 600,
        currentDate: new Date(now()),
      })
      const { typ = 'logout+jwt' } = protectedHeader
      if (!/^(?:application\/)?logout\+jwt$/i.test(typ)) throw new TypeError('typ is another one')
      return logoutOf(payload)
    },
  })

  function tokensOf(response: oidc.TokenEndpointResponse, idToken: string): Tokens {
    const accessLifeMs = (response.expires_in ?? shortLifeS) * 1000
    return {
      idToken,
      accessToken: response.access_token,
      isBound: response.token_type === 'dpop',
      accessEndsAtMs: now() + accessLifeMs,
      accessLifeMs,
      refreshToken: response.refresh_token,
    }
  }
}

/** What routes ask for, and what a provider otherwise tells at UserInfo only. */
const wantedClaims = JSON.stringify({
  id_token: {
    ...{ auth_time: null, acr: null, amr: null },
    ...{ name: null, email: null, preferred_username: null, groups: null },
  },
})

const signatureAlgorithms = [
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
  ...['ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'],
] as const

const logoutEvent = 'http://schemas.openid.net/event/backchannel-logout'

/** Section 2.6, steps 4 to 6: what a logout token must have beside `iat`, and must not have. */
function logoutOf({ sub, sid, jti, nonce, events, exp }: JWTPayload): LogoutToken {
  const isEvent =
    typeof events === 'object' &&
    events !== null &&
    typeof Reflect.get(events, logoutEvent) === 'object'
  if (!isEvent) throw new TypeError('events does not name a logout')
  // With a nonce it could be an ID token.
  if (nonce !== undefined) throw new TypeError('a logout token has no nonce')
  const named = {
    ...(typeof sid === 'string' && { sid }),
    ...(typeof sub === 'string' && { subject: sub }),
  }
  if (Object.keys(named).length === 0) throw new TypeError('neither sub nor sid is there')
  if (typeof jti !== 'string' || jti.length > 512 || typeof exp !== 'number') {
    throw new TypeError('jti or exp is malformed')
  }
  return { ...named, jti, expS: exp }
}

function keySetAt(url: string, fetch: Fetch | undefined): JWTVerifyGetKey {
  const options = { timeoutDuration: patienceS * 1000, cooldownDuration: 30_000 }
  const own = fetch && { [joseFetch]: (at: string, init: RequestInit) => fetch(at, init) }
  return createRemoteJWKSet(new URL(url), { ...options, ...own })
}

async function discover(settings: ClientSettings): Promise<oidc.Configuration> {
  const { issuer, clientId, clientKey, fetch } = settings
  const url = new URL(issuer)
  const authentication =
    clientKey === undefined
      ? oidc.None()
      : oidc.PrivateKeyJwt(
          clientKey.toCryptoKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign']),
        )
  const config = await oidc.discovery(url, clientId, undefined, authentication, {
    timeout: patienceS,
    // The configuration has let http through on loopback only.
    execute: [
      oidc.enableNonRepudiationChecks,
      ...(url.protocol === 'http:' ? [oidc.allowInsecureRequests] : []),
    ],
    ...(fetch && {
      [oidc.customFetch]: (at: string, init: oidc.CustomFetchOptions) =>
        fetch(at, init as RequestInit),
    }),
  })
  return config
}

/** Claims that the provider tells only there. */
async function userInfo(
  config: oidc.Configuration,
  response: oidc.TokenEndpointResponse,
  DPoP: oidc.DPoPHandle,
  subject: string,
): Promise<Record<string, unknown>> {
  const isOffered = config.serverMetadata().userinfo_endpoint !== undefined
  if (!isOffered || response.scope === 'openid') return {}
  return { ...(await oidc.fetchUserInfo(config, response.access_token, subject, { DPoP })) }
}

async function importKey({ x, y, d }: SessionJwk): Promise<oidc.CryptoKeyPair> {
  const jwk = { kty: 'EC', crv: 'P-256', x, y }
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256' }
  const [privateKey, publicKey] = await Promise.all([
    crypto.subtle.importKey('jwk', { ...jwk, d }, algorithm, false, ['sign']),
    crypto.subtle.importKey('jwk', jwk, algorithm, true, ['verify']),
  ])
  return { privateKey, publicKey }
}
