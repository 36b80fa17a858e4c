/** Access tokens of all configured issuers, and the cache of those found genuine. */
import { type BindingMethod, type Confirmation, parseConfirmation } from './confirmation.ts'
import { type Decrypter, maxTokenLength } from './decryption.ts'
import { VerifyError } from './errors.ts'
import type { Introspector } from './introspection.ts'
import type { Jwks } from './jwks.ts'
import { verifyJwtAccessToken } from './jwt-access-token.ts'
import { deepFreeze } from './lib/deep-freeze.ts'
import { KnownHeaders, parseJwt } from './lib/jwt.ts'
import { RecentMap } from './lib/recent-map.ts'

/**
 * The claims of an access token. A JWT has all that are named here but `scope` and `nbf`
 * (RFC 9068 section 2.2); of an introspection answer only `iss` is certain, for RFC 7662 section
 * 2.2 makes them optional.
 */
export type AccessTokenClaims = Readonly<{
  iss: string
  sub?: string
  aud?: string | readonly string[]
  client_id?: string
  /** Seconds since the epoch. */
  exp?: number
  /** Seconds since the epoch. */
  iat?: number
  /** Seconds since the epoch. */
  nbf?: number
  jti?: string
  /** Space-delimited. */
  scope?: string
  [claim: string]: unknown
}>

/** An access token that was found genuine; not yet that the sender may use it. */
export type AccessToken = Readonly<{
  claims: AccessTokenClaims
  issuer: string
  /** How the token was checked. */
  format: 'jwt' | 'introspection'
  /** What has to be proven; empty for a bearer token. */
  confirmations: readonly Confirmation[]
  /** The method of each confirmation. */
  methods: readonly BindingMethod[]
}>

/** How the tokens of one issuer are checked. */
export type IssuerPolicy = Readonly<{
  issuer: string
  audience: readonly string[]
  algorithms: readonly string[]
  methods: readonly BindingMethod[]
  allowBearer: boolean
  requireEncryption: boolean
  harmlessMembers: readonly string[]
  jwks: Jwks
  introspector: Introspector | undefined
}>

/** Times in seconds. */
export type AccessTokenOptions = Readonly<{
  issuers: readonly IssuerPolicy[]
  decrypter: Decrypter | undefined
  now: () => number
  clockTolerance: number
  /** For how long a verified JWT is trusted without looking at its signature again. */
  cacheSeconds: number
  cacheSize: number
}>

/** A genuine token and the policy that holds for it. */
export type Trusted = Readonly<{ token: AccessToken; policy: IssuerPolicy }>

/** Verifies access tokens and remembers them. */
export type AccessTokenVerifier = Readonly<{
  /**
   * `hash` is the base64url SHA-256 of the token, which is also what a DPoP proof's `ath` holds;
   * `now` is in seconds.
   */
  verify(token: string, hash: string, now: number): Trusted | Promise<Trusted>
}>

/** What one way of checking has found, and for how many seconds it may be remembered. */
export type Finding = Readonly<{
  claims: AccessTokenClaims
  format: AccessToken['format']
  policy: IssuerPolicy
  cacheSeconds: number
  /** What the claims take in memory, roughly: the length of their text. */
  bytes: number
}>

type Remembered = Trusted & Readonly<{ until: number; bytes: number }>

/** The cache has room for as many tokens as it is asked to hold while they are no longer than this. */
const averageBytes = 2048
const bytesOf = (_hash: string, { bytes }: Remembered) => bytes

/** Makes an {@link AccessTokenVerifier}. */
export function createAccessTokenVerifier(options: AccessTokenOptions): AccessTokenVerifier {
  const { issuers, decrypter, now, clockTolerance, cacheSeconds, cacheSize } = options
  // Keyed by hash: a heap dump of the cache holds no token.
  const cache = new RecentMap<Remembered>(cacheSize, cacheSize * averageBytes, bytesOf)
  const headers = new KnownHeaders()
  const introspecting = issuers.find(({ introspector }) => introspector !== undefined)

  async function check(sent: string, hash: string): Promise<Finding> {
    if (sent.length > maxTokenLength) {
      throw new VerifyError('token_too_large', 'Access token is too long')
    }
    const encrypted = decrypter !== undefined && sent.split('.').length === 5
    const token = encrypted ? await decrypter(sent) : sent
    const jwt = parseJwt(token, headers)
    // The issuer is not verified yet: it only selects whose rules, and whose keys, are to be used.
    const policy = jwt ? issuers.find(({ issuer }) => issuer === jwt.claims.iss) : introspecting
    if (policy?.introspector !== undefined) {
      return { ...(await policy.introspector(sent, hash)), format: 'introspection', policy }
    }
    if (jwt === undefined) throw new VerifyError('token_malformed', 'Access token is not a JWT')
    const claims = await verifyJwtAccessToken(jwt, policy, encrypted)
    headers.remember(jwt)
    const bytes = token.length
    return { claims, format: 'jwt', policy: policy as IssuerPolicy, cacheSeconds, bytes }
  }

  async function checkAndRemember(sent: string, hash: string): Promise<Trusted> {
    const { claims, format, policy, cacheSeconds, bytes } = await check(sent, hash)
    checkTimes(claims, now(), clockTolerance)
    const confirmations = parseConfirmation(claims.cnf, policy.harmlessMembers)
    const token: AccessToken = Object.freeze({
      claims: deepFreeze(claims),
      issuer: policy.issuer,
      format,
      confirmations,
      methods: Object.freeze(confirmations.map(({ method }) => method)),
    })
    const trusted = Object.freeze({ token, policy, until: now() + cacheSeconds, bytes })
    cache.set(hash, trusted)
    return trusted
  }

  return Object.freeze({
    verify(token: string, hash: string, now: number): Trusted | Promise<Trusted> {
      const cached = cache.get(hash)
      if (cached === undefined || now >= cached.until) return checkAndRemember(token, hash)
      checkTimes(cached.token.claims, now, clockTolerance)
      return cached
    },
  })
}

function checkTimes(claims: AccessTokenClaims, now: number, tolerance: number): void {
  if (claims.exp !== undefined && now >= claims.exp + tolerance) {
    throw new VerifyError('token_expired', 'Access token has expired')
  }
  if (claims.nbf !== undefined && now < claims.nbf - tolerance) {
    throw new VerifyError('token_not_yet_valid', 'Access token is not valid yet')
  }
}
