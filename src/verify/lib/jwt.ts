import { decodeBase64url } from './base64url.ts'
import { parseJsonObject } from './json.ts'
import { splitCompactJws } from './jws.ts'

/** A signed JWT, taken apart and not verified. */
export type ParsedJwt = Readonly<{
  header: Record<string, unknown>
  claims: Record<string, unknown>
  /** What was signed. */
  input: Buffer
  signature: Buffer
}>

/** Takes a compact JWS with a JSON payload apart; `undefined` for anything else. */
export function parseJwt(token: string): ParsedJwt | undefined {
  const jws = splitCompactJws(token)
  if (jws === undefined) return undefined
  const header = decodeJson(jws.header)
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
