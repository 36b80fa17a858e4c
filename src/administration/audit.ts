import type { AuditQuery, AuditTable, StoredAuditRow } from '../storage/audit-table.ts'
import type { CountedEventQuery, CountedEventTable } from '../storage/counted-event-table.ts'

/** What happened, for anyone who knows an account by its email or by its id. */
export function administerAudit(table: AuditTable, idOf: (email: string) => Promise<string>) {
  return {
    async list({ account, ...query }: AuditQuery): Promise<StoredAuditRow[]> {
      return table.list({ ...query, account: await accountOf(account, idOf) })
    },
  }
}

/** What strangers caused, which is counted and not in the audit trail. */
export function administerCounts(table: CountedEventTable) {
  return { list: (query: CountedEventQuery) => table.list(query) }
}

/** The id of an account that was named by either. */
export async function accountOf(
  named: string | undefined,
  idOf: (email: string) => Promise<string>,
): Promise<string | undefined> {
  return named?.includes('@') ? idOf(named) : named
}

/** A date, or a date and a time with its zone (RFC 3339), as administrators write it. */
export function readTime(text: string): Date | undefined {
  const isTime = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d))?$/i.test(text)
  const time = new Date(text)
  return isTime && !Number.isNaN(time.getTime()) ? time : undefined
}
