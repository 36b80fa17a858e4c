import type { RouterContext } from '@koa/router'
import type { Provider } from 'oidc-provider'

/**
 * Ends the browser's session when someone else signs in. oidc-provider would do it on resumption,
 * by way of a bare page that is blank without its script; the session's tokens end with it either
 * way, as those that may outlive a session were granted for that.
 */
export async function leaveOtherAccount(
  provider: Provider,
  ctx: RouterContext,
  accountId: string,
): Promise<void> {
  const session = await provider.Session.get(ctx)
  if (session.accountId && session.accountId !== accountId) await session.destroy()
}
