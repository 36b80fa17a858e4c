/**
 * What tokens say of the browser's session that they come from. ID tokens name its key (`cnf.jkt`,
 * RFC 7800) and the session, so that a relying party can have a session of its own on the same key.
 */
import type { BrowserSession } from '../storage/browser-session-table.ts'

/**
 * `page-key`: a key that scripts of our own pages can use, which is less than the other two.
 * `ended`: the token has outlived its session.
 */
type SessionBinding = 'dbsc' | 'token-binding' | 'page-key' | 'ended'

/** The name is a URI, so that it is nobody else's (RFC 7519 section 4.2). */
export const sessionBindingName = 'urn:holdfast:session_binding'

export interface SessionBindingClaim {
  readonly [sessionBindingName]?: SessionBinding
}

/**
 * How the session of a token is bound; nothing for a session that has only its cookie.
 *
 * @param session undefined for one that is not alive.
 */
export function sessionBindingClaim(session: BrowserSession | undefined): SessionBindingClaim {
  if (!session) return { [sessionBindingName]: 'ended' }
  const method = session.binding?.method ?? (session.tbh ? 'token-binding' : undefined)
  return method ? { [sessionBindingName]: method } : {}
}

/**
 * The claims of an ID token about its session.
 *
 * @param isElsewhere whether the session is one of another device, whose key is not where the token
 *   goes.
 */
export function sessionClaimsOfIdToken(
  session: BrowserSession | undefined,
  isElsewhere: boolean,
): SessionBindingClaim & { dbsc_session?: string; cnf?: { jkt: string } } {
  const claim = sessionBindingClaim(session)
  // No browser gives a relying party a session on a key that a page has made.
  if (session?.binding?.method !== 'dbsc' || isElsewhere) return claim
  return { ...claim, cnf: { jkt: session.binding.jkt }, dbsc_session: session.uid }
}
