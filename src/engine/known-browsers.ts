import type { Context } from 'koa'
import type Provider from 'oidc-provider'
import { createBuckets } from '../limits/network-limit.ts'
import { alone, type Siblings } from '../limits/siblings.ts'
import { isSealedSession } from './browser-state.ts'

/** Pages that one browser may ask for in a minute before it counts with its network. */
const perMinute = 60

/** Browsers that are counted. */
const mostBrowsers = 20_000

/**
 * Whether a request comes from a browser in which someone has signed in, and which has not used up
 * a budget of its own. The signature of the session's cookie says so; the database is not asked, so
 * that a session which has ended since counts as well.
 */
export function createKnownBrowsers(
  engine: Pick<Provider, 'cookieName'>,
  {
    siblings = alone,
    now = () => performance.now(),
  }: { siblings?: Siblings | undefined; now?: () => number } = {},
): (ctx: Pick<Context, 'cookies'>) => boolean {
  const budgets = createBuckets({
    name: 'known_browsers',
    perMinute,
    mostKeys: mostBrowsers,
    siblings,
    now,
  })
  return ({ cookies }) => {
    const session = cookies.get(engine.cookieName('session'), { signed: true })
    if (!session || isSealedSession(session) || budgets.waitMs(session) > 0) return false
    budgets.take(session)
    return true
  }
}
