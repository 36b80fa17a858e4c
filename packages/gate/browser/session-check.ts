/** Which session a request belongs to, and whether its browser has shown the key of it. */
import { hash, randomBytes } from 'node:crypto'
import type { DbscSessions } from '@holdfast/verify/dbsc'
import type { PageKeys } from '@holdfast/verify/page-keys'
import { type Fields, valuesOf } from '../headers.ts'
import { readCookies, sessionCookie, setCookie } from './cookies.ts'
import type { Sealer } from './sealing.ts'
import { isAlive, type RecentSessions, type Session, type SessionStore } from './sessions.ts'

/** A session, and how far it can be believed on this request. */
export type Found = Readonly<{
  session: Session
  /**
   * `bound`: its key was proven. `plain`: it has no key. `settling`: the key is a moment old, and this
   * request may have been sent before the browser had its bound cookie. `unproven`: its key was not
   * shown, so that the request counts as without a session.
   */
  state: 'bound' | 'plain' | 'settling' | 'unproven'
  /** Until when this can be believed without another proof. */
  untilMs: number
}>

/** Finds sessions of one application. */
export type SessionCheck = Readonly<{
  /** The session of a request; a statement only when this process has not seen it lately. */
  find(fields: Fields): Promise<Found | undefined>
  /** The id of the session that a cookie names, without a look at the store. */
  idOf(fields: Fields): string | undefined
  /** A new cookie and the id of its session. */
  create(maxAgeS: number): Readonly<{ id: string; cookie: string }>
}>

/** For so long after its registration a key need not be shown: requests are on their way. */
export const settlingMs = 3000

/** Idle life is written anew when so much of it has passed. */
const touchShare = 0.1

/** Makes the check of an application's sessions. `idleMs` is the idle life. */
export function createSessionCheck({
  origin,
  sealer,
  store,
  recent,
  dbsc,
  pageKeys,
  idleMs,
  proofMs,
  now,
}: Readonly<{
  origin: string
  sealer: Sealer
  store: SessionStore
  recent: RecentSessions
  dbsc: Pick<DbscSessions, 'provenAt'>
  /** Undefined: a session that is bound by the key of a page counts for nothing. */
  pageKeys: Pick<PageKeys, 'provenAt'> | undefined
  idleMs: number
  proofMs: number
  now: () => number
}>): SessionCheck {
  const purpose = `cookie ${origin}`

  function idOf(fields: Fields): string | undefined {
    const [secret = '', code = '', ...more] =
      readCookies(fields).get(sessionCookie)?.split('.') ?? []
    // A cookie that the gate has not made costs no statement.
    const isOwn = more.length === 0 && secret !== '' && sealer.isAuthentic(purpose, secret, code)
    return isOwn ? hash('sha256', secret, 'base64url') : undefined
  }

  async function lookUp(id: string, nowMs: number): Promise<Session | undefined> {
    const known = recent.get(id, nowMs)
    if (known !== undefined) return known
    const session = await store.find(id, nowMs)
    if (session === undefined || session.application !== origin) return undefined
    const isDue = session.idleEndsAtMs - nowMs < idleMs * (1 - touchShare)
    const idleEndsAtMs = isDue ? nowMs + idleMs : session.idleEndsAtMs
    if (isDue) await store.touch(id, idleEndsAtMs, nowMs)
    const seen = { ...session, idleEndsAtMs }
    recent.set(seen, nowMs)
    return seen
  }

  function stateOf(
    { id, key, endsAtMs }: Session,
    fields: Fields,
    nowMs: number,
  ): Pick<Found, 'state' | 'untilMs'> {
    if (key === undefined) return { state: 'plain', untilMs: endsAtMs }
    const keys = key.method === 'page-key' ? pageKeys : dbsc
    if (keys === undefined) return { state: 'unproven', untilMs: nowMs }
    const provenAtMs = keys.provenAt(id, valuesOf(fields, 'cookie').join('; '))
    if (provenAtMs !== undefined) return { state: 'bound', untilMs: provenAtMs + proofMs }
    const untilMs = key.atMs + settlingMs
    return { state: nowMs < untilMs ? 'settling' : 'unproven', untilMs }
  }

  return Object.freeze({
    idOf,

    async find(fields: Fields) {
      const id = idOf(fields)
      if (id === undefined) return undefined
      const nowMs = now()
      const session = await lookUp(id, nowMs)
      if (session === undefined || !isAlive(session, nowMs)) return undefined
      return { session, ...stateOf(session, fields, nowMs) }
    },

    create(maxAgeS: number) {
      const secret = randomBytes(32).toString('base64url')
      const value = `${secret}.${sealer.authenticate(purpose, secret)}`
      const id = hash('sha256', secret, 'base64url')
      return { id, cookie: setCookie(sessionCookie, value, maxAgeS) }
    },
  })
}
