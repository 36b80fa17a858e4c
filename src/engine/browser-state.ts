/**
 * Before someone has signed in, the engine's state travels with the browser: a stranger who begins
 * authorization requests writes no row. The interaction is in a cookie of its own path, so that a
 * request carries the state of one interaction and never that of other tabs; the session is in the
 * session cookie. Once someone has signed in, both are rows.
 *
 * A row that was used stays, consumed, until it expires. A browser that lost the answer to its use
 * asks again and continues with what its session proves; a sign-in counts once.
 */
import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Context } from 'koa'
import Provider, { errors, type InteractionResults, type KoaContextWithOIDC } from 'oidc-provider'
import { lifetimes } from '../config/lifetimes.ts'
import { cookiesOf } from '../http/host-cookies.ts'
import { AlreadyConsumedError } from '../storage/already-consumed.ts'
import type { EngineTimes } from '../storage/engine-times.ts'
import type { ModelAdditions } from './model-additions.ts'
import { override } from './override.ts'
import { refusedFor } from './refusal-reason.ts'
import { createSealedState, type SealedState } from './sealed-state.ts'

declare module 'oidc-provider' {
  interface Interaction {
    consumed?: number | undefined
    parJti?: string | undefined
    getValueAndPayload(): Promise<{ payload: object }>
  }
  interface Session {
    oldId?: string | undefined
  }
}

/**
 * The longest state that a cookie holds. With the other headers of its response it fits into the 4
 * KB that nginx reads of a response's headers unless it is told otherwise.
 */
const interactionLimitBytes = 2400

/** Browsers drop cookies of more than 4,096 bytes, with the name. */
const sessionLimitBytes = 3800

/** Identifiers of sessions that are rows have no dot. */
const sealedSession = 's.'

/** Whether the value of a session's cookie is of a browser in which nobody has signed in. */
export function isSealedSession(value: string): boolean {
  return value.startsWith(sealedSession)
}

export interface BrowserStateOptions {
  /** Secrets that nodes share, the one to seal with first. */
  readonly keys: () => readonly Uint8Array[]
  readonly times: EngineTimes
  readonly additions: Pick<ModelAdditions, 'keepInInteraction' | 'opensInteraction'>
  /** The path of the session cookie. */
  readonly sessionPath: string
  /** The path of an interaction's pages. */
  readonly interactionPath: (uid: string) => string
  /** Whether the network of a request may have another row for state that no cookie can hold. */
  readonly admitRow: (ctx: Context) => Promise<boolean>
}

/** Keeps the state of browsers in which nobody has signed in out of the database. */
export function keepStateInBrowsers(
  engine: Provider,
  { keys, times, additions, sessionPath, interactionPath, admitRow }: BrowserStateOptions,
): void {
  const sealing = { keys, now: times.now }
  const sealed = createSealedState('session', sealing)
  keepSessions(engine, { sealed, times, path: sessionPath })
  const cookie = interactionCookie(engine, createSealedState('interaction', sealing), times)
  keepInteractions(engine, { cookie, times, additions, interactionPath, admitRow })
  keepResults(engine, { cookie, times, interactionPath })
}

interface InteractionCookie {
  read(ctx: Context, uid: string): Record<string, unknown> | undefined
  /** @returns false where the state does not fit. */
  write(ctx: Context, path: string, state: { uid: string; exp: number; payload: object }): boolean
  clear(ctx: Context, path: string): void
}

function interactionCookie(
  engine: Provider,
  sealed: SealedState,
  times: EngineTimes,
): InteractionCookie {
  const name = `${engine.cookieName('interaction')}_state`
  const options = { httpOnly: true, sameSite: 'lax', signed: false, overwrite: false } as const
  return {
    read(ctx, uid) {
      // Browsers send what another host of our domain has planted beside ours, perhaps before it.
      for (const cookie of cookiesOf(ctx.req.headers.cookie)) {
        const state = cookie.name === name ? sealed.open(uid, cookie.value) : undefined
        if (state) return times.toEngine(state)
      }
      return undefined
    },
    write(ctx, path, { uid, exp, payload }) {
      const expiresAt = exp - times.aheadS()
      const value = sealed.seal(uid, times.toDatabase(payload), expiresAt)
      if (value.length > interactionLimitBytes) return false
      ctx.cookies.set(name, value, { ...options, path, expires: new Date(expiresAt * 1000) })
      return true
    },
    clear: (ctx, path) => ctx.cookies.set(name, null, { ...options, path }),
  }
}

const isResume = (ctx: KoaContextWithOIDC | undefined) =>
  ctx?.oidc.route === 'resume' || ctx?.oidc.route === 'device_resume'

function keepInteractions(
  engine: Provider,
  {
    cookie,
    times,
    additions,
    interactionPath,
    admitRow,
  }: Pick<BrowserStateOptions, 'times' | 'additions' | 'interactionPath' | 'admitRow'> & {
    cookie: InteractionCookie
  },
): void {
  override(
    engine,
    'Interaction',
    (Base) =>
      class extends Base {
        static override get IN_PAYLOAD() {
          return [...super.IN_PAYLOAD, 'consumed']
        }

        override async save(ttl: number): Promise<string> {
          const ctx = Provider.ctx
          const isNew = ctx !== undefined && ctx.oidc.entities.Interaction !== this
          if (isNew) Object.assign(this, additions.keepInInteraction(ctx))
          if (!isNew || this.session) return super.save(ttl)
          this.exp = times.engineNowS() + ttl
          const { payload } = await this.getValueAndPayload()
          const state = { uid: this.uid, exp: this.exp, payload }
          if (cookie.write(ctx, interactionPath(this.uid), state)) return this.uid
          if (await admitRow(ctx)) return super.save(ttl)
          throw refusedFor(
            'large_requests',
            new errors.TemporarilyUnavailable('too many large requests from this network'),
          )
        }

        static override async find<T>(uid: string, options?: object): Promise<T | undefined> {
          const ctx = Provider.ctx
          const state = ctx && cookie.read(ctx, uid)
          type Model = InstanceType<typeof Base>
          const found: Model | undefined = state
            ? Reflect.construct(this, [state])
            : await super.find<Model>(uid, options)
          if (ctx && found && !additions.opensInteraction(ctx, found)) return undefined
          if (state || !found?.consumed) return found as T | undefined
          return ctx && isResume(ctx) ? (asRepeated(found, ctx) as T) : undefined
        }

        // Of any number of uses one signs someone in.
        override async destroy(): Promise<void> {
          const ctx = Provider.ctx
          if (ctx && cookie.read(ctx, this.uid)) {
            cookie.clear(ctx, new URL(this.returnTo).pathname)
            return
          }
          try {
            await this.adapter.consume(this.jti)
          } catch (error) {
            if (!(error instanceof AlreadyConsumedError)) throw error
            if (ctx) asRepeated(this, ctx)
          }
        }
      },
  )
}

/**
 * An interaction that was used before: the answer to that may have been lost. It signs nobody in
 * again. A consent counts in the session that gave it; elsewhere it is a request like a new one.
 */
function asRepeated<T extends InstanceType<Provider['Interaction']>>(
  interaction: T,
  { oidc: { session } }: KoaContextWithOIDC,
): T {
  delete interaction.result?.login
  const { session: begunIn } = interaction
  if (begunIn && begunIn.uid === session?.uid && begunIn.accountId === session.accountId) {
    // RFC 9126 section 4: the same browser may come back to its pushed request.
    delete interaction.parJti
  } else {
    delete interaction.session
    delete interaction.result?.consent
  }
  return interaction
}

/** On our own pages, which the engine has no context for. */
function keepResults(
  engine: Provider,
  {
    cookie,
    times,
    interactionPath,
  }: Pick<BrowserStateOptions, 'times' | 'interactionPath'> & { cookie: InteractionCookie },
): void {
  const details = engine.interactionDetails.bind(engine)
  const finish = engine.interactionResult.bind(engine)

  function fromBrowser(ctx: Context) {
    const uid = ctx.cookies.get(engine.cookieName('interaction'))
    const state = uid && cookie.read(ctx, uid)
    return state
      ? (Reflect.construct(engine.Interaction, [state]) as InstanceType<Provider['Interaction']>)
      : undefined
  }

  engine.interactionDetails = async (request: IncomingMessage, response: ServerResponse) =>
    fromBrowser(engine.createContext(request, response)) ?? details(request, response)

  engine.interactionResult = async (
    request: IncomingMessage,
    response: ServerResponse,
    result: InteractionResults,
    options?: { mergeWithLastSubmission?: boolean },
  ) => {
    const ctx = engine.createContext(request, response)
    const interaction = fromBrowser(ctx)
    if (!interaction) return finish(request, response, result, options)
    const { uid, exp, returnTo, lastSubmission } = interaction
    const isMerged = options?.mergeWithLastSubmission !== false && !('error' in result)
    interaction.result = isMerged ? { ...lastSubmission, ...result } : result
    const { payload } = await interaction.getValueAndPayload()
    // Who has signed in is in a row, which is used once. That nobody did may travel.
    const travels =
      !interaction.result.login &&
      cookie.write(ctx, new URL(returnTo).pathname, { uid, exp, payload })
    if (!travels) await interaction.save(exp - times.engineNowS())
    cookie.clear(ctx, interactionPath(uid))
    return returnTo
  }
}

interface CountedBrowser {
  browser?: string | undefined
}

/** The browser of a session, for limits to count: the same before and after a page is shown again. */
export function browserOf(session: InstanceType<Provider['Session']> | undefined): string {
  return (session as CountedBrowser | undefined)?.browser ?? session?.uid ?? ''
}

function keepSessions(
  engine: Provider,
  { sealed, times, path }: { sealed: SealedState; times: EngineTimes; path: string },
): void {
  override(
    engine,
    'Session',
    (Base) =>
      class extends Base implements CountedBrowser {
        declare browser?: string | undefined

        static override async find<T>(id: string): Promise<T | undefined> {
          if (!isSealedSession(id)) return (await super.find(id)) as T | undefined
          const state = sealed.open('', id.slice(sealedSession.length))
          // With identifiers of its own each time: what is copied leads to no session in common.
          if (!state) return undefined
          const session: CountedBrowser = Reflect.construct(this, [state])
          session.browser = typeof state.browser === 'string' ? state.browser : undefined
          return session as T
        }

        /** What the cookie says: the identifier of a row, or all there is to a session without one. */
        get id(): string {
          if (this.accountId) return this.jti
          const exp = Math.floor(times.now() / 1000) + lifetimes.Interaction
          this.browser ??= randomBytes(12).toString('base64url')
          const { state, browser } = this
          const value = sealedSession + sealed.seal('', { state, browser }, exp)
          if (value.length > sessionLimitBytes) {
            throw refusedFor('request_bounds', new errors.InvalidRequest('state is too long'))
          }
          return value
        }

        set id(value: string) {
          this.jti = value
        }

        override async save(ttl: number): Promise<string> {
          if (!this.accountId) {
            this.exp = times.engineNowS() + ttl
            // The engine saves once more, after it has set the cookie, when it shows a form again.
            Provider.ctx?.oidc.cookies.set(engine.cookieName('session'), this.id, {
              httpOnly: true,
              sameSite: 'lax',
              overwrite: true,
              path,
            })
            return ''
          }
          // The engine removes the old row first: other tabs would find no session for a moment.
          const { oldId } = this
          this.oldId = undefined
          const id = await super.save(ttl)
          if (oldId) await this.adapter.destroy(oldId)
          return id
        }

        override async destroy(): Promise<void> {
          if (this.accountId) await super.destroy()
          else Object.assign(this, { destroyed: true })
        }

        /**
         * The identifier changes when someone signs in. Other tabs send the one before until the
         * answer has arrived, so that it stays when nothing but consent was given.
         */
        override resetIdentifier(): void {
          const ctx = Provider.ctx
          if (isResume(ctx) && ctx?.oidc.entities.Interaction?.prompt.name !== 'login') return
          // What has never been a row has an identifier that nobody has seen.
          if (this.exp !== undefined) super.resetIdentifier()
        }
      },
  )
}
