import Router from '@koa/router'
import { publicRoutes } from '../http/routes.ts'
import type { SecurityEvents } from '../observability/security-events.ts'
import { sessionLine } from '../pages/security-page.ts'
import type { Views } from '../pages/views.ts'
import type { BrowserSessionTable } from '../storage/browser-session-table.ts'
import type { AccountPages } from './account-pages.ts'
import type { Readers } from './reader.ts'

export interface SessionsRouterOptions {
  readonly pages: AccountPages
  readonly readers: Readers
  readonly views: Pick<Views, 'sessions'>
  readonly browserSessions: Pick<BrowserSessionTable, 'listOf' | 'find' | 'end' | 'endAllOf'>
  readonly events: Pick<SecurityEvents, 'record'>
}

/** Where a person is signed in, and the end of it: the owner of any session may end the others. */
export function createSessionsRouter(options: SessionsRouterOptions): Router {
  const { pages, readers, views, browserSessions, events } = options
  const router = new Router({ sensitive: true, strict: true })

  router.get(publicRoutes.security_sessions.path, (ctx) =>
    pages.show(ctx, 'security_sessions', async ({ sessionUid, account }, frame) => {
      const sessions = await browserSessions.listOf(account.id)
      const lines = sessions.map((session) => sessionLine(session, sessionUid))
      return views.sessions({
        ...frame,
        sessions: [
          ...lines.filter(({ isThis }) => isThis),
          ...lines.filter(({ isThis }) => !isThis),
        ],
      })
    }),
  )

  router.post(publicRoutes.security_end_session.path, async (ctx) => {
    const { reader, form } = await readers.submitted(ctx)
    const { about, account } = reader
    const sessionUid = form.get('session') ?? ''
    const session = await browserSessions.find(sessionUid)
    // Anyone who knows the name of someone else's session must not end it.
    if (session?.accountId === account.id && (await browserSessions.end(sessionUid))) {
      await events.record('session_ended', { ...about, sessionUid })
    }
    pages.redirect(ctx, 'security_sessions')
  })

  router.post(publicRoutes.security_end_others.path, async (ctx) => {
    const { about, account, sessionUid: uid } = (await readers.submitted(ctx)).reader
    await browserSessions.endAllOf(account.id, { but: uid })
    await events.record('other_sessions_ended', about)
    pages.redirect(ctx, 'security_sessions')
  })

  return router
}
