/** The sessions of browsers, and where they are kept. */
import { Refusal } from '../refusal.ts'

/**
 * The key to which a session is bound: of the browser (DBSC), or of a page. Once there it stays, but
 * for a key of a page that one of the browser replaces.
 */
export type SessionKey = Readonly<{
  method: 'dbsc' | 'page-key'
  jkt: string
  alg: string
  jwk: Readonly<Record<string, string>>
  /** When it was registered. */
  atMs: number
}>

/** One sign-in at one application. */
export type Session = Readonly<{
  /** SHA-256 of what is in the cookie, base64url: of no use as a cookie. */
  id: string
  /** The origin of the application. */
  application: string
  issuer: string
  subject: string
  /** The provider's name of its own session. */
  sid?: string | undefined
  /** What the application may learn of the person. */
  claims: Readonly<Record<string, unknown>>
  startedAtMs: number
  endsAtMs: number
  idleEndsAtMs: number
  /** When the provider is to be asked again whether the person is signed in. */
  renewAtMs: number
  /** The `acr_values` that the provider was asked for: it is not asked twice. */
  askedAcr: readonly string[]
  /** The gate's key of this session, and its tokens: sealed. */
  sealed: string
  /** One more with each change. */
  version: number
  key?: SessionKey | undefined
}>

/** Which sessions a provider wants ended: those of one of its sessions, or all of a person. */
export type Ended = Readonly<{
  application: string
  issuer: string
  sid?: string | undefined
  subject?: string | undefined
}>

/** Where sessions are kept. Each method is one step, also for several processes. */
export interface SessionStore {
  /** Whether other processes see the same sessions. */
  readonly shared: boolean
  /** Keeps a new session. Of one person and application, the oldest beyond `most` end. */
  insert(session: Session, most: number, nowMs: number): Promise<void>
  /** A session that has not ended. */
  find(id: string, nowMs: number): Promise<Session | undefined>
  /** Moves the end of idle life. */
  touch(id: string, idleEndsAtMs: number, nowMs: number): Promise<void>
  /**
   * Binds a session that has no key yet, or to a key of the browser in place of one of a page; `false`
   * for any other, or one that has ended.
   */
  bind(id: string, key: SessionKey): Promise<boolean>
  /** Replaces a session by its next version; `false` where it has ended or has changed. */
  replace(session: Session): Promise<boolean>
  end(id: string): Promise<void>
  /** Ends sessions and says which. */
  endAll(ended: Ended): Promise<readonly string[]>
  /** Lets one process at a time refresh the tokens of a session, until it is done or `untilMs`. */
  lock(id: string, nowMs: number, untilMs: number): Promise<boolean>
  unlock(id: string): Promise<void>
  /** Removes what has ended. */
  sweep(nowMs: number): Promise<void>
}

/** Whether a session is of those that are to end. */
export function concerns(ended: Ended, session: Session): boolean {
  const { application, issuer, sid, subject } = ended
  if (session.application !== application || session.issuer !== issuer) return false
  if (subject !== undefined && session.subject !== subject) return false
  return sid === undefined ? subject !== undefined : session.sid === sid
}

/** Whether a session is still good. */
export const isAlive = ({ endsAtMs, idleEndsAtMs }: Session, nowMs: number) =>
  nowMs < endsAtMs && nowMs < idleEndsAtMs

/**
 * A store whose failures refuse requests: without it nobody is let through.
 *
 * @throws {@link Refusal} `sessions_unavailable`, by each method
 */
export function closedOnFailure(store: SessionStore): SessionStore {
  const closed =
    <Arguments extends unknown[], Result>(method: (...args: Arguments) => Promise<Result>) =>
    async (...args: Arguments): Promise<Result> => {
      try {
        return await method.apply(store, args)
      } catch (cause) {
        throw new Refusal('sessions_unavailable', { cause })
      }
    }
  return Object.freeze({
    shared: store.shared,
    insert: closed(store.insert),
    find: closed(store.find),
    touch: closed(store.touch),
    bind: closed(store.bind),
    replace: closed(store.replace),
    end: closed(store.end),
    endAll: closed(store.endAll),
    lock: closed(store.lock),
    unlock: closed(store.unlock),
    sweep: closed(store.sweep),
  })
}

/**
 * Keeps sessions in the memory of one process, `capacity` at most: beyond that, those end that were
 * begun first.
 */
export function createMemorySessionStore({ capacity }: { capacity: number }): SessionStore {
  const sessions = new Map<string, Session>()
  const locks = new Map<string, number>()

  const endWhere = (isEnded: (session: Session) => boolean) => {
    const ids = [...sessions.values()].filter(isEnded).map(({ id }) => id)
    for (const id of ids) sessions.delete(id)
    return ids
  }

  return Object.freeze({
    shared: false,

    async insert(session: Session, most: number, nowMs: number) {
      const { application, issuer, subject } = session
      const same = [...sessions.values()].filter(
        (each) =>
          concerns({ application, issuer, subject }, each) &&
          each.id !== session.id &&
          isAlive(each, nowMs),
      )
      for (const { id } of same.slice(0, Math.max(0, same.length - most + 1))) sessions.delete(id)
      if (sessions.size >= capacity) endWhere((each) => !isAlive(each, nowMs))
      const [oldest] = sessions.keys()
      if (sessions.size >= capacity && oldest !== undefined) sessions.delete(oldest)
      sessions.set(session.id, session)
    },

    async find(id: string, nowMs: number) {
      const session = sessions.get(id)
      return session && isAlive(session, nowMs) ? session : undefined
    },

    async touch(id: string, idleEndsAtMs: number) {
      const session = sessions.get(id)
      if (session) sessions.set(id, { ...session, idleEndsAtMs })
    },

    async bind(id: string, key: SessionKey) {
      const session = sessions.get(id)
      if (session === undefined) return false
      const isUpgrade = session.key?.method === 'page-key' && key.method === 'dbsc'
      if (session.key !== undefined && !isUpgrade) return false
      sessions.set(id, { ...session, key })
      return true
    },

    async replace(session: Session) {
      const before = sessions.get(session.id)
      if (before?.version !== session.version - 1) return false
      sessions.set(session.id, { ...session, key: before.key })
      return true
    },

    async end(id: string) {
      sessions.delete(id)
    },

    async endAll(ended: Ended) {
      return endWhere((session) => concerns(ended, session))
    },

    async lock(id: string, nowMs: number, untilMs: number) {
      if ((locks.get(id) ?? 0) > nowMs) return false
      locks.set(id, untilMs)
      return true
    },

    async unlock(id: string) {
      locks.delete(id)
    },

    async sweep(nowMs: number) {
      endWhere((session) => !isAlive(session, nowMs))
      for (const [id, untilMs] of locks) if (untilMs <= nowMs) locks.delete(id)
    },
  })
}

/**
 * What this process has seen of sessions in the last moments, so that a request with a session that
 * was looked up a moment ago needs no statement. What another process has ended or bound is noticed
 * `staleMs` later, and what this one has ended at once.
 */
export class RecentSessions {
  readonly #staleMs: number
  readonly #limit: number
  readonly #seen = new Map<string, Readonly<{ session: Session; atMs: number }>>()

  constructor({ staleMs, limit }: { staleMs: number; limit: number }) {
    this.#staleMs = staleMs
    this.#limit = limit
  }

  get(id: string, nowMs: number): Session | undefined {
    const seen = this.#seen.get(id)
    return seen && nowMs - seen.atMs < this.#staleMs ? seen.session : undefined
  }

  set(session: Session, nowMs: number): void {
    this.#seen.delete(session.id)
    this.#seen.set(session.id, { session, atMs: nowMs })
    const [oldest] = this.#seen.keys()
    if (this.#seen.size > this.#limit && oldest !== undefined) this.#seen.delete(oldest)
  }

  delete(id: string): void {
    this.#seen.delete(id)
  }

  deleteAll(ended: Ended): void {
    for (const [id, { session }] of this.#seen) {
      if (concerns(ended, session)) this.#seen.delete(id)
    }
  }
}
