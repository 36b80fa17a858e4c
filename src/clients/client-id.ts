import { securityClientId } from './security-client.ts'

/** The clients that this server is itself: they are in no table, and nobody may register them. */
export const ownClients: readonly string[] = [securityClientId]

const limitCharacters = 256

/** RFC 6749 appendix A.1 (VSCHAR). */
const visible = /^[\x20-\x7e]+$/

/** Why no client can have this id, as the end of a sentence; undefined for one that it can have. */
export function clientIdProblem(id: string): string | undefined {
  if (ownClients.includes(id)) return `client_id ${id} is reserved for this server`
  if (id.length <= limitCharacters && visible.test(id)) return undefined
  return `client_id must be 1 to ${limitCharacters} characters of printable ASCII (RFC 6749)`
}
