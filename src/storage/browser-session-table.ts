import type { DbscRegistration } from '@holdfast/verify/dbsc'
import type { Database } from './database.ts'
import { expiringRows } from './expiring-rows.ts'
import { isStorable } from './text.ts'

/** What the engine keeps in a session for one client. */
export type Authorizations = Record<string, object>

export interface SessionBinding {
  /** `page-key`: a script of our own pages has made the key, for a browser without DBSC. */
  readonly method: 'dbsc' | 'page-key'
  /** RFC 7638 thumbprint of the key. */
  readonly jkt: string
  readonly alg: string
  readonly jwk: Readonly<Record<string, string>>
  readonly boundAt: Date
  /** Bound a moment ago: a request that was on its way meanwhile cannot have known. */
  readonly isNew: boolean
}

/** A key that a page has registered (ES256): what a sign-in hands to its session. */
export interface PageKey {
  /** RFC 7638 thumbprint. */
  readonly jkt: string
  readonly x: string
  readonly y: string
}

/** A sign-in that has not ended. */
export interface BrowserSession {
  readonly uid: string
  readonly accountId: string
  readonly authorizations: Authorizations
  readonly userAgent: string
  readonly address: string
  readonly signedInAt: Date
  /** Null for a session that no browser has registered a key for. */
  readonly binding: SessionBinding | null
  /** SHA-256 of the Token Binding ID that the session was begun with, base64url. */
  readonly tbh: string | null
  /** How the person was authenticated (RFC 8176); null where an older release signed in. */
  readonly amr: readonly string[] | null
}

/** What one request changes of a session. */
export interface SessionChange {
  readonly uid: string
  readonly accountId: string
  /** Clients whose authorization is new or has changed. */
  readonly authorized: Authorizations
  /** Clients that are no longer authorized. */
  readonly withdrawn: readonly string[]
  readonly userAgent: string
  readonly address: string
  readonly tbh: string | undefined
  readonly amr?: readonly string[] | undefined
  /** To bind the session to, if it has no key. */
  readonly pageKey?: PageKey | undefined
  /** Unix time in seconds. */
  readonly signedInAt: number
  /** Unix time in seconds. */
  readonly expiresAt: number
}

export type BrowserSessionTable = ReturnType<typeof createBrowserSessionTable>

/** A copy of an ended session that another request was writing meanwhile is gone before this. */
const keptAfterExpiry = '1 day'

/** For how long after a sign-in its offer to register a key of the browser is open, and a bit more. */
const upgradeTime = '3 minutes'

/** Dates are strings in JSON. */
export type BrowserSessionRow = Omit<BrowserSession, 'signedInAt'> & { signedInAt: Date | string }

/** What `asBrowserSession` takes, of the sessions that a `where` is to name. */
export const browserSessionRow = `select uid, account_id as "accountId", authorizations, user_agent as "userAgent", address,
  signed_in_at as "signedInAt", tbh, amr,
  case when jkt is not null then json_build_object(
    'method', method, 'jkt', jkt, 'alg', alg, 'jwk', jwk, 'boundAt', bound_at,
    'isNew', bound_at > now() - interval '3 seconds') end as binding
  from browser_sessions left join session_bindings using (uid)`

/** The tables `browser_sessions` and `session_bindings`. */
export function createBrowserSessionTable(database: Database) {
  return {
    /** A session that is alive; `undefined` for one that is unknown or has ended. */
    async find(uid: string): Promise<BrowserSession | undefined> {
      if (!isStorable(uid)) return undefined
      const { rows } = await database.query<BrowserSessionRow>({
        name: 'browser-session-find',
        text: `${browserSessionRow}
                where uid = $1 and ended_at is null and expires_at > now()`,
        values: [uid],
      })
      return rows[0] && asBrowserSession(rows[0])
    },

    /** The sessions of one person that are alive, the latest first. */
    async listOf(accountId: string): Promise<BrowserSession[]> {
      const { rows } = await database.query<BrowserSessionRow>({
        name: 'browser-session-list',
        text: `${browserSessionRow}
                where account_id = $1 and ended_at is null and expires_at > now()
                order by signed_in_at desc, uid`,
        values: [accountId],
      })
      return rows.map(asBrowserSession)
    },

    /**
     * Binds a session that is alive to a key of its browser: true for one of any number of calls. A
     * page key of the same sign-in gives way to it; no other key is ever replaced.
     */
    async bind(uid: string, { jkt, alg, jwk }: DbscRegistration): Promise<boolean> {
      const { rowCount } = await database.query({
        name: 'session-binding-insert',
        text: `insert into session_bindings (uid, method, jkt, alg, jwk)
               select uid, 'dbsc', $2, $3, $4 from browser_sessions
                where uid = $1 and ended_at is null and expires_at > now()
               on conflict on constraint session_bindings_pkey do update
                  set method = excluded.method, jkt = excluded.jkt, alg = excluded.alg,
                      jwk = excluded.jwk, bound_at = now()
                where session_bindings.method = 'page-key'
                  and session_bindings.bound_at > now() - interval '${upgradeTime}'`,
        values: [uid, jkt, alg, JSON.stringify(jwk)],
      })
      return rowCount === 1
    },

    /** @returns whether this call has ended it. */
    async end(uid: string): Promise<boolean> {
      const { rowCount } = await database.query({
        name: 'browser-session-end',
        text: 'update browser_sessions set ended_at = now() where uid = $1 and ended_at is null',
        values: [uid],
      })
      return rowCount === 1
    },

    /**
     * Ends the sessions of one person, or all of them but one.
     *
     * @returns how many have ended.
     */
    async endAllOf(accountId: string, { but }: { but?: string } = {}): Promise<number> {
      const { rowCount } = await database.query({
        name: 'browser-session-end-all',
        text: `update browser_sessions set ended_at = now()
                where account_id = $1 and ended_at is null and uid is distinct from $2`,
        values: [accountId, but ?? null],
      })
      return rowCount
    },

    ...expiringRows(database, {
      table: 'browser_sessions',
      column: 'expires_at',
      before: `now() - interval '${keptAfterExpiry}'`,
    }),
  }
}

export function asBrowserSession(row: BrowserSessionRow): BrowserSession {
  const { binding, signedInAt } = row
  return {
    ...row,
    signedInAt: new Date(signedInAt),
    binding: binding && { ...binding, boundAt: new Date(binding.boundAt) },
  }
}
