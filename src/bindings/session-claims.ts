/**
 * What tokens say of the browser's session that they come from. ID tokens name its key (`cnf.jkt`,
 * RFC 7800) and the session, so that a relying party can have a session of its own on the same key.
 */
import type { BrowserSession } from '../storage/browser-session-table.ts'

/** `none`: its cookie is all there is to it. `ended`: the token has outlived it. */
export type SessionBindingClaim = 'dbsc' | 'token-binding' | 'none' | 'ended'

/** How the session of a token is bound; undefined for a session that is not alive. */
export function sessionBindingClaim(session: BrowserSession | undefined): SessionBindingClaim {
  if (!session) return 'ended'
  return session.binding?.method ?? (session.tbh ? 'token-binding' : 'none')
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
): { session_binding: SessionBindingClaim; dbsc_session?: string; cnf?: { jkt: string } } {
  const session_binding = sessionBindingClaim(session)
  if (!session?.binding || isElsewhere) return { session_binding }
  return { session_binding, cnf: { jkt: session.binding.jkt }, dbsc_session: session.uid }
}
