import { setTimeout } from 'node:timers/promises'
import type { DbscSessions } from '@holdfast/verify/dbsc'
import type { PageKeys } from '@holdfast/verify/page-keys'
import Router from '@koa/router'
import type { Context } from 'koa'
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
import type { BrowserSession, BrowserSessionTable } from '../storage/browser-session-table.ts'

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
  pageKeys,
  sessions,
  interstitial,
  now,
}: {
  provider: Provider
  dbsc: DbscSessions
  /** Undefined where pages bind no sessions. */
  pageKeys: Pick<PageKeys, 'expiredCookie'> | undefined
  sessions: Pick<BrowserSessionTable, 'find'>
  /** Shows a page that opens another one of ours, with a fresh proof. */
  interstitial: (ctx: Context, to: string, found: NamedSession | undefined) => void
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
      interstitial(ctx, `?again=${repeats + 1}`, found)
    }

    const wanted = wantedKey(interaction)
    const hasWanted = found === undefined || meets(found.session, wanted)
    if (hasWanted && now() - (found?.provenAt ?? 0) < justNow) return finish({})
    if (found && !hasWanted) {
      if (repeats < mostRepeats && (await isBoundSoon(found, wanted))) return interstitialAgain()
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
    if (pageKeys) ctx.append('Set-Cookie', pageKeys.expiredCookie)
    return interstitialAgain()
  })

  async function isBoundSoon(
    { session: { uid } }: NamedSession,
    wanted: WantedKey,
  ): Promise<boolean> {
    for (let waited = 0; waited < registrationTime; waited += pause) {
      const session = await sessions.find(uid)
      if (session && meets(session, wanted)) return true
      await setTimeout(pause)
    }
    return false
  }

  return router
}

/** Undefined where the age of a proof is all that matters. */
type WantedKey = 'of the browser' | 'any' | undefined

function wantedKey({ prompt: { reasons } }: Interaction): WantedKey {
  if (reasons.includes('acr_needs_key')) return 'of the browser'
  return reasons.includes('acr_needs_page_key') ? 'any' : undefined
}

function meets({ binding }: BrowserSession, wanted: WantedKey): boolean {
  if (wanted === undefined) return true
  return wanted === 'any' ? binding !== null : binding?.method === 'dbsc'
}
