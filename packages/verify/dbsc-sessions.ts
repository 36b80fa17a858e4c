/**
 * Device Bound Session Credentials for a site with sessions of its own: the header that offers
 * registration, the two endpoints that browsers talk to, and the short-lived bound cookie that
 * shows on each request that the key was proven a short while ago.
 *
 * The session cookie stays what it is, an identifier. A session whose key is registered counts only
 * together with its bound cookie. No framework is needed: requests and answers are plain data.
 */
import {
  type DbscKey,
  type DbscRegistration,
  parseDbscHeader,
  verifyDbscRefresh,
  verifyDbscRegistration,
} from './dbsc.ts'
import { VerifyError, type VerifyErrorCode } from './errors.ts'
import { decodeBase64url } from './lib/base64url.ts'
import { createBoundCookie } from './lib/bound-cookie.ts'
import { checkNames, namesOf, optionalFunction, optionalMethods, positive } from './lib/check.ts'
import { createTickets } from './lib/ticket.ts'
import type { ReplayStore } from './replay.ts'

export type { DbscRegistration }

/** Where the keys of sessions are kept. A row, once there, is never changed to another key. */
export interface DbscBindings {
  /** Keeps the key of a session that has none yet, in one step; `false` when it has one. */
  insert(session: string, registration: DbscRegistration): Promise<boolean>
  /** The key of a session; `undefined` for one that is unknown, unbound or has ended. */
  find(session: string): Promise<(DbscKey & { readonly jkt: string }) | undefined>
}

/** What happened, for the log. Never a cookie, a challenge or a proof. */
export type DbscEvent = Readonly<
  | { type: 'bound' | 'refreshed'; session: string; jkt: string }
  | { type: 'refused'; session: string | undefined; code: VerifyErrorCode }
>

/** Options of {@link createDbscSessions}. */
export type DbscOptions = Readonly<{
  /** The public origin of the site; browsers bind sessions over https only. */
  origin: string
  /**
   * At least 32 bytes that stay the same over restarts and replicas. Or a function that gives the
   * secrets of the moment, so that they can be changed in a running process: the first one makes
   * what is handed out, the others are still accepted.
   */
  secret: Uint8Array | (() => readonly Uint8Array[])
  bindings: DbscBindings
  /** Remembers used challenges; shared by all replicas. */
  replays: ReplayStore
  /**
   * Seconds for which a bound cookie is good: as long as a thief can use a copy of it.
   * Default 600. Browsers refresh two minutes before the end and sign about six times in nine
   * minutes, so that less than five minutes is for tests.
   */
  lifetime?: number
  /** Default `__Host-bound`; with a `basePath`, whose cookies are below it, `__Secure-bound`. */
  cookieName?: `__Host-${string}` | `__Secure-${string}`
  /** The public path of what is `/` here, for a site that is mounted, or whose proxy rewrites paths. */
  basePath?: string
  registrationPath?: string
  refreshPath?: string
  /** Paths, with all below, that need no bound cookie: requests there never wait for a refresh. */
  excludedPaths?: readonly string[]
  /**
   * Hosts whose pages may lead here and have the browser refresh at once: `app.example`,
   * `*.example`, or `*` for all. They can tell from the time it takes whether someone is signed in.
   */
  allowedRefreshInitiators?: readonly string[]
  /** What `/.well-known/device-bound-sessions` says, for sessions that share a key. */
  wellKnown?: () => object | Promise<object>
  onEvent?: (event: DbscEvent) => void | Promise<void>
  /** Milliseconds since the epoch. */
  now?: () => number
}>

const dbscOptions = namesOf<DbscOptions>({
  origin: true,
  secret: true,
  bindings: true,
  replays: true,
  lifetime: true,
  cookieName: true,
  basePath: true,
  registrationPath: true,
  refreshPath: true,
  excludedPaths: true,
  allowedRefreshInitiators: true,
  wellKnown: true,
  onEvent: true,
  now: true,
})

/** The part of a request that matters. */
export type DbscRequest = Readonly<{
  method: string
  path: string
  header: (name: string) => string | undefined
  /** The session that the site's own cookie names on this request, if any. */
  session: () => string | undefined | Promise<string | undefined>
}>

export type DbscAnswer = Readonly<{ status: number; headers: Headers; body?: object }>

type Headers = Readonly<Record<string, string>>

/** The session at an identity provider whose key a new session is to share. */
export type DbscProviderSession = Readonly<{
  /** Thumbprint of the key: `cnf.jkt` of the ID token. */
  key: string
  /** The provider's name of its session: `dbsc_session` of the ID token. */
  session: string
  /** The provider's origin. */
  url: string
}>

export interface DbscSessions {
  readonly cookieName: string
  /** Seconds. */
  readonly lifetime: number
  /**
   * The value of `Secure-Session-Registration`. Send it once, with the response that creates the
   * session: anyone who is offered it later may be a thief with the session cookie.
   */
  offer(session: string, provider?: DbscProviderSession): string
  /** The answer to a request for one of the endpoints; `undefined` for any other request. */
  handle(request: DbscRequest): Promise<DbscAnswer | undefined>
  /**
   * When the key of a session was last proven, by the bound cookie in a `Cookie` header field, in
   * milliseconds since the epoch. `undefined`: not within the lifetime. It does NOT know whether
   * the session has a key: for one that has, `undefined` means that there is no session.
   */
  provenAt(session: string, cookies: string | undefined): number | undefined
  /** A `Set-Cookie` that removes the bound cookie; the browser proves its key once more. */
  readonly expiredCookie: string
}

/** Seconds by which a challenge outlives the cookie that it was handed out with. */
const challengeGrace = 120

const wellKnownPath = '/.well-known/device-bound-sessions'

/**
 * Makes the device-bound part of a site's sessions.
 *
 * It does NOT end sessions: when one ends, let `bindings.find` forget its key, and browsers are
 * told so at their next refresh.
 *
 * @example
 * ```ts
 * const dbsc = createDbscSessions({ origin, secret, bindings, replays })
 * response.setHeader('Secure-Session-Registration', dbsc.offer(session.id))
 * ```
 */
export function createDbscSessions(options: DbscOptions): DbscSessions {
  checkNames('options', options, dbscOptions)
  optionalMethods('bindings', options.bindings ?? {}, ['insert', 'find'])
  optionalMethods('replays', options.replays ?? {}, ['consume'])
  positive('lifetime', options.lifetime, 600)
  for (const name of ['wellKnown', 'onEvent', 'now'] as const) optionalFunction(name, options[name])
  const {
    origin,
    secret,
    bindings,
    replays,
    lifetime = 600,
    basePath = '',
    cookieName = basePath ? '__Secure-bound' : '__Host-bound',
    registrationPath = '/dbsc/registration',
    refreshPath = '/dbsc/refresh',
    excludedPaths = [],
    allowedRefreshInitiators = [],
    wellKnown,
    onEvent = () => {},
    now = Date.now,
  } = options
  const tickets = createTickets(secret, now)
  const { isCurrent } = tickets
  // One attribute off, and browsers refresh before every request.
  const cookie = createBoundCookie({
    name: cookieName,
    purpose: 'companion',
    basePath,
    lifetimeS: lifetime,
    tickets,
    now,
  })
  const [registrationUrl, refreshUrl] = [basePath + registrationPath, basePath + refreshPath]
  const isChallenge = (session: string) => (value: string) =>
    isCurrent(['challenge', session], value, lifetime + challengeGrace)
  const challenge = (session: string) => ({
    'Secure-Session-Challenge': `${quote(tickets.make('challenge', session))};id=${quote(session)}`,
  })

  /** Browsers repeat a proof until they get a new challenge: a used one must not be good again. */
  async function useUp(used: string): Promise<void> {
    const seconds = Math.floor(now() / 1000)
    const until = seconds + lifetime + challengeGrace
    const outcome = await replays.consume(`dbsc.${used}`, until, seconds)
    if (outcome === 'full') throw new VerifyError('replay_store_full', 'replay store is full')
    if (outcome !== 'fresh') {
      throw new VerifyError('dbsc_replayed', 'DBSC challenge was used before')
    }
  }

  /** The instructions of section 9.6, the next bound cookie and the next challenge. */
  function renewal(session: string): DbscAnswer {
    return {
      status: 200,
      headers: {
        'Cache-Control': 'no-store',
        'Set-Cookie': cookie.make(session),
        ...challenge(session),
      },
      body: {
        session_identifier: session,
        refresh_url: refreshUrl,
        scope: {
          origin,
          include_site: false,
          scope_specification: [
            registrationUrl,
            wellKnownPath,
            ...excludedPaths.map((path) => basePath + path),
          ].map((path) => ({ type: 'exclude', domain: new URL(origin).hostname, path })),
        },
        credentials: [{ type: 'cookie', name: cookieName, attributes: cookie.attributes }],
        ...(allowedRefreshInitiators.length > 0 && {
          allowed_refresh_initiators: allowedRefreshInitiators,
        }),
      },
    }
  }

  /**
   * The session is the one that was offered a key. The site's cookie need not be there: after a
   * redirect from a provider it is withheld from the browser's own request, as from any that another
   * site has caused. A cookie of another session is a mistake or an attack.
   */
  async function register({ header, session: current }: DbscRequest): Promise<DbscAnswer> {
    let session = ''
    try {
      const named = await current()
      const registration = verifyDbscRegistration(header('secure-session-response'), {
        audience: origin + registrationUrl,
        acceptAuthorization(value = '') {
          session = offeredSession(value)
          return session !== '' && (named ?? session) === session
        },
        acceptChallenge: (value) => isChallenge(session)(value),
      })
      const { jkt, authorization = '' } = registration
      // An offer of a shared key is for that key and no other.
      const offer = authorization.slice(authorization.indexOf('.') + 1)
      const isOffered = ['', jkt].some((key) =>
        isCurrent(['offer', session, key], offer, challengeGrace),
      )
      if (!isOffered) {
        throw new VerifyError('dbsc_authorization', 'DBSC authorization is not what was offered')
      }
      if ((await bindings.insert(session, registration)) === true) {
        await onEvent({ type: 'bound', session, jkt })
        // A browser that never saw our answer asks again; nobody else has its key.
      } else if ((await bindings.find(session))?.jkt !== jkt) {
        throw new VerifyError('dbsc_bound_already', 'the session has a key or has ended')
      }
      return renewal(session)
    } catch (error) {
      return refuse(error, session || undefined, {})
    }
  }

  async function refresh({ header, session: current }: DbscRequest): Promise<DbscAnswer> {
    const session = parseDbscHeader(header('sec-secure-session-id'))
    if (session === undefined) {
      const body = { error: 'invalid_request', error_description: 'Expected Sec-Secure-Session-Id' }
      return { status: 400, headers: { 'Cache-Control': 'no-store' }, body }
    }
    const key = await bindings.find(session)
    const replacedBy = await current()
    // Two sessions of one browser would overwrite each other's bound cookie for ever.
    if (key === undefined || (replacedBy !== undefined && replacedBy !== session)) {
      return ended(session)
    }
    try {
      const used = verifyDbscRefresh(header('secure-session-response'), key, {
        audience: origin + refreshUrl,
        acceptChallenge: isChallenge(session),
      })
      await useUp(used)
      await onEvent({ type: 'refreshed', session, jkt: key.jkt })
      return renewal(session)
    } catch (error) {
      return refuse(error, session, challenge(session))
    }
  }

  /** 403 and nothing else: after a 401, or any other 4xx, browsers give the session up. */
  async function refuse(
    error: unknown,
    session: string | undefined,
    headers: Headers,
  ): Promise<DbscAnswer> {
    if (!(error instanceof VerifyError)) throw error
    const { code, status, message } = error
    // The first request of every refresh comes without a proof, to get a challenge.
    if (code !== 'dbsc_missing') await onEvent({ type: 'refused', session, code })
    return {
      status,
      headers: { 'Cache-Control': 'no-store', ...headers },
      body: { error: code, error_description: message },
    }
  }

  return {
    cookieName,
    lifetime,
    expiredCookie: cookie.expired,

    offer(session, provider) {
      const parameters = {
        path: registrationUrl,
        challenge: tickets.make('challenge', session),
        authorization: `${Buffer.from(session).toString('base64url')}.${tickets.make('offer', session, provider?.key ?? '')}`,
        ...(provider && {
          provider_key: provider.key,
          provider_session_id: provider.session,
          provider_url: provider.url,
        }),
      }
      const list = Object.entries(parameters).map(([name, value]) => `;${name}=${quote(value)}`)
      return `(ES256 RS256)${list.join('')}`
    },

    async handle(request) {
      const { method, path } = request
      if (method === 'POST' && path === registrationPath) return register(request)
      if (method === 'POST' && path === refreshPath) return refresh(request)
      if (method === 'GET' && path === wellKnownPath && wellKnown) {
        return { status: 200, headers: {}, body: await wellKnown() }
      }
      return undefined
    },

    provenAt: cookie.provenAt,
  }
}

function offeredSession(authorization: string): string {
  return decodeBase64url(authorization.split('.')[0] ?? '')?.toString() ?? ''
}

/** Tells a browser to forget a session: one that is unknown, too, without another word. */
function ended(session: string): DbscAnswer {
  return {
    status: 200,
    headers: { 'Cache-Control': 'no-store' },
    body: { session_identifier: session, continue: false },
  }
}

/** An RFC 9651 string; what is quoted here has neither quotes nor backslashes. */
function quote(text: string): string {
  return `"${text.replace(/["\\]/g, '\\$&')}"`
}
