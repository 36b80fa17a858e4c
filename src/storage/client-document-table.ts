import type { Database } from './database.ts'
import { expiringRows } from './expiring-rows.ts'
import { isStorable } from './text.ts'

/** The members of a document, as its host has answered. */
export type ClientDocument = Readonly<Record<string, unknown>>

/** A client ID metadata document as it was fetched. */
export interface FetchedDocument {
  readonly document: ClientDocument
  readonly etag: string | undefined
  /** Milliseconds since the epoch. */
  readonly fetchedAt: number
  readonly freshUntil: number
}

/** Whether a client_id is the URL of a document: such a client has no row in `clients`. */
export function isDocumentId(clientId: string): boolean {
  return clientId.startsWith('https://')
}

/** The client that a row of `artifacts` ends with: one of a document ends with its grants alone. */
export function endsWith(clientId: string | undefined): string | undefined {
  return clientId !== undefined && isDocumentId(clientId) ? undefined : clientId
}

/** Days after which a document is forgotten that nobody has fetched again: longer than a grant lives. */
const keptDays = 100

export type ClientDocumentTable = ReturnType<typeof createClientDocumentTable>

/** The table `client_documents`: documents of clients that a person has allowed. */
export function createClientDocumentTable(database: Database) {
  return {
    async find(clientId: string): Promise<FetchedDocument | undefined> {
      if (!isStorable(clientId)) return undefined
      const { rows } = await database.query<
        Omit<FetchedDocument, 'etag'> & { etag: string | null }
      >({
        name: 'client-document-find',
        text: `select document, etag,
                        extract(epoch from fetched_at)::float8 * 1000 as "fetchedAt",
                        extract(epoch from fresh_until)::float8 * 1000 as "freshUntil"
                   from client_documents where client_id = $1 and expires_at > now()`,
        values: [clientId],
      })
      const [row] = rows
      return row && { ...row, etag: row.etag ?? undefined }
    },

    /** Writes a document, unless a later one is there. */
    async write(
      clientId: string,
      { document, etag, fetchedAt, freshUntil }: FetchedDocument,
    ): Promise<void> {
      await database.query({
        name: 'client-document-write',
        text: `insert into client_documents
                      (client_id, document, etag, fetched_at, fresh_until, expires_at)
               values ($1, $2, $3, to_timestamp($4::float8 / 1000),
                       to_timestamp($5::float8 / 1000),
                       now() + make_interval(days => ${keptDays}))
               on conflict on constraint client_documents_pkey do update
                  set document = excluded.document, etag = excluded.etag,
                      fetched_at = excluded.fetched_at, fresh_until = excluded.fresh_until,
                      expires_at = excluded.expires_at
                where client_documents.fetched_at < excluded.fetched_at`,
        values: [clientId, JSON.stringify(document), etag, fetchedAt, freshUntil],
      })
    },

    ...expiringRows(database, {
      table: 'client_documents',
      column: 'expires_at',
      before: 'now()',
    }),
  }
}
