import { hash } from 'node:crypto'
import type { AccountRecord } from './account-store.ts'
import { type AccountRow, accountColumns, asAccount } from './account-table.ts'
import type { Database } from './database.ts'
import { isStorable } from './text.ts'

/** A counter of attempts in the table `rate_limits`. */
export interface AttemptCounter {
  readonly key: string
  readonly durationS: number
  /** Whether an attempt counts here only where account and network do not know each other. */
  readonly ofStrangers: boolean
}

/** The key of a counter. It is a digest: the table names nobody. */
export function attemptKey(name: string, value: string): string {
  return `${name}:${hash('sha256', value, 'base64url')}`
}

/** A counter after an attempt. */
export interface CountedAttempts {
  readonly key: string
  readonly points: number
  /** Milliseconds until it begins anew. */
  readonly forMs: number
}

export type SignInAttemptTable = ReturnType<typeof createSignInAttemptTable>

type RecordRow = { readonly account: (AccountRow & { passwordHash: string }) | null }

const nowMs = `(extract(epoch from now()) * 1000)::bigint`
const accountOf = (email: string) =>
  `(select to_json(found) from (select ${accountColumns}, password_hash as "passwordHash"
      from accounts where email = ${email}) found) as account`

/**
 * What an attempt to sign in counts for, and the account that it names: one statement when it
 * begins, and one more when it succeeds. The duration of a counter begins with its first attempt and
 * is not lengthened by later ones. Rows are locked in the order of their keys.
 */
export function createSignInAttemptTable(database: Database) {
  return {
    /** Whether account and network know each other. */
    async isKnown(known: string): Promise<boolean> {
      const { rowCount } = await database.query({
        name: 'sign-in-attempt-is-known',
        text: `select from rate_limits where key = $1 and expire > ${nowMs}`,
        values: [known],
      })
      return rowCount === 1
    },

    /**
     * Counts an attempt at each counter that it counts for: many at once are counted one by one.
     *
     * @param known the key that says that account and network know each other.
     */
    async count(
      { email, known }: { email: string | undefined; known: string | undefined },
      counters: readonly AttemptCounter[],
    ) {
      const { rows } = await database.query<RecordRow & CountedAttempts>({
        name: 'sign-in-attempt-count',
        text: `with counted as (
                 insert into rate_limits as present (key, points, expire)
                 select key, 1, ${nowMs} + duration * 1000
                   from unnest($3::text[], $4::bigint[], $5::boolean[])
                     as new (key, duration, of_strangers)
                  where not of_strangers or not exists (
                        select from rate_limits where key = $1 and expire > ${nowMs})
                  order by key
                 on conflict on constraint rate_limits_pkey do update
                    set points = case when present.expire <= ${nowMs} then 1
                                      else present.points + 1 end,
                        expire = case when present.expire <= ${nowMs} then excluded.expire
                                      else present.expire end
                 returning key, points, (expire - ${nowMs})::float8 as "forMs"
               )
               select counted.*, ${accountOf('$2')} from counted`,
        values: [
          known,
          storable(email),
          counters.map(({ key }) => key),
          counters.map(({ durationS }) => durationS),
          counters.map(({ ofStrangers }) => ofStrangers),
        ],
      })
      return { counted: rows as readonly CountedAttempts[], record: asRecord(rows[0]) }
    },

    /** Takes back one attempt of each. */
    async giveBack(keys: readonly string[]): Promise<void> {
      await database.query({
        name: 'sign-in-attempt-give-back',
        text: `with locked as (
                 select key from rate_limits where key = any($1) order by key for update
               )
               update rate_limits set points = points - 1
                 from locked where rate_limits.key = locked.key and points > 0`,
        values: [keys],
      })
    },

    /**
     * An attempt that has succeeded: what it was counted for is taken back, and `forgotten` begins
     * anew. Account and network know each other from now on.
     */
    async succeed({
      known,
      knownS,
      forgotten,
      strangers,
    }: {
      known: string
      knownS: number
      forgotten: string
      /** The counters of those who do not know each other. */
      strangers: readonly string[]
    }): Promise<void> {
      await database.query({
        name: 'sign-in-attempt-succeed',
        text: `with before as materialized (
                 select from rate_limits where key = $1 and expire > ${nowMs}
               ), locked as materialized (
                 select key from rate_limits
                  where key = $3 or (key = any($4) and not exists (select from before))
                  order by key for update
               ), forgotten as (
                 delete from rate_limits using locked
                  where rate_limits.key = locked.key and locked.key = $3
               ), returned as (
                 update rate_limits set points = points - 1
                   from locked
                  where rate_limits.key = locked.key and locked.key <> $3 and points > 0
               )
               insert into rate_limits (key, points, expire)
               values ($1, 1, ${nowMs} + $2::bigint * 1000)
               on conflict on constraint rate_limits_pkey do update
                  set points = 1, expire = excluded.expire`,
        values: [known, knownS, forgotten, strangers],
      })
    },
  }
}

function storable(email: string | undefined): string | undefined {
  return email !== undefined && isStorable(email) ? email : undefined
}

function asRecord(row: RecordRow | undefined): AccountRecord | undefined {
  const found = row?.account
  return found ? { account: asAccount(found), passwordHash: found.passwordHash } : undefined
}
