/**
 * DPoP proofs (RFC 9449), as a pure function of the proof and of what is expected of it.
 *
 * It does no I/O, knows no framework and keeps no state beyond the caches it is handed. Resource
 * servers and authorization servers use the same function.
 */
import type { KeyObject } from 'node:crypto'
import { headerValues, type RequestHeaders } from './credentials.ts'
import { VerifyError } from './errors.ts'
import { decodeBase64url } from './lib/base64url.ts'
import { checkNames, namesOf } from './lib/check.ts'
import { constantTimeEqual } from './lib/equal.ts'
import { isObject } from './lib/json.ts'
import { hasPrivateMembers, importPublicJwk } from './lib/jwk.ts'
import { splitCompactJws } from './lib/jws.ts'
import { decodeJson } from './lib/jwt.ts'
import { RecentMap } from './lib/recent-map.ts'
import { suitsAlgorithm, supportedAlgorithms, verifySignature } from './lib/signature.ts'
import { sameHttpUri } from './lib/uri.ts'

/** A proof of 8 KiB holds the largest allowed RSA key several times over. */
const maxProofLength = 8192

/** Long enough for any identifier, short enough that nobody stores novels in logs. */
const maxJtiLength = 512

/** What a valid proof has shown. */
export type DPoPProof = Readonly<{
  /** RFC 7638 SHA-256 thumbprint of the key that was proven. */
  jkt: string
  jti: string
  htm: string
  htu: string
  /** Seconds since the epoch, as the client's clock had it. */
  iat: number
  nonce: string | undefined
}>

/** What a proof has to match. */
export type DPoPExpectation = Readonly<{
  /** Method of the request, e.g. `POST`. Compared exactly. */
  method: string
  /** The request's public URI; query and fragment are ignored. Never built from `Host`. */
  uri: string
  /** Seconds since the epoch. */
  now: number
  /** JWS algorithms accepted. Default: all that this library knows, none of them symmetric. */
  algorithms?: readonly string[]
  /** Age in seconds up to which a proof is accepted. Default 60. */
  maxAge?: number
  /** Seconds by which the client's clock may be wrong, either way. Default 10. */
  clockTolerance?: number
  /** Base64url SHA-256 of the access token that came with the proof, if one did. */
  ath?: string
  /** Thumbprint of the key the access token is bound to, if one came. */
  jkt?: string
  /** Says whether the proof's nonce, if any, is acceptable. Left out: nonces are not looked at. */
  acceptNonce?: (nonce: string | undefined) => boolean
  /**
   * Where imported keys are remembered. The key of a proof for a `jkt`, which an access token
   * vouches for, enters by itself; any other one by {@link ProofKeys.remember}.
   */
  keys?: ProofKeys
}>

type ProofHeader = Readonly<{ alg: string; key: KeyObject; jkt: string }>

/** The header of an RSA key of 3072 bits has 800 characters. Longer ones are imported each time. */
const maxRememberedHeader = 1024

/**
 * Remembers imported keys by the encoded header they came in: a client sends the same header with
 * each proof, and importing a key costs half a signature verification. Anyone can make a key and a
 * proof, so that a key enters only after it was good for something: as the key that an access token
 * is bound to, or by {@link ProofKeys.remember}. Strangers cannot push out the keys of real clients.
 */
export class ProofKeys {
  readonly #headers: RecentMap<ProofHeader>

  /** @param limit - how many keys are kept for certain; up to twice as many may be. */
  constructor(limit = 5000) {
    this.#headers = new RecentMap(limit, limit * maxRememberedHeader)
  }

  /**
   * Keeps the key of a proof: for an authorization server, once the request that came with it has
   * been granted. It does NOT verify the proof; {@link verifyDPoPProof} has to have done that.
   */
  remember(proof: string): void {
    const jws = splitCompactJws(proof)
    if (jws === undefined || this.#headers.get(jws.header) !== undefined) return
    const header = decodeJson(jws.header)
    if (header !== undefined) this.set(jws.header, importHeader(header))
  }

  /** @internal */
  get(encodedHeader: string): ProofHeader | undefined {
    return this.#headers.get(encodedHeader)
  }

  /** @internal */
  set(encodedHeader: string, header: ProofHeader): void {
    if (encodedHeader.length > maxRememberedHeader) return
    this.#headers.set(encodedHeader, Object.freeze(header))
  }
}

/**
 * Verifies one DPoP proof by RFC 9449 section 4.3, steps 2 to 12.
 *
 * It does NOT check that the request had only one `DPoP` header field (step 1), and it does NOT
 * detect replays (section 11.1): record {@link replayKey} in a `ReplayStore` afterwards. With `ath`
 * and `jkt` left out it says nothing about any access token.
 *
 * @example
 * ```ts
 * const proof = verifyDPoPProof(header, {
 *   method: 'POST',
 *   uri: 'https://as.example/token',
 *   now: Math.floor(Date.now() / 1000),
 * })
 * ```
 *
 * @throws {@link VerifyError} with a `dpop_…` code.
 */
export function verifyDPoPProof(proof: string, expected: DPoPExpectation): DPoPProof {
  checkExpectation(expected)
  if (typeof proof !== 'string') throw new VerifyError('dpop_malformed', 'DPoP proof is not a JWT')
  if (proof.length > maxProofLength) {
    throw new VerifyError(
      'dpop_too_large',
      `DPoP proof is longer than ${maxProofLength} characters`,
    )
  }

  // Step 1: one proof. No JWT has a comma: there, two header fields were joined.
  if (proof.includes(',')) throw new VerifyError('dpop_multiple', 'More than one DPoP proof')

  // Step 2: a single well-formed JWT.
  const jws = splitCompactJws(proof)
  if (jws === undefined) throw new VerifyError('dpop_malformed', 'DPoP proof is not a JWT')
  const known = expected.keys?.get(jws.header)
  const header = known ?? decodeJson(jws.header)
  const payload = decodeJson(jws.payload)
  const signature = decodeBase64url(jws.signature)
  if (header === undefined || payload === undefined || signature === undefined) {
    throw new VerifyError('dpop_malformed', 'DPoP proof is not a JWT')
  }

  // Step 3: all required claims, of the right types.
  const { jti, htm, htu, iat, ath, nonce } = payload
  if (typeof jti !== 'string' || jti === '' || jti.length > maxJtiLength) {
    throw new VerifyError('dpop_claims', 'DPoP proof jti must be a string of reasonable length')
  }
  if (typeof htm !== 'string') throw new VerifyError('dpop_claims', 'DPoP proof htm missing')
  if (typeof htu !== 'string') throw new VerifyError('dpop_claims', 'DPoP proof htu missing')
  if (typeof iat !== 'number' || !Number.isFinite(iat)) {
    throw new VerifyError('dpop_claims', 'DPoP proof iat missing')
  }
  if (nonce !== undefined && typeof nonce !== 'string') {
    throw new VerifyError('dpop_claims', 'DPoP proof nonce must be a string')
  }

  // Steps 4, 5 and 7 look at the header alone, and were passed by a known one. Policy may differ
  // between two uses of one header.
  const algorithms = expected.algorithms ?? supportedAlgorithms
  const { alg, key, jkt } = known ?? importHeader(header)
  if (!algorithms.includes(alg)) {
    throw new VerifyError('dpop_algorithm', 'DPoP proof alg is not accepted')
  }

  // Step 6: the signature verifies with the key in the header.
  if (!verifySignature(alg, key, Buffer.from(jws.signingInput, 'latin1'), signature)) {
    throw new VerifyError('dpop_signature', 'DPoP proof signature does not verify')
  }

  // Step 8: method.
  if (htm !== expected.method) {
    throw new VerifyError('dpop_method', 'DPoP proof htm mismatch', {
      cause: { expected: expected.method, actual: htm },
    })
  }

  // Step 9: URI, without query and fragment.
  if (!sameHttpUri(htu, expected.uri)) {
    throw new VerifyError('dpop_uri', 'DPoP proof htu mismatch', {
      cause: { expected: expected.uri, actual: htu },
    })
  }

  // Step 10: the server's nonce.
  if (expected.acceptNonce !== undefined && expected.acceptNonce(nonce) !== true) {
    const message =
      nonce === undefined ? 'DPoP proof needs a nonce' : 'DPoP proof nonce is not current'
    throw new VerifyError('dpop_nonce', message)
  }

  // Step 11: creation time.
  const { now, maxAge = defaultMaxAge, clockTolerance = defaultClockTolerance } = expected
  if (iat > now + clockTolerance) {
    throw new VerifyError('dpop_not_yet_valid', 'DPoP proof is from the future', {
      cause: { now, iat },
    })
  }
  if (iat < now - maxAge - clockTolerance) {
    throw new VerifyError('dpop_expired', 'DPoP proof is too old', { cause: { now, iat } })
  }

  // Step 12: this access token, and the key it is bound to.
  if (expected.ath !== undefined && !constantTimeEqual(ath, expected.ath)) {
    throw new VerifyError('dpop_token_hash', 'DPoP proof ath is not for this access token')
  }
  if (expected.jkt !== undefined && !constantTimeEqual(jkt, expected.jkt)) {
    throw new VerifyError('dpop_key_mismatch', 'Access token is bound to another key')
  }

  if (known === undefined && expected.jkt !== undefined) {
    expected.keys?.set(jws.header, { alg, key, jkt })
  }
  return Object.freeze({ jkt, jti, htm, htu, iat, nonce })
}

const expectationNames = namesOf<DPoPExpectation>({
  method: true,
  uri: true,
  now: true,
  algorithms: true,
  maxAge: true,
  clockTolerance: true,
  ath: true,
  jkt: true,
  acceptNonce: true,
  keys: true,
})

/** What cannot be compared would never be refused. */
function checkExpectation(expected: DPoPExpectation): void {
  checkNames('expected', expected, expectationNames)
  for (const name of ['now', 'maxAge', 'clockTolerance'] as const) {
    const value = name === 'now' ? expected.now : (expected[name] ?? 0)
    if (typeof value !== 'number' || Number.isNaN(value)) {
      throw new TypeError(`expected: ${name} must be a number of seconds`)
    }
  }
  if (expected.algorithms !== undefined && !Array.isArray(expected.algorithms)) {
    throw new TypeError('expected: algorithms must be an array')
  }
}

/** Seconds; the defaults of {@link DPoPExpectation}. */
export const defaultMaxAge = 60
/** Seconds; the defaults of {@link DPoPExpectation}. */
export const defaultClockTolerance = 10

/**
 * What must not be seen twice (RFC 9449 section 11.1): the `jti` of one key.
 *
 * Neither the proof nor its signature will do, for a valid ECDSA signature can be turned into
 * another valid one without the key. Scoped by key, so that no client can use up another one's.
 */
export function replayKey(proof: DPoPProof): string {
  return `${proof.jkt}.${proof.jti}`
}

function importHeader(header: Record<string, unknown>): ProofHeader {
  // Step 4. Without it any JWT of the client would do (section 11.5).
  if (header.typ !== 'dpop+jwt') {
    throw new VerifyError('dpop_type', 'DPoP proof typ must be dpop+jwt')
  }
  // Step 5: a known asymmetric algorithm.
  const { alg, jwk } = header
  if (typeof alg !== 'string' || !supportedAlgorithms.includes(alg)) {
    throw new VerifyError('dpop_algorithm', 'DPoP proof alg is not supported')
  }
  // RFC 7515 section 4.1.11: an extension that must be understood, and is not.
  if (header.crit !== undefined) {
    throw new VerifyError('dpop_malformed', 'DPoP proof has critical extensions')
  }
  if (!isObject(jwk)) throw new VerifyError('dpop_key', 'DPoP proof jwk missing')
  // Step 7. A proof that shows its private key proves nothing.
  if (hasPrivateMembers(jwk)) {
    throw new VerifyError('dpop_key', 'DPoP proof jwk must be a public key')
  }
  // RFC 7517 section 4.4: the algorithm that the key is for, by either name of EdDSA.
  const isForAnother = jwk.alg !== undefined && signedAs(jwk.alg) !== signedAs(alg)
  if (isForAnother || !suitsAlgorithm(alg, jwk)) {
    throw new VerifyError('dpop_algorithm', 'DPoP proof alg does not suit its jwk')
  }
  const imported = importPublicJwk(jwk)
  if (imported === undefined) throw new VerifyError('dpop_key', 'DPoP proof jwk is not usable')
  return { alg, key: imported.key, jkt: imported.thumbprint }
}

const signedAs = (alg: unknown) => (alg === 'Ed25519' ? 'EdDSA' : alg)

/**
 * The DPoP header of a request; undefined where it has none. Several are joined as proxies do it,
 * for {@link verifyDPoPProof} to reject.
 */
export function readDPoPHeader(headers: RequestHeaders): string | undefined {
  const proofs = headerValues(headers, 'dpop')
  return proofs.length === 0 ? undefined : proofs.join(',')
}
