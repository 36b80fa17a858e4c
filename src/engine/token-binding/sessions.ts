import type { IncomingMessage, ServerResponse } from 'node:http'
import type Koa from 'koa'
import Provider, { errors } from 'oidc-provider'
import { visitor } from '../../http/client-info.ts'
import type { Edge } from '../../http/edge.ts'
import type { SecurityEvents } from '../../observability/security-events.ts'
import { override } from '../override.ts'

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
  engine: Provider,
  edge: Pick<Edge, 'inspect' | 'proofsOf'>,
  events: SecurityEvents,
): void {
  const providedTbh: ProvidedTbh = (ctx) => edge.proofsOf(ctx).tokenBinding?.provided.tbh
  bindSessions(engine, providedTbh, events)
  bindInteractions(engine, providedTbh, edge)
}

type ProvidedTbh = (ctx: Pick<Koa.Context, 'state'>) => string | undefined

function bindSessions(engine: Provider, providedTbh: ProvidedTbh, events: SecurityEvents): void {
  override(
    engine,
    'Session',
    (Base) =>
      class extends Base {
        // In the session's own row: the writer of the account writes the key that it is held by.
        static override get IN_PAYLOAD() {
          return [...super.IN_PAYLOAD, 'tbh']
        }

        override loginAccount(details: Parameters<typeof Base.prototype.loginAccount>[0]): void {
          const ctx = Provider.ctx
          // The first key stays.
          if (ctx) this.tbh ??= providedTbh(ctx)
          super.loginAccount(details)
        }

        static override async get(ctx: Koa.Context) {
          const session = await super.get(ctx)
          if (session.tbh === undefined || session.tbh === providedTbh(ctx)) return session
          const { accountId = '', uid: sessionUid } = session
          await events.record('session_unproven', { accountId, sessionUid, ...visitor(ctx) })
          // New: it sets no cookie and is not saved unless someone signs in.
          const anonymous = new this()
          ctx.oidc?.entity('Session', anonymous)
          return anonymous
        }
      },
  )
}

function bindInteractions(
  engine: Provider,
  providedTbh: ProvidedTbh,
  edge: Pick<Edge, 'inspect'>,
): void {
  override(
    engine,
    'Interaction',
    (Base) =>
      class extends Base {
        static override get IN_PAYLOAD() {
          return [...super.IN_PAYLOAD, 'tbh']
        }

        override async save(ttl: number): Promise<string> {
          const ctx = Provider.ctx
          if (ctx && ctx.oidc.entities.Interaction !== this) this.tbh = providedTbh(ctx)
          return super.save(ttl)
        }

        // On the way back to the authorization endpoint.
        static override async find<T>(id: string, options?: object): Promise<T | undefined> {
          const interaction = await super.find(id, options)
          const ctx = Provider.ctx
          if (ctx && interaction && !isOpenedBy(providedTbh(ctx), interaction)) return undefined
          return interaction as T | undefined
        }
      },
  )

  const isOpenedBy = (provided: string | undefined, { tbh }: { tbh?: string | undefined }) =>
    tbh === undefined || tbh === provided

  // On our own pages, which the engine has no context for.
  const details = engine.interactionDetails.bind(engine)
  engine.interactionDetails = async (request: IncomingMessage, response: ServerResponse) => {
    const interaction = await details(request, response)
    if (!isOpenedBy(edge.inspect(request).tokenBinding?.provided.tbh, interaction)) {
      throw new errors.SessionNotFound('the interaction is bound to another Token Binding')
    }
    return interaction
  }
}
