/**
 * The engine's Session, held fast: what two requests at once must not lose lives in a row of its
 * own, and a session whose key is registered counts only with a fresh proof of that key.
 *
 * A request without one has no session. Nothing is destroyed: a thief of a cookie could
 * otherwise end the session of its owner.
 */
import type { Context } from 'koa'
import Provider, { type KoaContextWithOIDC } from 'oidc-provider'
import type { SignIn } from '../accounts/acr.ts'
import { clientInfo } from '../http/client-info.ts'
import { pageKeyOf } from '../http/page-key-form.ts'
import type { SecurityEvents } from '../observability/security-events.ts'
import type { BrowserChange, BrowserRequestTable } from '../storage/browser-request-table.ts'
import type {
  Authorizations,
  BrowserSession,
  BrowserSessionTable,
  PageKey,
  SessionChange,
} from '../storage/browser-session-table.ts'
import type { EngineTimes } from '../storage/engine-times.ts'
import { browserRequest, type NamedSession, takeChange } from './browser-request.ts'
import type { ModelAdditions } from './model-additions.ts'
import { override } from './override.ts'
import { requestConsumed } from './pushed-requests.ts'

declare module 'oidc-provider' {
  interface Session {
    /** The Token Binding ID that it is bound to. */
    tbh?: string | undefined
  }
}

/** Where the engine's copy of a session keeps what the table said when it was read. */
const row = Symbol('browser session')

/** And what the engine's own part of it was. */
const read = Symbol('engine session')

/** And when its key was last proven, by the request that it was read for. */
const proof = Symbol('proof')

/** And the page key that came with a sign-in. */
const pageKey = Symbol('page key')

interface SessionCopy {
  [pageKey]?: PageKey | undefined
  [row]?: BrowserSession | undefined
  [read]?: string | undefined
  [proof]?: number | undefined
}

/** For how long a session is not written that has not changed: its end is that much earlier. */
export const untouchedS = 60 * 60

/**
 * The session that the cookie of a request names, whether its key was proven or not: for everything
 * that a person may do, ask the engine for the session instead.
 */
export async function namedSession(
  engine: Provider,
  ctx: Pick<Context, 'req' | 'state'>,
): Promise<NamedSession | undefined> {
  if (!browserRequest(ctx).found) await engine.Session.get(ctx as Context)
  return seenSession(ctx)
}

/** The same, where the engine has asked for the session before. */
export function seenSession(ctx: Pick<Context, 'state'>): NamedSession | undefined {
  return browserRequest(ctx).named
}

/**
 * Whether a session is bound to a key of which there is no proof. One that was bound a moment ago
 * counts without: browsers follow the redirect of the sign-in while they register the key. That
 * moment is no proof either, where a fresh one is needed.
 */
export function isUnproven({ session: { binding }, provenAt }: NamedSession): boolean {
  return binding !== null && !binding.isNew && provenAt === undefined
}

/** By what a session is held, if the request that it was read for came with a proof of its key. */
export function heldBy(session: object | undefined): Required<Omit<SignIn, 'amr'>> {
  const { tbh, [proof]: provenAt, [row]: found } = (session ?? {}) as SessionCopy & { tbh?: string }
  const isProven = provenAt !== undefined
  const isPageKey = found?.binding?.method === 'page-key'
  return {
    isBound: tbh !== undefined || (isProven && !isPageKey),
    hasPageKey: isProven && isPageKey,
  }
}

/** The row of a session of the engine's; undefined for one in which nobody signed in so far. */
export function browserSessionOf(session: object | undefined): BrowserSession | undefined {
  return (session as SessionCopy | undefined)?.[row]
}

export interface SessionModelOptions {
  readonly sessions: Pick<BrowserSessionTable, 'find' | 'end'>
  readonly requests: Pick<BrowserRequestTable, 'commit'>
  readonly events: SecurityEvents
  readonly times: EngineTimes
  readonly additions: Pick<ModelAdditions, 'keepInSession' | 'opensSession'>
  /** When the key of a bound session was last proven, by a Cookie header field. */
  readonly provenAt: (
    session: Pick<BrowserSession, 'uid' | 'binding'>,
    cookies: string | undefined,
  ) => number | undefined
}

/** Replaces the engine's Session. */
export function bindSessions(
  engine: Provider,
  { sessions, requests, events, times, additions, provenAt }: SessionModelOptions,
): void {
  type Session = InstanceType<Provider['Session']>

  /** A session that has ended, or whose row was lost, is not found: it must not come back unbound. */
  function withRow(session: Session, found: BrowserSession | undefined): Session | undefined {
    if (!session.accountId) return session
    if (found?.accountId !== session.accountId) return undefined
    session.authorizations = structuredClone(found.authorizations)
    return Object.assign(session, { [row]: found, [read]: memberText(session) })
  }

  async function commit(ctx: KoaContextWithOIDC | undefined, change: BrowserChange) {
    const done = await requests.commit(change).catch((error: unknown) => {
      // Nothing was written: the browser can ask again with what it has.
      ctx?.remove('set-cookie')
      throw error
    })
    if (done.outcome === 'request consumed') throw requestConsumed()
    if (done.outcome === 'interaction used' && ctx) startAgain(ctx)
    if (done.outcome !== 'committed' || !change.session) return
    if (done.isBound && ctx) browserRequest(ctx).pageKeyOf = change.session.uid
    if (!done.isNewSession) return
    const { accountId, uid: sessionUid } = change.session
    events.report('signed_in', { accountId, sessionUid, ...clientInfo(ctx) })
  }

  override(
    engine,
    'Session',
    (Base) =>
      class extends Base {
        static override async findByUid(uid: string): Promise<Session | undefined> {
          const session = await super.findByUid(uid)
          return session?.accountId ? withRow(session, await sessions.find(uid)) : session
        }

        static override async get(ctx: Context): Promise<Session> {
          const named = await super.get(ctx)
          const request = browserRequest(ctx)
          const session = withRow(named, request.found?.browserSession)
          if (!session) return nobodyOf(this, ctx)
          if (!(await additions.opensSession(ctx as KoaContextWithOIDC, session))) {
            return nobodyOf(this, ctx)
          }
          const found = browserSessionOf(session)
          if (!found) return session
          const current = { session: found, provenAt: provenAt(found, ctx.get('cookie')) }
          request.named = current
          if (!isUnproven(current)) {
            if (found.binding) Object.assign(session, { [proof]: current.provenAt })
            return session
          }
          return nobodyOf(this, ctx)
        }

        override loginAccount(details: Parameters<typeof Base.prototype.loginAccount>[0]): void {
          const ctx = Provider.ctx
          if (ctx && isRepeatedLogin(ctx, this)) return
          if (ctx) Object.assign(this, additions.keepInSession(ctx, this))
          if (ctx)
            Object.assign(this, { [pageKey]: pageKeyOf(ctx.oidc.entities.Interaction?.result) })
          super.loginAccount(details)
        }

        override async save(ttl: number): Promise<string> {
          if (!this.accountId) return super.save(ttl)
          const ctx = Provider.ctx
          const isTouched = times.engineNowS() + ttl - (this.exp ?? 0) > untouchedS
          const isChanged = isTouched || memberText(this) !== (this as SessionCopy)[read]
          const expiresAt = Math.floor(times.now() / 1000) + (isTouched ? ttl : 0)
          const session = changeOf(this, { isChanged, expiresAt, aheadS: times.aheadS() })
          if (isChanged) await super.save(ttl)
          else Object.assign(this, { touched: false })
          const change = ctx ? takeChange(browserRequest(ctx)) : noChange
          const isEmpty = !session && !change.uses && !change.removed && !change.written.length
          if (!isEmpty) await commit(ctx, { ...change, session })
          return this.jti
        }

        // The engine persists what was touched, even where saving it failed just before and it never
        // was: its complaint would take the place of why that failed.
        override async persist(): Promise<string> {
          return typeof this.exp === 'number' ? super.persist() : ''
        }

        override async destroy(): Promise<void> {
          if (this.accountId && (await sessions.end(this.uid))) {
            const { accountId, uid: sessionUid } = this
            await events.record('session_ended', {
              accountId,
              sessionUid,
              ...clientInfo(Provider.ctx),
            })
          }
          return super.destroy()
        }
      },
  )
}

/**
 * Whether a sign-in was repeated with the consent that followed it: the session has it, with the
 * time at which it was, and need not be written again.
 */
function isRepeatedLogin(
  { oidc: { entities } }: KoaContextWithOIDC,
  { accountId }: InstanceType<Provider['Session']>,
): boolean {
  const { result, lastSubmission } = entities.Interaction ?? {}
  const login = result?.consent && lastSubmission?.login
  return login !== undefined && login.accountId === accountId
}

/** Of the engine's part, but for its end and for what each request finds out anew. */
function memberText(session: InstanceType<Provider['Session']>): string {
  const { jti, uid, accountId, loginTs, amr, transient, state, tbh } = session
  return JSON.stringify([jti, uid, accountId, loginTs, amr, transient, state, tbh])
}

/**
 * What a request changes of a session's row; undefined where that stays what it is.
 *
 * @param expiresAt in seconds since the epoch: the row's own end never becomes earlier.
 */
function changeOf(
  session: InstanceType<Provider['Session']>,
  { isChanged, expiresAt, aheadS }: { isChanged: boolean; expiresAt: number; aheadS: number },
): SessionChange | undefined {
  const { uid, accountId = '', tbh, amr, loginTs } = session
  const before = browserSessionOf(session)?.authorizations ?? {}
  const { authorized, withdrawn } = changes(before, session.authorizations ?? {})
  if (!isChanged && Object.keys(authorized).length + withdrawn.length === 0) return undefined
  const by = clientInfo(Provider.ctx)
  const { [pageKey]: registered } = session as SessionCopy
  const signedInAt = loginTs === undefined ? expiresAt : loginTs - aheadS
  return {
    ...{ uid, accountId, authorized, withdrawn, ...by, tbh, amr, signedInAt, expiresAt },
    pageKey: registered,
  }
}

const noChange: Omit<BrowserChange, 'session'> = {
  uses: undefined,
  consumes: undefined,
  removed: undefined,
  written: [],
}

/**
 * Sends a browser back to the same address, with the cookies that it has: another request has used
 * the interaction meanwhile, and this one is answered as a repetition of that.
 */
function startAgain(ctx: KoaContextWithOIDC): void {
  ctx.remove('set-cookie')
  ctx.status = 303
  ctx.redirect(ctx.originalUrl)
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
