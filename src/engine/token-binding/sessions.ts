import type { IncomingMessage, ServerResponse } from 'node:http'
import type Koa from 'koa'
import type Provider from 'oidc-provider'
import { errors } from 'oidc-provider'
import { clientInfo } from '../../http/client-info.ts'
import type { Edge } from '../../http/edge.ts'
import type { SecurityEvents } from '../../observability/security-events.ts'
import type { ModelAdditions } from '../model-additions.ts'
import { refusedFor } from '../refusal-reason.ts'

declare module 'oidc-provider' {
  interface Interaction {
    tbh?: string | undefined
  }
}

/**
 * Binds the browser's session and its interactions to the key of its connections (RFC 8473 section
 * 4): the cookie names a session, and the key opens it. With another key, or with none, there is no
 * session. It is not ended either: a thief of the cookie could sign its owner out.
 */
export function bindSessionsByTokenBinding(
  edge: Pick<Edge, 'proofsOf'>,
  events: SecurityEvents,
): Pick<
  ModelAdditions,
  'keepInInteraction' | 'opensInteraction' | 'keepInSession' | 'opensSession'
> {
  const providedTbh = (ctx: Pick<Koa.Context, 'state'>) =>
    edge.proofsOf(ctx).tokenBinding?.provided.tbh
  return {
    keepInInteraction: (ctx) => ({ tbh: providedTbh(ctx) }),
    // On the way back to the authorization endpoint.
    opensInteraction: (ctx, interaction) => isOpenedBy(providedTbh(ctx), interaction),
    // The first key stays.
    keepInSession: (ctx, { tbh }) => ({ tbh: tbh ?? providedTbh(ctx) }),
    async opensSession(ctx, session) {
      if (isOpenedBy(providedTbh(ctx), session)) return true
      const { accountId = '', uid: sessionUid } = session
      await events.record('session_unproven', { accountId, sessionUid, ...clientInfo(ctx) })
      return false
    },
  }
}

/** The same on our own pages, which the engine has no context for. */
export function bindInteractionPages(engine: Provider, edge: Pick<Edge, 'inspect'>): void {
  const details = engine.interactionDetails.bind(engine)
  engine.interactionDetails = async (request: IncomingMessage, response: ServerResponse) => {
    const interaction = await details(request, response)
    if (!isOpenedBy(edge.inspect(request).tokenBinding?.provided.tbh, interaction)) {
      throw refusedFor(
        'key_mismatch',
        new errors.SessionNotFound('the interaction is bound to another Token Binding'),
      )
    }
    return interaction
  }
}

function isOpenedBy(provided: string | undefined, { tbh }: { tbh?: string | undefined }): boolean {
  return tbh === undefined || tbh === provided
}
