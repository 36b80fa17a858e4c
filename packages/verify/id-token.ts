/** ID tokens that are bound to a key of the browser, for relying parties. */
import {
  type BindingMethod,
  type CertificateFact,
  type Confirmation,
  confirmCertificate,
  confirmTokenBinding,
  harmlessMembers,
  parseConfirmation,
  type TokenBindingFact,
} from './confirmation.ts'
import { defaultClockTolerance } from './dpop.ts'
import { VerifyError } from './errors.ts'
import { createIssuerJwks, type IssuerKeyOptions } from './issuer-keys.ts'
import { namesAudience } from './jwt-access-token.ts'
import {
  checkAlgorithms,
  checkNames,
  duration,
  flag,
  namesOf,
  optionalFunction,
  textList,
} from './lib/check.ts'
import { deepFreeze } from './lib/deep-freeze.ts'
import { constantTimeEqual } from './lib/equal.ts'
import { type ParsedJwt, parseJwt } from './lib/jwt.ts'
import { verifySignature } from './lib/signature.ts'

/** Options of {@link createIdTokenVerifier}. All times are in seconds unless said otherwise. */
export type IdTokenOptions = IssuerKeyOptions &
  Readonly<{
    clientId: string
    /** JWS algorithms accepted. Default: every asymmetric one this library knows. */
    algorithms?: readonly string[]
    /** Accept ID tokens that are bound to nothing. Default false. */
    allowUnbound?: boolean
    /** Default 10. */
    clockTolerance?: number
  }>

const idTokenOptions = namesOf<IdTokenOptions>({
  issuer: true,
  jwksUri: true,
  jwks: true,
  jwksMaxAge: true,
  jwksMaxStale: true,
  jwksCooldown: true,
  fetch: true,
  now: true,
  clientId: true,
  algorithms: true,
  allowUnbound: true,
  clockTolerance: true,
})

const expectationNames = namesOf<IdTokenExpectation>({
  nonce: true,
  maxAge: true,
  jkt: true,
  tokenBinding: true,
  certificate: true,
})

/** What one ID token has to match: the request it answers, and the browser that brings it. */
export type IdTokenExpectation = Readonly<{
  /** The `nonce` of the authentication request, or `null` if it had none. */
  nonce: string | null
  /** The `max_age` of the authentication request, in seconds. */
  maxAge?: number
  /**
   * RFC 7638 thumbprint of the key that this browser has proven: the key of its device bound
   * session (DBSC), or of a DPoP proof.
   */
  jkt?: string
  /**
   * The browser's Token Binding with this relying party. In the code flow it is the one of the
   * browser's connection, not of the connection to the token endpoint (OpenID Connect Token Bound
   * Authentication section 3).
   */
  tokenBinding?: TokenBindingFact
  certificate?: CertificateFact
}>

/** An ID token that may be believed. */
export type VerifiedIdToken = Readonly<{
  claims: Readonly<{ iss: string; sub: string; exp: number; iat: number; [claim: string]: unknown }>
  /** What was proven, one for each member of `cnf`. */
  methods: readonly BindingMethod[]
}>

/** Made by {@link createIdTokenVerifier}. */
export type IdTokenVerifier = Readonly<{
  /** @throws {@link VerifyError} */
  verifyIdToken(idToken: string, expected: IdTokenExpectation): Promise<VerifiedIdToken>
}>

/** An ID token of 16 KiB would be a directory. */
const maxLength = 16_384

/**
 * Makes a verifier for ID tokens of one issuer (OpenID Connect Core section 3.1.3.7) whose `cnf` is
 * compared with what the browser has proven.
 *
 * It does NOT prove anything itself: `jkt`, `tokenBinding` and `certificate` are facts that were
 * established before. It does NOT check `at_hash` or `c_hash`, which the code flow does not need,
 * and does NOT decrypt.
 *
 * @example
 * ```ts
 * const { verifyIdToken } = createIdTokenVerifier({ issuer: 'https://op.example', clientId: 'rp' })
 * const { claims } = await verifyIdToken(idToken, { nonce, jkt: session.provenKeyThumbprint })
 * ```
 *
 * @throws TypeError when an option is missing or malformed.
 */
export function createIdTokenVerifier(options: IdTokenOptions): IdTokenVerifier {
  checkNames('options', options, idTokenOptions)
  optionalFunction('now', options.now)
  optionalFunction('fetch', options.fetch)
  const allowUnbound = flag('allowUnbound', options.allowUnbound)
  const milliseconds = options.now ?? Date.now
  const now = () => milliseconds() / 1000
  const jwks = createIssuerJwks(options, now)
  const [clientId] = textList('clientId', options.clientId) as readonly [string]
  const algorithms = checkAlgorithms('algorithms', options.algorithms)
  const tolerance = duration('clockTolerance', options.clockTolerance, defaultClockTolerance)

  async function checkSignature({ header, input, signature }: ParsedJwt): Promise<void> {
    const { alg, kid } = header
    if (typeof alg !== 'string' || !algorithms.includes(alg)) {
      throw new VerifyError('token_algorithm', 'ID token alg is not accepted')
    }
    if (kid !== undefined && typeof kid !== 'string') {
      throw new VerifyError('token_malformed', 'ID token kid must be a string')
    }
    const key = await jwks.find(alg, kid)
    if (!verifySignature(alg, key, input, signature)) {
      throw new VerifyError('token_signature', 'ID token signature does not verify')
    }
  }

  return Object.freeze({
    async verifyIdToken(idToken: string, expected: IdTokenExpectation): Promise<VerifiedIdToken> {
      checkExpectation(expected)
      if (typeof idToken !== 'string') {
        throw new VerifyError('token_malformed', 'ID token is not a JWT')
      }
      if (idToken.length > maxLength) {
        throw new VerifyError('token_too_large', 'ID token is too long')
      }
      const jwt = parseJwt(idToken)
      if (jwt === undefined) throw new VerifyError('token_malformed', 'ID token is not a JWT')
      const { header, claims } = jwt

      // Access tokens, logout tokens and proofs of the same issuer carry a typ of their own.
      if (header.typ !== undefined && header.typ !== 'JWT') {
        throw new VerifyError('token_type', 'ID token typ must be JWT or absent')
      }
      if (header.crit !== undefined) {
        throw new VerifyError('token_malformed', 'ID token has critical extensions')
      }

      // OpenID Connect Core section 3.1.3.7, steps 2 to 13.
      if (claims.iss !== options.issuer) {
        throw new VerifyError('token_issuer', 'ID token is from another issuer')
      }
      if (!namesAudience(claims.aud, [clientId])) {
        throw new VerifyError('token_audience', 'ID token is for another client')
      }
      const shared = Array.isArray(claims.aud) && claims.aud.length > 1
      if (claims.azp === undefined ? shared : claims.azp !== clientId) {
        throw new VerifyError('token_audience', 'ID token azp is another client')
      }
      await checkSignature(jwt)
      const { sub, exp, iat } = claims
      if (typeof sub !== 'string' || !isTime(exp) || !isTime(iat)) {
        throw new VerifyError('token_claims', 'ID token needs sub, exp and iat')
      }
      if (now() >= exp + tolerance) throw new VerifyError('token_expired', 'ID token has expired')
      if (iat > now() + tolerance) {
        throw new VerifyError('token_not_yet_valid', 'ID token is from the future')
      }
      if (expected.nonce === null ? claims.nonce !== undefined : claims.nonce !== expected.nonce) {
        throw new VerifyError('id_token_nonce', 'ID token nonce is not the one of the request')
      }
      const { maxAge } = expected
      const { auth_time: authTime } = claims
      if (
        maxAge !== undefined &&
        !(typeof authTime === 'number' && authTime + maxAge + tolerance >= now())
      ) {
        throw new VerifyError('insufficient_user_authentication', 'User was signed in too long ago')
      }

      const confirmations = parseConfirmation(claims.cnf, harmlessMembers)
      if (confirmations.length === 0 && !allowUnbound) {
        throw new VerifyError('bearer_refused', 'ID token must be bound to a key of the browser')
      }
      for (const confirmation of confirmations) confirm(confirmation, expected)
      return Object.freeze({
        claims: deepFreeze(claims) as VerifiedIdToken['claims'],
        methods: Object.freeze(confirmations.map(({ method }) => method)),
      })
    },
  })
}

/** What is left out is not checked: so it is left out knowingly, and of the right type. */
function checkExpectation(expected: IdTokenExpectation): void {
  checkNames('expected', expected, expectationNames)
  if (expected.nonce !== null && (typeof expected.nonce !== 'string' || expected.nonce === '')) {
    throw new TypeError('expected: nonce must be that of the request, or null')
  }
  if (expected.maxAge !== undefined) duration('expected: maxAge', expected.maxAge, 0)
}

/** 1e999 is Infinity to JSON.parse: a token that never expires. */
function isTime(value: unknown): value is number {
  return Number.isFinite(value)
}

function confirm(confirmation: Confirmation, expected: IdTokenExpectation): void {
  if (confirmation.method === 'mtls') {
    confirmCertificate(confirmation.thumbprint, expected.certificate)
  } else if (confirmation.method === 'token-binding') {
    confirmTokenBinding(confirmation.tbh, expected.tokenBinding)
  } else if (!constantTimeEqual(expected.jkt, confirmation.jkt)) {
    throw new VerifyError('dpop_key_mismatch', 'ID token is bound to another key')
  }
}
