import type { IssuedTable, StoredGrant } from '../storage/issued-table.ts'
import type { Administered } from './administration.ts'
import { AdministrationError } from './administration-error.ts'
import { isDigest } from './digest.ts'

/** What people have granted to applications: the roots of their tokens. */
export function administerGrants(
  table: IssuedTable,
  idOf: (email: string) => Promise<string>,
  administered: Administered,
) {
  return {
    async list({
      email,
      client,
    }: {
      email?: string | undefined
      client?: string | undefined
    }): Promise<StoredGrant[]> {
      const account = email === undefined ? undefined : await idOf(email)
      return table.listGrants({ account, client })
    },

    /** Ends every code, refresh token and opaque access token of a grant; JWTs live to their `exp`. */
    async revoke(id: string): Promise<void> {
      const revoked = isDigest(id) ? await table.revokeGrant(id) : undefined
      if (!revoked) throw new AdministrationError('not_found', `There is no grant ${id}.`)
      administered('grant.revoked', revoked, { grant: id })
    },
  }
}
