/** The keys of a client as they are used: imported once, and asked which of them has signed. */
import type { KeyObject } from 'node:crypto'
import {
  importPublicJwk,
  type ParsedJwt,
  suitsAlgorithm,
  verifySignature,
} from '@holdfast/verify/authorization-server'

/** A public key of a client, imported. */
export interface ClientKey {
  readonly kid: string | undefined
  readonly alg: string | undefined
  readonly kty: string
  readonly crv: string | undefined
  readonly key: KeyObject
  /** RFC 7638, SHA-256. */
  readonly thumbprint: string
}

/** Imports a key that is for signatures; undefined for another one, and for what is no good key. */
export function importClientKey(jwk: Readonly<Record<string, unknown>>): ClientKey | undefined {
  const { kid, alg, kty, crv, use, key_ops: operations } = jwk
  if (use !== undefined && use !== 'sig') return undefined
  if (Array.isArray(operations) && !operations.includes('verify')) return undefined
  const imported = importPublicJwk({ ...jwk })
  return (
    imported && {
      kid: typeof kid === 'string' ? kid : undefined,
      alg: typeof alg === 'string' ? alg : undefined,
      kty: String(kty),
      crv: typeof crv === 'string' ? crv : undefined,
      ...imported,
    }
  )
}

/** The key that has signed a JWT. Its claims and its times are not checked. */
export function findSigner(
  keys: readonly ClientKey[],
  { header, input, signature }: ParsedJwt,
): ClientKey | undefined {
  const { alg, kid } = header
  if (typeof alg !== 'string') return undefined
  return keys.find(
    (key) =>
      (typeof kid !== 'string' || key.kid === kid) &&
      (key.alg === undefined || key.alg === alg) &&
      suitsAlgorithm(alg, key) &&
      verifySignature(alg, key.key, input, signature),
  )
}
