/**
 * Proofs of Device Bound Session Credentials (W3C), as pure functions of the header field and of
 * what is expected of it. A server uses them twice: when a browser registers the key of a session,
 * and each time it refreshes the session's short-lived cookie.
 *
 * The proof carries no time and no address: the challenge in its `jti` is all that makes it fresh.
 */
import { VerifyError } from './errors.ts'
import { decodeBase64url } from './lib/base64url.ts'
import { constantTimeEqual } from './lib/equal.ts'
import { isObject, parseJsonObject } from './lib/json.ts'
import { hasPrivateMembers, importPublicJwk, type PublicKey } from './lib/jwk.ts'
import { type CompactJws, splitCompactJws } from './lib/jws.ts'
import { suitsAlgorithm, verifySignature } from './lib/signature.ts'

/** What browsers register keys for, in order of preference. `none` binds nothing. */
export const dbscAlgorithms: readonly string[] = Object.freeze(['ES256', 'RS256'])

/** A registration proof with an RSA key of 4096 bits has less than half of this. */
const maxProofLength = 8192

/** What a valid proof at registration has shown. */
export type DbscRegistration = Readonly<{
  /** RFC 7638 SHA-256 thumbprint of the key that was proven. */
  jkt: string
  alg: string
  /** The public key, of its required members only: what to keep with the session. */
  jwk: Readonly<Record<string, string>>
  /** The challenge that was answered. */
  challenge: string
  authorization: string | undefined
}>

/** The key of a session, as it was registered. */
export type DbscKey = Readonly<{ alg: string; jwk: Readonly<Record<string, string>> }>

/** What every proof has to match. */
export type DbscExpectation = Readonly<{
  /** Says whether a challenge is one of those that are outstanding for this session. */
  acceptChallenge: (challenge: string) => boolean
  /** The URL of the endpoint, as the browser knows it: what `aud` must be where it is sent. */
  audience: string
}>

/** What a proof at registration has to match. */
export type DbscRegistrationExpectation = DbscExpectation &
  Readonly<{
    /**
     * Says whether `authorization` is what was offered. Left out: none may be there. Asked before
     * `acceptChallenge`, for it may tell which session is meant.
     */
    acceptAuthorization?: (authorization: string | undefined) => boolean
  }>

/**
 * Verifies the proof by which a browser registers a new key for a session.
 *
 * It does NOT use up the challenge: do that afterwards, in one step that only one of two concurrent
 * requests passes. It does NOT know whether the session has a key already: never replace one.
 *
 * @param proof - the value of the `Secure-Session-Response` header field.
 * @throws {@link VerifyError} with a `dbsc_…` code.
 *
 * @example
 * ```ts
 * const { jkt, jwk, alg } = verifyDbscRegistration(request.headers['secure-session-response'], {
 *   audience: 'https://app.example/dbsc/registration',
 *   acceptChallenge: (challenge) => outstanding.has(challenge),
 * })
 * ```
 */
export function verifyDbscRegistration(
  proof: string | undefined,
  expected: DbscRegistrationExpectation,
): DbscRegistration {
  const { jws, header, payload, alg } = readProof(proof)
  const { jwk } = header
  // Section 9.10: the key MUST be in the header at registration.
  if (!isObject(jwk)) throw new VerifyError('dbsc_key', 'DBSC proof jwk missing')
  if (hasPrivateMembers(jwk)) {
    throw new VerifyError('dbsc_key', 'DBSC proof jwk must be a public key')
  }
  const key = importSuitableKey(alg, jwk)
  verifyProofSignature(jws, alg, key)
  const authorization = checkAuthorization(payload.authorization, expected)
  const challenge = checkClaims(payload, expected)
  return Object.freeze({
    jkt: key.thumbprint,
    alg,
    jwk: Object.freeze(key.key.export({ format: 'jwk' }) as Record<string, string>),
    challenge,
    authorization,
  })
}

/**
 * Verifies the proof by which a browser refreshes a session, against the key that was registered.
 *
 * It does NOT use up the challenge. Browsers send one and the same proof again until they are given
 * a new challenge, so a server that does not accepts a proof that was seen for ever.
 *
 * @param proof - the value of the `Secure-Session-Response` header field.
 * @returns the challenge that was answered.
 * @throws {@link VerifyError} with a `dbsc_…` code.
 */
export function verifyDbscRefresh(
  proof: string | undefined,
  key: DbscKey,
  expected: DbscExpectation,
): string {
  const { jws, header, payload, alg } = readProof(proof)
  if (alg !== key.alg) {
    throw new VerifyError('dbsc_algorithm', 'DBSC proof alg is not that of the session')
  }
  // Section 9.10: a refresh MUST NOT bring a key. One that does may mean it to be used.
  if (header.jwk !== undefined) {
    throw new VerifyError('dbsc_key', 'DBSC proof of a refresh must not carry a key')
  }
  verifyProofSignature(jws, key.alg, importSuitableKey(key.alg, key.jwk))
  return checkClaims(payload, expected)
}

/**
 * The text of a header field that is an RFC 9651 string by the specification and comes bare from
 * browsers. Anything else, two fields of one name among it, is `undefined`.
 */
export function parseDbscHeader(value: string | undefined): string | undefined {
  const text = value?.trim() ?? ''
  if (/^[\w.~+/=:-]+$/.test(text)) return text
  // RFC 9651 section 3.3.3, and parameters, which say nothing to us.
  const quoted = /^"((?:[ !#-[\]-~]|\\["\\])+)"(?: *;[\w.*-]+(?:=[\w."-]+)?)*$/.exec(text)?.[1]
  return quoted?.replace(/\\(.)/g, '$1')
}

type Proof = Readonly<{
  jws: CompactJws
  header: Record<string, unknown>
  payload: Record<string, unknown>
  alg: string
}>

function readProof(value: string | undefined): Proof {
  if (value === undefined || value === '') throw new VerifyError('dbsc_missing', 'no DBSC proof')
  if (value.length > maxProofLength) {
    throw new VerifyError(
      'dbsc_too_large',
      `DBSC proof is longer than ${maxProofLength} characters`,
    )
  }
  const jws = splitCompactJws(parseDbscHeader(value) ?? '')
  const header = jws && decodePart(jws.header)
  const payload = jws && decodePart(jws.payload)
  if (jws === undefined || header === undefined || payload === undefined) {
    throw new VerifyError('dbsc_malformed', 'DBSC proof is not a JWT')
  }
  // RFC 7515 section 4.1.11: an extension that must be understood, and is not.
  if (header.crit !== undefined) {
    throw new VerifyError('dbsc_malformed', 'DBSC proof has critical extensions')
  }
  // Without it a DPoP proof of the same key would do.
  if (header.typ !== 'dbsc+jwt') {
    throw new VerifyError('dbsc_type', 'DBSC proof typ must be dbsc+jwt')
  }
  const { alg } = header
  if (typeof alg !== 'string' || !dbscAlgorithms.includes(alg)) {
    throw new VerifyError('dbsc_algorithm', 'DBSC proof alg is not accepted')
  }
  return { jws, header, payload, alg }
}

function importSuitableKey(alg: string, jwk: Readonly<Record<string, unknown>>): PublicKey {
  if (!suitsAlgorithm(alg, jwk)) {
    throw new VerifyError('dbsc_algorithm', 'DBSC proof alg does not suit its key')
  }
  const key = importPublicJwk(jwk)
  if (key === undefined) throw new VerifyError('dbsc_key', 'DBSC key is not usable')
  return key
}

function verifyProofSignature(jws: CompactJws, alg: string, { key }: PublicKey): void {
  const signature = decodeBase64url(jws.signature)
  const input = Buffer.from(jws.signingInput, 'latin1')
  if (signature === undefined || !verifySignature(alg, key, input, signature)) {
    throw new VerifyError('dbsc_signature', 'DBSC proof signature does not verify')
  }
}

function checkClaims(
  { jti, aud }: Record<string, unknown>,
  { acceptChallenge, audience }: DbscExpectation,
): string {
  if (typeof jti !== 'string' || acceptChallenge(jti) !== true) {
    throw new VerifyError('dbsc_challenge', 'DBSC proof jti is not an outstanding challenge')
  }
  // Browsers send it only behind a switch, so far; a proof for elsewhere does not count here.
  if (aud !== undefined && (typeof aud !== 'string' || !constantTimeEqual(aud, audience))) {
    throw new VerifyError('dbsc_audience', 'DBSC proof aud mismatch', {
      cause: { expected: audience, actual: aud },
    })
  }
  return jti
}

function checkAuthorization(
  authorization: unknown,
  { acceptAuthorization = (offered) => offered === undefined }: DbscRegistrationExpectation,
): string | undefined {
  const given = typeof authorization === 'string' ? authorization : undefined
  if (given !== authorization || acceptAuthorization(given) !== true) {
    throw new VerifyError('dbsc_authorization', 'DBSC proof authorization is not what was offered')
  }
  return given
}

function decodePart(encoded: string): Record<string, unknown> | undefined {
  const bytes = decodeBase64url(encoded)
  return bytes && parseJsonObject(bytes)
}
