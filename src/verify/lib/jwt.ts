import { decodeBase64url } from './base64url.ts'
import { parseJsonObject } from './json.ts'
import { splitCompactJws } from './jws.ts'
import type { RecentMap } from './recent-map.ts'

/** A signed JWT, taken apart and not verified. */
export type ParsedJwt = Readonly<{
  header: Record<string, unknown>
  claims: Record<string, unknown>
  /** What was signed. */
  input: Buffer
  signature: Buffer
}>

/**
 * Takes a compact JWS with a JSON payload apart; `undefined` for anything else.
 *
 * An issuer writes the same header into each of its tokens: `headers` spares reading it again.
 */
export function parseJwt(
  token: string,
  headers?: RecentMap<Record<string, unknown>>,
): ParsedJwt | undefined {
  const jws = splitCompactJws(token)
  if (jws === undefined) return undefined
  const known = headers?.get(jws.header)
  const header = known ?? decodeJson(jws.header)
  if (known === undefined && header !== undefined) headers?.set(jws.header, header)
  const claims = decodeJson(jws.payload)
  const signature = decodeBase64url(jws.signature)
  if (!header || !claims || !signature) return undefined
  return { header, claims, input: Buffer.from(jws.signingInput, 'latin1'), signature }
}

/** Decodes one part of a JWT: strict base64url of a strict JSON object. */
export function decodeJson(encoded: string): Record<string, unknown> | undefined {
  const bytes = decodeBase64url(encoded)
  return bytes && parseJsonObject(bytes)
}
