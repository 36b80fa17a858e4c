/**
 * The engine's Session, held fast: what two requests at once must not lose lives in a row of its
 * own, and a session whose key is registered counts only with a fresh proof of that key.
 *
 * A request without one has no session. Nothing is destroyed: a thief of a cookie could
 * otherwise end the session of its owner.
 */
import type { IncomingMessage } from 'node:http'
import type { Context } from 'koa'
import Provider, { type KoaContextWithOIDC } from 'oidc-provider'
import { clientInfo } from '../http/client-info.ts'
import type { SecurityEvents } from '../observability/security-events.ts'
import type {
  Authorizations,
  BrowserSession,
  BrowserSessionTable,
} from '../storage/browser-session-table.ts'
import type { EngineTimes } from '../storage/engine-times.ts'
import { boundSessionAcr } from './authentication-context.ts'
import type { ModelAdditions } from './model-additions.ts'
import { override } from './override.ts'

declare module 'oidc-provider' {
  interface Session {
    /** The Token Binding ID that it is bound to. */
    tbh?: string | undefined
  }
}

/** Where the engine's copy of a session keeps what the table said when it was read. */
const row = Symbol('browser session')

/** And when its key was last proven, by the request that it was read for. */
const proof = Symbol('proof')

/** The session that a request's cookie names. */
export interface NamedSession {
  readonly session: BrowserSession
  /** When its key was last proven, in milliseconds since the epoch; undefined: too long ago. */
  readonly provenAt: number | undefined
}

const named = new WeakMap<IncomingMessage, NamedSession>()

/**
 * The session that the cookie of a request names, whether its key was proven or not: for everything
 * that a person may do, ask the engine for the session instead.
 */
export async function namedSession(
  engine: Provider,
  ctx: Pick<Context, 'req'>,
): Promise<NamedSession | undefined> {
  if (!named.has(ctx.req)) await engine.Session.get(ctx as Context)
  return named.get(ctx.req)
}

/** The same, where the engine has asked for the session before. */
export function seenSession({ req }: Pick<Context, 'req'>): NamedSession | undefined {
  return named.get(req)
}

/**
 * Whether a session is bound to a key of which there is no proof. One that was bound a moment ago
 * counts without: browsers follow the redirect of the sign-in while they register the key. That
 * moment is no proof either, where a fresh one is needed.
 */
export function isUnproven({ session: { binding }, provenAt }: NamedSession): boolean {
  return binding !== null && !binding.isNew && provenAt === undefined
}

/** The row of a session of the engine's; undefined for one in which nobody signed in so far. */
export function browserSessionOf(session: object | undefined): BrowserSession | undefined {
  return (session as { [row]?: BrowserSession } | undefined)?.[row]
}

export interface SessionModelOptions {
  readonly sessions: BrowserSessionTable
  readonly events: SecurityEvents
  readonly times: EngineTimes
  readonly additions: Pick<ModelAdditions, 'keepInSession' | 'opensSession'>
  /** When the key of a session was last proven, by a Cookie header field. */
  readonly provenAt: (uid: string, cookies: string | undefined) => number | undefined
}

/** Replaces the engine's Session. */
export function bindSessions(
  engine: Provider,
  { sessions, events, times, additions, provenAt }: SessionModelOptions,
): void {
  type Session = InstanceType<Provider['Session']>

  /** A session that has ended, or whose row was lost, is not found: it must not come back unbound. */
  async function withRow(session: Session | undefined): Promise<Session | undefined> {
    if (!session?.accountId) return session
    const found = await sessions.find(session.uid)
    if (found?.accountId !== session.accountId) return undefined
    session.authorizations = structuredClone(found.authorizations)
    return Object.assign(session, { [row]: found })
  }

  const acrOf = (session: Session & { [proof]?: number | undefined }) =>
    session.tbh !== undefined || session[proof] !== undefined ? boundSessionAcr : undefined

  override(
    engine,
    'Session',
    (Base) =>
      class extends Base {
        static override async find<T>(cookieId: string): Promise<T | undefined> {
          return (await withRow(await super.find<Session>(cookieId))) as T | undefined
        }

        static override async findByUid(uid: string): Promise<Session | undefined> {
          return withRow(await super.findByUid(uid))
        }

        static override async get(ctx: Context): Promise<Session> {
          const session = await super.get(ctx)
          if (!(await additions.opensSession(ctx as KoaContextWithOIDC, session))) {
            return nobodyOf(this, ctx)
          }
          const found = browserSessionOf(session)
          if (!found) return session
          const current = { session: found, provenAt: provenAt(found.uid, ctx.get('cookie')) }
          named.set(ctx.req, current)
          if (!isUnproven(current)) {
            if (found.binding) Object.assign(session, { [proof]: current.provenAt })
            return Object.assign(session, { acr: acrOf(session) })
          }
          return nobodyOf(this, ctx)
        }

        override loginAccount(details: Parameters<typeof Base.prototype.loginAccount>[0]): void {
          const ctx = Provider.ctx
          if (ctx) Object.assign(this, additions.keepInSession(ctx, this))
          super.loginAccount(details)
          Object.assign(this, { acr: acrOf(this) })
        }

        override async save(ttl: number): Promise<string> {
          if (this.accountId) {
            const now = Math.floor(times.now() / 1000)
            const by = clientInfo(Provider.ctx)
            const isNew = await sessions.save({
              uid: this.uid,
              accountId: this.accountId,
              ...changes(browserSessionOf(this)?.authorizations ?? {}, this.authorizations ?? {}),
              ...by,
              tbh: this.tbh,
              signedInAt: this.loginTs === undefined ? now : this.loginTs - times.aheadS(),
              expiresAt: now + ttl,
            })
            if (isNew) await events.record('signed_in', { ...this.about(), ...by })
          }
          return super.save(ttl)
        }

        // The engine persists what was touched, even where saving it failed just before and it never
        // was: its complaint would take the place of why that failed.
        override async persist(): Promise<string> {
          return typeof this.exp === 'number' ? super.persist() : ''
        }

        override async destroy(): Promise<void> {
          if (this.accountId && (await sessions.end(this.uid))) {
            await events.record('session_ended', { ...this.about(), ...clientInfo(Provider.ctx) })
          }
          return super.destroy()
        }

        private about() {
          return { accountId: this.accountId ?? '', sessionUid: this.uid }
        }
      },
  )
}

/** A new session: it sets no cookie and is not saved unless someone signs in. */
function nobodyOf(Model: Provider['Session'], ctx: Context): InstanceType<Provider['Session']> {
  const nobody = new Model()
  ctx.oidc?.entity('Session', nobody)
  return nobody
}

/** What a request has done to the authorizations that it read. */
function changes(before: Authorizations, after: Authorizations) {
  const isChanged = ([client, authorization]: [string, object]) =>
    Object.keys(authorization).length > 0 &&
    JSON.stringify(authorization) !== JSON.stringify(before[client])
  return {
    authorized: Object.fromEntries(Object.entries(after).filter(isChanged)),
    withdrawn: Object.keys(before).filter((client) => !(client in after)),
  }
}
