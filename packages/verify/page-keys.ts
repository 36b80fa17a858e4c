/**
 * Page keys: for browsers that know no Device Bound Session Credentials. A script of the site's own
 * pages makes a key that the browser does not export, and proves it by the proofs, challenges and
 * bound cookies of DBSC. The session cookie stays an identifier; a copy of all cookies is good until
 * the bound cookie expires.
 *
 * It is less than DBSC: any script that runs in the site's pages can use the key while it runs, and
 * nothing says where the browser keeps it. Never treat the two as the same.
 *
 * No framework is needed: requests and answers are plain data. The script is not a part of this: it
 * posts proofs by `fetch`, without `Sec-Secure-Session-Id`, which browsers keep for themselves.
 */
import {
  type DbscKey,
  type DbscRegistration,
  verifyDbscRefresh,
  verifyDbscRegistration,
} from './dbsc.ts'
import type { DbscAnswer, DbscEvent, DbscRequest } from './dbsc-sessions.ts'
import { VerifyError } from './errors.ts'
import { createBoundCookie } from './lib/bound-cookie.ts'
import { checkNames, namesOf, optionalFunction, optionalMethods, positive } from './lib/check.ts'
import { createTickets } from './lib/ticket.ts'
import type { ReplayStore } from './replay.ts'

/** Options of {@link createPageKeys}. */
export type PageKeyOptions = Readonly<{
  /** The public origin of the site. */
  origin: string
  /** As for {@link createDbscSessions}; the same secret may be given to both. */
  secret: Uint8Array | (() => readonly Uint8Array[])
  /** The page key of a session; `undefined` for one that is unknown, has none or has ended. */
  find: (session: string) => Promise<(DbscKey & { readonly jkt: string }) | undefined>
  /** Remembers used challenges; shared by all replicas. */
  replays: ReplayStore
  /** Seconds for which a bound cookie is good: as long as a thief can use a copy. Default 600. */
  lifetime?: number
  /** Seconds for which the challenge of a page is good. Default 3600. */
  pageLifetime?: number
  /** Default `__Host-page_key`; with a `basePath`, `__Secure-page_key`. Never that of DBSC. */
  cookieName?: `__Host-${string}` | `__Secure-${string}`
  /** The public path of what is `/` here. */
  basePath?: string
  refreshPath?: string
  onEvent?: (event: DbscEvent) => void | Promise<void>
  /** Milliseconds since the epoch. */
  now?: () => number
}>

const pageKeyOptions = namesOf<PageKeyOptions>({
  origin: true,
  secret: true,
  find: true,
  replays: true,
  lifetime: true,
  pageLifetime: true,
  cookieName: true,
  basePath: true,
  refreshPath: true,
  onEvent: true,
  now: true,
})

/** What the script of a page in a session needs, to prove the key before the bound cookie expires. */
export type PageKeyState = Readonly<{
  /** A challenge for the next proof. */
  challenge: string
  /** Seconds until the bound cookie expires. */
  seconds: number
}>

export interface PageKeys {
  readonly cookieName: string
  /** Seconds. */
  readonly lifetime: number
  /** The public URL that the script posts its proofs to. */
  readonly refreshUrl: string
  /** The challenge of a page that registers a key, for one `subject`: the form that the page shows. */
  pageChallenge(subject: string): string
  /**
   * Verifies the proof that the script of a page has put into its form. It does NOT use up the
   * challenge: keep the key in the statement that uses up the subject, and never replace a key.
   *
   * @throws {@link VerifyError} with a `dbsc_…` code.
   */
  verifyRegistration(proof: string, subject: string): DbscRegistration
  /** A `Set-Cookie` for the response that has kept the key of a session. */
  boundCookie(session: string): string
  /** A `Set-Cookie` that removes the bound cookie; the script proves the key once more. */
  readonly expiredCookie: string
  /** What a page in a session tells its script; `provenAt` as of this request. */
  stateOf(session: string, provenAt: number | undefined): PageKeyState
  /**
   * The answer to a refresh by a script; `undefined` for any other request, and for one whose
   * session has no page key.
   */
  handle(request: DbscRequest): Promise<DbscAnswer | undefined>
  /**
   * When the page key of a session was last proven, by a `Cookie` header field, in milliseconds
   * since the epoch. It does NOT know whether the session has one.
   */
  provenAt(session: string, cookies: string | undefined): number | undefined
}

/** Seconds by which a challenge outlives the cookie that it was handed out with. */
const challengeGraceS = 120

/**
 * Makes the page keys of a site's sessions.
 *
 * @example
 * ```ts
 * const pageKeys = createPageKeys({ origin, secret, find, replays })
 * const { jkt, jwk, alg } = pageKeys.verifyRegistration(form.get('page_key'), form.get('id'))
 * ```
 */
export function createPageKeys(options: PageKeyOptions): PageKeys {
  checkNames('options', options, pageKeyOptions)
  optionalMethods('replays', options.replays ?? {}, ['consume'])
  positive('lifetime', options.lifetime, 600)
  positive('pageLifetime', options.pageLifetime, 3600)
  for (const name of ['find', 'onEvent', 'now'] as const) optionalFunction(name, options[name])
  const {
    origin,
    secret,
    find,
    replays,
    lifetime = 600,
    pageLifetime = 3600,
    basePath = '',
    cookieName = basePath ? '__Secure-page_key' : '__Host-page_key',
    refreshPath = '/dbsc/refresh',
    onEvent = () => {},
    now = Date.now,
  } = options
  const tickets = createTickets(secret, now)
  const cookie = createBoundCookie({
    name: cookieName,
    purpose: 'page key',
    basePath,
    lifetimeS: lifetime,
    tickets,
    now,
  })
  const audience = origin + basePath + refreshPath
  const challengeFor = (session: string) => tickets.make('page key challenge', session)
  const isChallenge = (session: string) => (value: string) =>
    tickets.isCurrent(['page key challenge', session], value, lifetime + challengeGraceS)

  async function useUp(challenge: string): Promise<void> {
    const seconds = Math.floor(now() / 1000)
    const until = seconds + lifetime + challengeGraceS
    const outcome = await replays.consume(`page-key.${challenge}`, until, seconds)
    if (outcome === 'full') throw new VerifyError('replay_store_full', 'replay store is full')
    if (outcome !== 'fresh') {
      throw new VerifyError('dbsc_replayed', 'DBSC challenge was used before')
    }
  }

  /** Each answer names the key and brings the next challenge; several may be outstanding. */
  const answer = (session: string, status: number, headers: object, body: object): DbscAnswer => ({
    status,
    headers: {
      'Cache-Control': 'no-store',
      'Secure-Session-Challenge': `"${challengeFor(session)}"`,
      ...headers,
    },
    body,
  })

  async function refresh(
    session: string,
    key: DbscKey & { readonly jkt: string },
    proof: string | undefined,
  ): Promise<DbscAnswer> {
    const { jkt } = key
    try {
      const used = verifyDbscRefresh(proof, key, {
        audience,
        acceptChallenge: isChallenge(session),
      })
      await useUp(used)
      await onEvent({ type: 'refreshed', session, jkt })
      const headers = { 'Set-Cookie': cookie.make(session) }
      return answer(session, 200, headers, { key: jkt, seconds: lifetime })
    } catch (error) {
      if (!(error instanceof VerifyError)) throw error
      const { code, status, message } = error
      // A script without a challenge asks for one by a request without a proof.
      if (code !== 'dbsc_missing') await onEvent({ type: 'refused', session, code })
      return answer(session, status, {}, { error: code, error_description: message, key: jkt })
    }
  }

  return {
    cookieName,
    lifetime,
    refreshUrl: audience,
    pageChallenge: (subject) => tickets.make('page key registration', subject),

    verifyRegistration(proof, subject) {
      const registration = verifyDbscRegistration(proof, {
        audience,
        acceptChallenge: (value) =>
          tickets.isCurrent(['page key registration', subject], value, pageLifetime),
      })
      // The script makes no others, and pages need not tell it which.
      if (registration.alg !== 'ES256') {
        throw new VerifyError('dbsc_algorithm', 'page keys must use ES256')
      }
      return registration
    },

    boundCookie: cookie.make,
    expiredCookie: cookie.expired,
    provenAt: cookie.provenAt,

    stateOf(session, provenAt) {
      const leftMs = provenAt === undefined ? 0 : provenAt + lifetime * 1000 - now()
      return { challenge: challengeFor(session), seconds: Math.max(0, Math.floor(leftMs / 1000)) }
    },

    async handle({ method, path, header, session: current }) {
      if (method !== 'POST' || path !== refreshPath) return undefined
      // A browser's own, of a session that it has bound itself.
      if (header('sec-secure-session-id') !== undefined) return undefined
      const session = await current()
      const key = session === undefined ? undefined : await find(session)
      if (session === undefined || key === undefined) return undefined
      return refresh(session, key, header('secure-session-response'))
    },
  }
}
