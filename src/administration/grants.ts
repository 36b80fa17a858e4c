import type { AdminQueries, StoredGrant } from '../storage/admin-queries.ts'
import type { RecordChange } from './administration.ts'
import { AdministrationError } from './administration-error.ts'
import { accountOf } from './audit.ts'
import { isDigest } from './digest.ts'

/** What people have granted to applications: the roots of their tokens. */
export function administerGrants(
  table: AdminQueries,
  idOf: (email: string) => Promise<string>,
  recordChange: RecordChange,
) {
  return {
    async list({
      account: named,
      client,
    }: {
      /** Its id or email. */
      account?: string | undefined
      client?: string | undefined
    }): Promise<StoredGrant[]> {
      return table.listGrants({ account: await accountOf(named, idOf), client })
    },

    /** Ends every code, refresh token and opaque access token of a grant; JWTs live to their `exp`. */
    async revoke(id: string): Promise<void> {
      const revoked = isDigest(id) ? await table.revokeGrant(id) : undefined
      if (!revoked) throw new AdministrationError('not_found', `There is no grant ${id}.`)
      recordChange('grant.revoked', revoked, { grant: id })
    },
  }
}
