import type { AdminQueries, StoredSession } from '../storage/admin-queries.ts'
import type { RecordChange } from './administration.ts'
import { AdministrationError } from './administration-error.ts'
import { accountOf } from './audit.ts'

/** Where people are signed in. */
export function administerSessions(
  table: AdminQueries,
  idOf: (email: string) => Promise<string>,
  recordChange: RecordChange,
) {
  return {
    async list({ account: named }: { account?: string | undefined }): Promise<StoredSession[]> {
      return table.listSessions({ account: await accountOf(named, idOf) })
    },

    /** Ends a session, and with it the refresh tokens that were not granted offline access. */
    async end(id: string): Promise<void> {
      const ended = await table.endSession(id)
      if (!ended) throw new AdministrationError('not_found', `There is no session ${id}.`)
      recordChange('session.ended', ended, { session: id })
    },
  }
}
