import type { Database } from './database.ts'

export interface StoredSigningKey {
  readonly kid: string
  readonly alg: string
  /** The private JWK, encrypted. */
  readonly jwe: string
}

export type SigningKeyTable = ReturnType<typeof createSigningKeyTable>

/** The table `signing_keys`. */
export function createSigningKeyTable(database: Database) {
  return {
    async list(): Promise<StoredSigningKey[]> {
      const { rows } = await database.query<StoredSigningKey>({
        text: 'select kid, alg, jwe from signing_keys order by created_at, kid',
      })
      return rows
    },

    /**
     * Inserts the first key of an algorithm. Of servers that start together on an empty database
     * one does, and the others use its key.
     */
    async insertFirst({ kid, alg, jwe }: StoredSigningKey): Promise<void> {
      await database.query({
        text: `insert into signing_keys (kid, alg, generation, jwe) values ($1, $2, 1, $3)
               on conflict on constraint signing_keys_generation_key do nothing`,
        values: [kid, alg, jwe],
      })
    },
  }
}
