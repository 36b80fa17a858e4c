import Router from '@koa/router'
import type { Provider } from 'oidc-provider'
import { currentInteraction, expiredInteraction } from '../interaction/current-interaction.ts'
import type { DbscSessions } from '../verify/dbsc-sessions.ts'
import { namedSession } from './session-model.ts'

/** A proof this old was given for this prompt: the browser has just been here. */
const justNow = 10_000

/**
 * Step-up: takes the companion away, so that the browser proves its key before it sends the next
 * request. That request has to be one of our own pages; in the name of an app, it would not.
 */
export function createProofRouter({
  provider,
  dbsc,
  hop,
}: {
  provider: Provider
  dbsc: DbscSessions
  hop: (to: string) => string
}): Router {
  const router = new Router()

  router.get('/interaction/:uid/proof', async (ctx) => {
    await currentInteraction(provider, ctx)
    const { provenAt = 0 } = (await namedSession(provider, ctx)) ?? {}
    if (Date.now() - provenAt < justNow) {
      ctx.status = 303
      ctx.redirect(await provider.interactionResult(ctx.req, ctx.res, {}))
      return
    }
    if (ctx.query.again) throw expiredInteraction()
    ctx.append('Set-Cookie', dbsc.forget)
    ctx.type = 'html'
    ctx.body = hop('?again=1')
  })

  return router
}
