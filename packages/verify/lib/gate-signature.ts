/**
 * The one form of HTTP Message Signature (RFC 9421) that a gate writes and an application reads.
 *
 * A signature may cover any components in any order, and a verifier that takes them all has to be
 * asked afterwards whether the right ones were covered. Here the request decides: every component
 * below that it has is covered, in this order, and a signature over any others is refused.
 */
import type { KeyObject } from 'node:crypto'
import { headerValues, type RequestHeaders } from '../credentials.ts'

/** The field that carries the audience and the identity, as base64url JSON. */
export const identityField = 'holdfast-identity'

/** Fields that are covered where a request has them; each may be there once. */
export const coveredFields = Object.freeze([
  'content-digest',
  'content-type',
  'content-encoding',
  identityField,
])

/** Seconds for which an assertion is good, at most. */
export const longestLifetime = 30

/** Signature algorithms of RFC 9421 section 6.2.2, with their names in JOSE. */
export const jwsAlgorithms: Readonly<Record<string, string>> = Object.freeze({
  'ecdsa-p256-sha256': 'ES256',
  ed25519: 'EdDSA',
})

/** The parameters of a signature (RFC 9421 section 2.3); times in seconds since the epoch. */
export type GateSignatureParameters = Readonly<{
  created: number
  expires: number
  nonce: string
  alg: string
  keyid: string
}>

/** What a signature covers: components with their values, in order. */
export type Covered = readonly (readonly [name: string, value: string])[]

/** The components of a request, or `undefined` where it has one of the fields twice. */
export function coveredBy(
  method: string,
  targetUri: string,
  headers: RequestHeaders,
): Covered | undefined {
  const covered: [string, string][] = [
    ['@method', method],
    ['@target-uri', targetUri],
  ]
  for (const name of coveredFields) {
    const [value, ...more] = headerValues(headers, name)
    if (more.length > 0) return undefined
    if (value !== undefined) covered.push([name, value.trim()])
  }
  return covered
}

/** RFC 9421 section 2.3, in the one spelling that is accepted. */
export function writeParameters(covered: Covered, parameters: GateSignatureParameters): string {
  const names = covered.map(([name]) => `"${name}"`).join(' ')
  const { created, expires, nonce, alg, keyid } = parameters
  const ends = `created=${created};expires=${expires};nonce="${nonce}"`
  return `(${names});${ends};alg="${alg}";keyid="${keyid}";tag="holdfast-gate"`
}

/** RFC 9421 section 2.5. */
export function signatureBase(covered: Covered, parameters: string): Buffer {
  const lines = covered.map(([name, value]) => `"${name}": ${value}`)
  return Buffer.from([...lines, `"@signature-params": ${parameters}`].join('\n'), 'latin1')
}

const input =
  /^gate=(\([^()]{0,256}\);created=(\d{1,12});expires=(\d{1,12});nonce="([\w-]{22,64})";alg="([\w-]{1,32})";keyid="([\w-]{1,128})";tag="holdfast-gate")$/

/** Reads a `Signature-Input` field; `undefined` for everything that {@link writeParameters} does not write. */
export function readParameters(
  text: string,
): Readonly<{ text: string; parameters: GateSignatureParameters }> | undefined {
  const [, whole, created, expires, nonce, alg, keyid] = input.exec(text) ?? []
  if (whole === undefined || nonce === undefined || alg === undefined || keyid === undefined) {
    return undefined
  }
  const parameters = { created: Number(created), expires: Number(expires), nonce, alg, keyid }
  return { text: whole, parameters }
}

/** Reads a `Signature` field: one byte sequence in its one canonical spelling. */
export function readSignature(text: string): Buffer | undefined {
  const [, encoded = ''] = /^gate=:([\w+/]{1,200}={0,2}):$/.exec(text) ?? []
  const bytes = Buffer.from(encoded, 'base64')
  return encoded !== '' && bytes.toString('base64') === encoded ? bytes : undefined
}

/** The algorithm by which a key signs, by its name in RFC 9421. */
export function algorithmOf(key: KeyObject): string | undefined {
  if (key.asymmetricKeyType === 'ed25519') return 'ed25519'
  // No other type of key has a named curve.
  const isP256 = key.asymmetricKeyDetails?.namedCurve === 'prime256v1'
  return isP256 ? 'ecdsa-p256-sha256' : undefined
}

/** `Content-Digest` (RFC 9530) of a digest by SHA-256. */
export function writeDigest(sha256: Uint8Array): string {
  return `sha-256=:${Buffer.from(sha256).toString('base64')}:`
}
