import { decodeBase64url } from './base64url.ts'
import { parseJsonObject } from './json.ts'
import { splitCompactJws } from './jws.ts'
import { RecentMap } from './recent-map.ts'

/** A signed JWT, taken apart and not verified. */
export type ParsedJwt = Readonly<{
  /** As it came, encoded: what {@link KnownHeaders} go by. */
  encodedHeader: string
  header: Record<string, unknown>
  claims: Record<string, unknown>
  /** What was signed. */
  input: Buffer
  signature: Buffer
}>

/** Headers that were read before. An issuer writes the same one into each of its tokens. */
export class KnownHeaders {
  readonly #headers = new RecentMap<Record<string, unknown>>(100)

  /** The header, where it is known. */
  get(encodedHeader: string): Record<string, unknown> | undefined {
    return this.#headers.get(encodedHeader)
  }

  /** Keeps the header of a token whose signature was verified: strangers write headers, too. */
  remember({ encodedHeader, header }: ParsedJwt): void {
    if (encodedHeader.length <= 1024) this.#headers.set(encodedHeader, header)
  }
}

/**
 * Takes a compact JWS with a JSON payload apart; `undefined` for anything else. `headers` spares
 * reading a header again.
 */
export function parseJwt(token: string, headers?: KnownHeaders): ParsedJwt | undefined {
  const jws = splitCompactJws(token)
  if (jws === undefined) return undefined
  const header = headers?.get(jws.header) ?? decodeJson(jws.header)
  const claims = decodeJson(jws.payload)
  const signature = decodeBase64url(jws.signature)
  if (!header || !claims || !signature) return undefined
  const input = Buffer.from(jws.signingInput, 'latin1')
  return { encodedHeader: jws.header, header, claims, input, signature }
}

/** Decodes one part of a JWT: strict base64url of a strict JSON object. */
export function decodeJson(encoded: string): Record<string, unknown> | undefined {
  const bytes = decodeBase64url(encoded)
  return bytes && parseJsonObject(bytes)
}
