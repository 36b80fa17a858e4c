import type { Database } from './database.ts'

/** The times of a key, as they stand in its row. */
export interface KeyTimes {
  readonly kid: string
  readonly generation: number
  readonly createdAt: number
  readonly signsFrom: number
  readonly retiredAt: number | undefined
}

/** A row: the times are milliseconds since the epoch by the clock of the database. */
export interface StoredSigningKey extends KeyTimes {
  readonly purpose: string
  /** The private or symmetric JWK, encrypted. */
  readonly jwe: string
}

export interface NewSigningKey extends Pick<StoredSigningKey, 'kid' | 'purpose' | 'jwe'> {
  readonly generation: number
  /** Milliseconds from now on. */
  readonly signsIn: number
}

export type SigningKeyTable = ReturnType<typeof createSigningKeyTable>

/** The table `signing_keys`. */
export function createSigningKeyTable(database: Database) {
  const kids = ({ rows }: { rows: { kid: string }[] }) => rows.map(({ kid }) => kid)
  return {
    /** All keys, and what time it is for the database. */
    async list(): Promise<{ keys: StoredSigningKey[]; now: number }> {
      const { rows } = await database.query<Row>({
        name: 'signing-keys-list',
        // The time is there when there is no key yet.
        text: `select clock_timestamp() as now, kid, purpose, generation, jwe, created_at,
                      signs_from, retired_at
               from (select) as always left join signing_keys on true
               order by purpose, generation`,
      })
      const now = rows[0]?.now.getTime() ?? Number.NaN
      return { keys: rows.filter(({ kid }) => kid !== null).map(asKey), now }
    },

    /**
     * Inserts keys. Of several that are the same generation of one purpose, by whatever node, one is
     * there afterwards: who made the others uses that one.
     *
     * @returns the names of those that are there now.
     */
    async insert(keys: readonly NewSigningKey[]): Promise<string[]> {
      return kids(
        await database.query({
          name: 'signing-keys-insert',
          text: `insert into signing_keys (kid, purpose, generation, jwe, signs_from)
                 select kid, purpose, generation, jwe, now() + make_interval(secs => signs_in)
                 from unnest($1::text[], $2::text[], $3::integer[], $4::text[], $5::float8[])
                   as new (kid, purpose, generation, jwe, signs_in)
                 on conflict on constraint signing_keys_generation_key do nothing
                 returning kid`,
          values: [
            keys.map(({ kid }) => kid),
            keys.map(({ purpose }) => purpose),
            keys.map(({ generation }) => generation),
            keys.map(({ jwe }) => jwe),
            keys.map(({ signsIn }) => signsIn / 1000),
          ],
        }),
      )
    },

    /** Has the next published key of a purpose sign now. */
    async advance(purpose: string): Promise<string[]> {
      return kids(
        await database.query({
          name: 'signing-keys-advance-next',
          text: `update signing_keys set signs_from = now()
                 where kid = (select kid from signing_keys
                               where purpose = $1 and signs_from > now() and retired_at is null
                               order by signs_from, generation limit 1)
                 returning kid`,
          values: [purpose],
        }),
      )
    },

    /** @returns false when the key is unknown or was retired before. */
    async retire(kid: string): Promise<boolean> {
      const { rowCount } = await database.query({
        name: 'signing-keys-retire',
        text: 'update signing_keys set retired_at = now() where kid = $1 and retired_at is null',
        values: [kid],
      })
      return rowCount === 1
    },

    /** Puts a key into another envelope. @returns false when another node has done so. */
    async reseal({ kid, jwe }: Pick<StoredSigningKey, 'kid' | 'jwe'>, next: string) {
      const { rowCount } = await database.query({
        name: 'signing-keys-reseal',
        text: 'update signing_keys set jwe = $3 where kid = $1 and jwe = $2',
        values: [kid, jwe, next],
      })
      return rowCount === 1
    },

    /** @returns the names of those that were there. */
    async remove(names: readonly string[]): Promise<string[]> {
      return kids(
        await database.query({
          name: 'signing-keys-remove',
          text: 'delete from signing_keys where kid = any($1) returning kid',
          values: [names],
        }),
      )
    },
  }
}

interface Row {
  now: Date
  kid: string
  purpose: string
  generation: number
  jwe: string
  created_at: Date
  signs_from: Date
  retired_at: Date | null
}

function asKey({ kid, purpose, generation, jwe, ...times }: Row): StoredSigningKey {
  return {
    kid,
    purpose,
    generation,
    jwe,
    createdAt: times.created_at.getTime(),
    signsFrom: times.signs_from.getTime(),
    retiredAt: times.retired_at?.getTime(),
  }
}
