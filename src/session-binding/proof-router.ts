import { setTimeout } from 'node:timers/promises'
import type { DbscSessions } from '@holdfast/verify/dbsc'
import Router from '@koa/router'
import type { InteractionResults, Provider } from 'oidc-provider'
import { unmetAuthenticationRequirements } from '../engine/authentication-context.ts'
import type { NamedSession } from '../engine/browser-request.ts'
import { namedSession } from '../engine/session-model.ts'
import {
  currentInteraction,
  expiredInteraction,
  type Interaction,
} from '../http/current-interaction.ts'
import { publicRoutes } from '../http/routes.ts'
import type { BrowserSessionTable } from '../storage/browser-session-table.ts'

/** A proof this old was given for this prompt: the browser has just been here. */
const justNow = 10_000

/** How often a browser is sent back here for the proof to arrive with it. */
const mostRepeats = 4

const pause = 250

/** A browser that makes a key does so within this; some keep it in hardware, which takes a second. */
const registrationTime = 4_000

/**
 * Step-up: removes the bound cookie, so that the browser proves its key before it sends the next
 * request. That request has to be one of our own pages; in the name of an app, it would not. Where
 * an app must have a bound session, this is also where a browser is waited for that has just
 * signed in and is registering its key.
 */
export function createProofRouter({
  provider,
  dbsc,
  sessions,
  interstitial,
  now,
}: {
  provider: Provider
  dbsc: DbscSessions
  sessions: Pick<BrowserSessionTable, 'find'>
  interstitial: (to: string) => string
  /** Milliseconds since the epoch. */
  now: () => number
}): Router {
  const router = new Router({ sensitive: true, strict: true })

  router.get(publicRoutes.session_proof.path, async (ctx) => {
    const interaction = await currentInteraction(provider, ctx)
    const found = await namedSession(provider, ctx)
    const repeats = Number(ctx.query.again) || 0

    async function finish(result: InteractionResults) {
      ctx.status = 303
      ctx.redirect(await provider.interactionResult(ctx.req, ctx.res, result))
    }
    function interstitialAgain() {
      ctx.type = 'html'
      ctx.body = interstitial(`?again=${repeats + 1}`)
    }

    if (now() - (found?.provenAt ?? 0) < justNow) return finish({})
    if (found && wantsKey(interaction) && !found.session.binding) {
      if (repeats < mostRepeats && (await isBoundSoon(found))) return interstitialAgain()
      return finish({
        error: unmetAuthenticationRequirements,
        error_description: 'the browser has not bound its session to a key',
      })
    }
    // The bound cookie of a key that was registered this moment is still on its way.
    if (found?.session.binding?.isNew && repeats < mostRepeats) {
      await setTimeout(pause)
      return interstitialAgain()
    }
    if (repeats > 0) throw expiredInteraction()
    ctx.append('Set-Cookie', dbsc.expiredCookie)
    return interstitialAgain()
  })

  async function isBoundSoon({ session: { uid } }: NamedSession): Promise<boolean> {
    for (let waited = 0; waited < registrationTime; waited += pause) {
      if ((await sessions.find(uid))?.binding) return true
      await setTimeout(pause)
    }
    return false
  }

  return router
}

const wantsKey = ({ prompt }: Interaction) => prompt.reasons.includes('acr_needs_key')
