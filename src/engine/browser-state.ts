/**
 * The state of an interaction travels with the browser, in a cookie of its own path, so that a
 * request carries the state of one interaction and never that of other tabs. So does a session in
 * which nobody has signed in: a stranger who begins authorization requests writes no row.
 *
 * An interaction of someone who has signed in counts once: its use is a row, which stays until the
 * interaction expires. A browser that lost the answer to its use asks again and continues with what
 * its session proves.
 */
import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Context } from 'koa'
import Provider, { errors, type InteractionResults, type KoaContextWithOIDC } from 'oidc-provider'
import { lifetimes } from '../config/lifetimes.ts'
import { cookiesOf } from '../http/host-cookies.ts'
import { pageKeyOf } from '../http/page-key-form.ts'
import { AlreadyConsumedError } from '../storage/already-consumed.ts'
import { artifactKey } from '../storage/artifact-table.ts'
import type { BrowserRequestTable, FoundBrowser } from '../storage/browser-request-table.ts'
import type { EngineTimes } from '../storage/engine-times.ts'
import { isStorable } from '../storage/text.ts'
import { browserRequest } from './browser-request.ts'
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

/** Bytes that nginx reads of a response's headers unless it is told otherwise: more is a 502. */
const headerLimitBytes = 4096

/**
 * Bytes of headers that follow the state of an interaction in a response, beside the path of the
 * issuer in each of them: two cookies of the interaction and two to come back by, each with a
 * signature, and that of the browser; for a person those of the session, and what registers a key.
 */
const followingBytes = { ofStranger: 1350, ofPerson: 2030, ofResult: 500 } as const
const mostFollowingPaths = 8

/** And for a sign-in that registers a page key, its bound cookie. */
const pageKeyBytes = 175

/** Bytes of a cookie beside its name, value and path. */
const attributeBytes = 100

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
  readonly requests: Pick<BrowserRequestTable, 'find'>
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
  { keys, times, requests, additions, sessionPath, interactionPath, admitRow }: BrowserStateOptions,
): void {
  const sealing = { keys, now: times.now }
  const sealed = createSealedState('session', sealing)
  const cookie = interactionCookie(engine, {
    strangers: createSealedState('interaction', sealing),
    // The previous release cannot tell that one was used, and must not open it.
    usedOnce: createSealedState('interaction of a person', sealing),
    times,
    sessionPath,
  })
  keepSessions(engine, { sealed, times, path: sessionPath, lookUp })
  keepInteractions(engine, { cookie, times, additions, interactionPath, admitRow })
  keepResults(engine, { cookie, times, interactionPath })

  /** By one statement, or by none where the request names nothing that the database knows. */
  async function lookUp(ctx: Context, session: string | undefined): Promise<FoundBrowser> {
    const resumed = isResume(ctx.oidc && (ctx as KoaContextWithOIDC))
      ? ctx.cookies.get(engine.cookieName('resume'), { signed: true })
      : undefined
    const read: InteractionState | undefined = resumed ? cookie.read(ctx, resumed) : undefined
    const state = read && isUsedOnce(read) ? read : undefined
    if (!session && !state) return nothingFound
    const clientId = read?.params?.client_id ?? ctx.query.client_id
    return requests.find({
      session: session ? artifactKey('Session', session) : undefined,
      interaction: state && resumed ? artifactKey('Interaction', resumed) : undefined,
      accountId: state?.result?.login?.accountId,
      grantId: state?.result?.consent?.grantId,
      clientId: typeof clientId === 'string' && isStorable(clientId) ? clientId : undefined,
    })
  }
}

const nothingFound: FoundBrowser = {
  session: undefined,
  browserSession: undefined,
  account: undefined,
  grantId: undefined,
  grant: undefined,
  interaction: undefined,
}

interface InteractionCookie {
  read(ctx: Context, uid: string): Record<string, unknown> | undefined
  /** @returns false where the state does not fit. */
  write(
    ctx: Context,
    path: string,
    state: { uid: string; exp: number; payload: object },
    follows: keyof typeof followingBytes,
  ): boolean
  clear(ctx: Context, path: string): void
}

type InteractionState = Partial<
  Pick<InstanceType<Provider['Interaction']>, 'params' | 'result' | 'session'>
>

/** Whether an interaction signs someone in, or continues a session. */
function isUsedOnce({ result, session }: InteractionState): boolean {
  return result?.login !== undefined || session !== undefined
}

function interactionCookie(
  engine: Provider,
  {
    strangers,
    usedOnce,
    times,
    sessionPath,
  }: {
    strangers: SealedState
    usedOnce: SealedState
    times: EngineTimes
    sessionPath: string
  },
): InteractionCookie {
  const name = `${engine.cookieName('interaction')}_state`
  const options = { httpOnly: true, sameSite: 'lax', signed: false, overwrite: false } as const
  return {
    read(ctx, uid) {
      const request = browserRequest(ctx)
      if (request.opened?.uid === uid) return request.opened.state
      // Browsers send what another host of our domain has planted beside ours, perhaps before it.
      for (const cookie of cookiesOf(ctx.req.headers.cookie)) {
        const state =
          cookie.name === name &&
          (usedOnce.open(uid, cookie.value) ?? strangers.open(uid, cookie.value))
        if (!state) continue
        request.opened = { uid, state: times.toEngine(state) }
        return request.opened.state
      }
      return undefined
    },
    write(ctx, path, { uid, exp, payload }, follows) {
      const expiresAt = exp - times.aheadS()
      const sealed = isUsedOnce(payload) ? usedOnce : strangers
      const value = sealed.seal(uid, times.toDatabase(payload), expiresAt)
      const before = headerBytes(ctx) + name.length + value.length + path.length + attributeBytes
      const paths = mostFollowingPaths * sessionPath.length
      const registers = follows === 'ofPerson' && pageKeyOf(ctx.oidc?.entities.Interaction?.result)
      const after = followingBytes[follows] + (registers ? pageKeyBytes : 0)
      if (before + paths + after > headerLimitBytes) return false
      ctx.cookies.set(name, value, { ...options, path, expires: new Date(expiresAt * 1000) })
      return true
    },
    clear: (ctx, path) => ctx.cookies.set(name, null, { ...options, path }),
  }
}

/** Bytes of the headers that a response has so far. */
function headerBytes({ res }: Context): number {
  let bytes = 0
  for (const [name, values] of Object.entries(res.getHeaders())) {
    for (const value of [values ?? []].flat()) bytes += `${name}: ${value}\r\n`.length
  }
  return bytes
}

/** That an interaction was used is remembered for longer than any clock takes it to be alive. */
const keptAfterExpiryS = 60

/** An interaction repeats the session cookie, and nothing reads it there. */
function withoutCookie<Payload extends InteractionState>(payload: Payload): Payload {
  return payload.session
    ? { ...payload, session: { ...payload.session, cookie: undefined } }
    : payload
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
          if (!isNew && !(ctx && cookie.read(ctx, this.uid))) return super.save(ttl)
          this.exp = times.engineNowS() + ttl
          const { payload } = await this.getValueAndPayload()
          const state = { uid: this.uid, exp: this.exp, payload: withoutCookie(payload) }
          const path = isNew ? interactionPath(this.uid) : new URL(this.returnTo).pathname
          const person = isUsedOnce(payload) ? 'ofPerson' : 'ofStranger'
          if (cookie.write(ctx, path, state, isNew ? person : 'ofResult')) return this.uid
          if (this.session || (await admitRow(ctx))) return super.save(ttl)
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
          const used = ctx && browserRequest(ctx).found?.interaction?.consumedAt
          if (found && state && used) found.consumed = used
          if (!found?.consumed) return found as T | undefined
          return ctx && isResume(ctx) ? (asRepeated(found, ctx) as T) : undefined
        }

        // Of any number of uses one signs someone in.
        override async destroy(): Promise<void> {
          const ctx = Provider.ctx
          const travels = ctx && cookie.read(ctx, this.uid)
          if (travels) cookie.clear(ctx, new URL(this.returnTo).pathname)
          if (ctx && isUsedOnce(this) && !this.consumed) {
            const expiresAt = (this.exp ?? 0) - times.aheadS() + keptAfterExpiryS
            browserRequest(ctx).uses = { ...artifactKey('Interaction', this.uid), expiresAt }
          }
          if (travels || isUsedOnce(this) || this.consumed) return
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

/** Whether someone else signs in: they leave the session in which the interaction began. */
function isOtherAccount({ login }: InteractionResults, session: InteractionState['session']) {
  return Boolean(login && session && login.accountId !== session.accountId)
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

  /** The engine finds none whose session has ended: that of someone whom another one follows has. */
  async function fromRow(ctx: Context, result: InteractionResults) {
    const uid = ctx.cookies.get(engine.cookieName('interaction'))
    const found = uid ? await engine.Interaction.find(uid) : undefined
    return found && isOtherAccount(result, found.session) ? found : undefined
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
    const travelling = fromBrowser(ctx)
    const interaction = travelling ?? (await fromRow(ctx, result))
    if (!interaction) return finish(request, response, result, options)
    const { uid, exp, returnTo, lastSubmission, session } = interaction
    const isMerged = options?.mergeWithLastSubmission !== false && !('error' in result)
    interaction.result = isMerged ? { ...lastSubmission, ...result } : result
    if (isOtherAccount(interaction.result, session)) delete interaction.session
    if (!travelling) {
      await interaction.save(exp - times.engineNowS())
      return returnTo
    }
    const { payload } = await interaction.getValueAndPayload()
    const state = { uid, exp, payload }
    const travels = cookie.write(ctx, new URL(returnTo).pathname, state, 'ofResult')
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
  {
    sealed,
    times,
    path,
    lookUp,
  }: {
    sealed: SealedState
    times: EngineTimes
    path: string
    lookUp: (ctx: Context, session: string | undefined) => Promise<FoundBrowser>
  },
): void {
  type Session = InstanceType<Provider['Session']> & CountedBrowser

  const construct = (Model: Provider['Session'], given: readonly object[]): Session =>
    Reflect.construct(Model, given)

  function opened(Model: Provider['Session'], id: string): Session | undefined {
    const state = sealed.open('', id.slice(sealedSession.length))
    // With identifiers of its own each time: what is copied leads to no session in common.
    if (!state) return undefined
    const session = construct(Model, [state])
    session.browser = typeof state.browser === 'string' ? state.browser : undefined
    return session
  }

  override(
    engine,
    'Session',
    (Base) =>
      class extends Base implements CountedBrowser {
        declare browser?: string | undefined

        static override async get(ctx: Context & Partial<KoaContextWithOIDC>) {
          const { cookies } = ctx.oidc ?? ctx
          const id = cookies.get(engine.cookieName('session'), { signed: true })
          const isSealed = id !== undefined && isSealedSession(id)
          const request = browserRequest(ctx)
          request.found ??= await lookUp(ctx, isSealed ? undefined : id)
          const { session: stored } = request.found
          // Like the engine, which takes one that was made of nothing for new.
          let session = construct(this, id === undefined ? [] : [{}])
          if (isSealed) session = opened(this, id) ?? session
          else if (id && stored) {
            session = construct(this, [{ ...times.toEngine(stored), jti: id }])
          }
          ctx.oidc?.entity('Session', session)
          return session
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
          const ctx = Provider.ctx
          if (oldId && ctx) browserRequest(ctx).removed = artifactKey('Session', oldId)
          else if (oldId) await this.adapter.destroy(oldId)
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
