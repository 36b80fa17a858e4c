import type { RouterContext } from '@koa/router'
import type { Provider } from 'oidc-provider'
import { isUnproven, namedSession } from '../engine/session-model.ts'

/**
 * Ends the browser's session when someone else signs in. oidc-provider would do it on resumption,
 * by way of a bare page that is blank without its script; the session's tokens end with it either
 * way, as those that may outlive a session were granted for that.
 *
 * It also ends a session of the same person whose key this browser could not prove: the key is lost,
 * and applications learn of it as of any other end. Someone who has only copied the cookie does not
 * get here, for it takes the person's own sign-in.
 */
export async function leaveOtherAccount(
  provider: Provider,
  ctx: RouterContext,
  { accountId, endSession }: { accountId: string; endSession: EndSession },
): Promise<void> {
  const session = await provider.Session.get(ctx)
  if (session.accountId && session.accountId !== accountId) await session.destroy()
  const named = await namedSession(provider, ctx)
  if (named?.session.accountId === accountId && isUnproven(named)) await endSession(named.session)
}

/** Ends a session and tells the person concerned. */
export type EndSession = (session: {
  readonly uid: string
  readonly accountId: string
}) => Promise<void>
