/** Device Bound Session Credentials for Koa. */
import type { DbscSessions } from './dbsc-sessions.ts'

/** What is needed of a Koa context. */
export type DbscKoaContext = {
  method: string
  path: string
  status: number
  body: unknown
  get(name: string): string
  set(headers: Record<string, string>): void
}

/**
 * Makes Koa middleware that answers browsers at the endpoints of device-bound sessions.
 *
 * It does NOT look at any other request: ask `provenAt` for those.
 *
 * @param session - the session that the site's own cookie names on a request.
 *
 * @example
 * ```ts
 * app.use(koaDbsc(dbsc, (ctx) => ctx.cookies.get('sid')))
 * ```
 */
export function koaDbsc<Context extends DbscKoaContext>(
  dbsc: DbscSessions,
  session: (context: Context) => string | undefined | Promise<string | undefined>,
) {
  return async (context: Context, next: () => Promise<unknown>): Promise<void> => {
    const answer = await dbsc.handle({
      method: context.method,
      path: context.path,
      header: (name) => context.get(name) || undefined,
      session: () => session(context),
    })
    if (answer === undefined) {
      await next()
      return
    }
    context.status = answer.status
    context.set({ ...answer.headers })
    context.body = answer.body ?? ''
  }
}
