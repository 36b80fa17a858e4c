/**
 * Clients whose client_id is the URL of a document that describes them (OAuth Client ID Metadata
 * Document, draft-ietf-oauth-client-id-metadata-document-02). The engine has a resolver of its own; it
 * keeps nothing when the server stops, knows no ETag, and only the engine's endpoints can ask it.
 * This one is asked by the engine's storage and by the token endpoint alike.
 */
import { parseJsonObject } from '@holdfast/verify/authorization-server'
import { type ClientMetadata, errors } from 'oidc-provider'
import { describeFetch } from '../net/fetch-problem.ts'
import { type GuardedAnswer, type GuardedFetch, GuardedFetchError } from '../net/guarded-fetch.ts'
import {
  type ClientDocument,
  type ClientDocumentTable,
  type FetchedDocument,
  isDocumentId,
} from '../storage/client-document-table.ts'
import type { ClientTable } from '../storage/client-table.ts'
import { clientIdProblem } from './client-id.ts'
import { RegistrationError } from './client-registration.ts'
import { openClient } from './open-clients.ts'

/** The most bytes of a document: twice of what section 6.6 of the draft recommends. */
export const documentLimitBytes = 10 * 1024

/** Milliseconds for which a document is used without asking its host again. */
const freshMs = { least: 60_000, standard: 5 * 60_000, most: 24 * 60 * 60_000 }

/** Milliseconds for which a document that a person has allowed is used while its host does not answer. */
const staleMs = 7 * 24 * 60 * 60_000

/** Milliseconds after which a document that was refused is looked at again. */
const refusedMs = 60_000

/** Documents that a process remembers: of more, the one that was used longest ago is forgotten. */
const rememberedLimit = 500

export interface ClientDocumentsOptions {
  readonly table: Pick<ClientDocumentTable, 'find' | 'write'>
  readonly guardedFetch: GuardedFetch
  /** Hosts that documents may be at, `*.` before one for its subdomains; undefined for any. */
  readonly domains: readonly string[] | undefined
  /** Whether the request that is being answered may have a document fetched that nobody has allowed. */
  readonly admit: () => Promise<boolean>
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

export interface ClientDocuments {
  /**
   * The client of a document, which is fetched if need be; undefined for an id that names none.
   *
   * @throws the engine's `invalid_client` for a document that cannot be had, or is not fit for a client.
   */
  find(clientId: string): Promise<ClientMetadata | undefined>
  /** The same, where only documents count that a person has allowed or that are in memory. */
  known(clientId: string): Promise<ClientMetadata | undefined>
  /** Keeps the document of a client that a person has allowed. */
  remember(clientId: string): Promise<void>
}

/** A document in memory: as a client, or why there is no client. */
type Entry = (
  | { readonly fetched: FetchedDocument; readonly metadata: ClientMetadata }
  | { readonly fetched?: undefined; readonly problem: string }
) & { readonly freshUntil: number }

/** Makes the finder of clients that documents describe. */
export function createClientDocuments({
  table,
  guardedFetch,
  domains,
  admit,
  now,
}: ClientDocumentsOptions): ClientDocuments {
  const entries = new Map<string, Entry>()
  const asking = new Map<string, Promise<Entry>>()

  function put(id: string, entry: Entry): Entry {
    entries.delete(id)
    entries.set(id, entry)
    const [oldest] = entries.size > rememberedLimit ? entries.keys() : []
    if (oldest !== undefined) entries.delete(oldest)
    return entry
  }

  function entryOf(id: string, fetched: FetchedDocument, freshUntil = fetched.freshUntil): Entry {
    try {
      return { fetched, metadata: metadataOf(id, fetched.document), freshUntil }
    } catch (error) {
      const { text, isFinal } = problemOf(error)
      if (!isFinal) throw error
      return { problem: text, freshUntil: now() + refusedMs }
    }
  }

  /** One fetch at a time of each document. The answers of it are for all who ask meanwhile. */
  function fetchOnce(id: string, before: FetchedDocument | undefined, isKept: boolean) {
    const running = asking.get(id)
    if (running) return running
    const answer = fetchEntry(id, before, isKept).finally(() => asking.delete(id))
    asking.set(id, answer)
    return answer
  }

  async function fetchEntry(
    id: string,
    before: FetchedDocument | undefined,
    isKept: boolean,
  ): Promise<Entry> {
    try {
      const fetched = await fetchDocument(id, before)
      const entry = entryOf(id, fetched)
      if (isKept && entry.fetched) await table.write(id, fetched)
      return put(id, entry)
    } catch (error) {
      const problem = problemOf(error)
      if (problem.isFinal) {
        return put(id, { problem: problem.text, freshUntil: now() + refusedMs })
      }
      // What was refused is not accepted again for the silence of its host.
      const known = entries.get(id)
      if (known && 'problem' in known) return known
      if (before && isKept && now() < before.fetchedAt + staleMs) {
        return put(id, entryOf(id, before, now() + refusedMs))
      }
      // The next request asks again, as often as the guard of fetches lets it.
      return { problem: problem.text, freshUntil: 0 }
    }
  }

  async function fetchDocument(
    id: string,
    before: FetchedDocument | undefined,
  ): Promise<FetchedDocument> {
    const answer = await guardedFetch(id, {
      requester: new URL(id).host,
      headers: {
        accept: 'application/json',
        ...(before?.etag !== undefined && { 'if-none-match': before.etag }),
      },
    })
    const times = { fetchedAt: now(), freshUntil: now() + freshnessOf(answer, now()) }
    if (answer.status === 304 && before) return { ...before, ...times }
    if (answer.status === 404 || answer.status === 410) throw new UnfitError('it is not there')
    if (answer.status !== 200) {
      throw new GuardedFetchError('bad_status', `the answer has the status ${answer.status}`)
    }
    return { document: readDocument(answer), etag: etagOf(answer), ...times }
  }

  async function find(id: string, mayFetch: () => Promise<boolean>) {
    if (!isDocumentId(id)) return undefined
    const remembered = entries.get(id)
    if (remembered && now() < remembered.freshUntil) return clientOf(put(id, remembered))
    const problem = documentIdProblem(id, domains)
    if (problem !== undefined) throw unusable(problem)
    const kept = await table.find(id)
    if (kept && now() < kept.freshUntil) {
      return clientOf(put(id, entryOf(id, kept)))
    }
    if (!kept && !(await mayFetch())) return undefined
    return clientOf(await fetchOnce(id, kept ?? remembered?.fetched, kept !== undefined))
  }

  return {
    async find(id) {
      return find(id, async () => {
        if (await admit()) return true
        throw unusable('too many documents were asked for by this network: try again later')
      })
    },
    known: (id) => find(id, async () => false),
    async remember(id) {
      // The page may be another process's, which has fetched the document for itself.
      await find(id, async () => true)
      const fetched = entries.get(id)?.fetched
      if (fetched) await table.write(id, fetched)
    },
  }
}

function clientOf(entry: Entry): ClientMetadata {
  if ('metadata' in entry) return entry.metadata
  throw unusable(entry.problem)
}

/** What a document says is not fit for a client: asking again soon would not help. */
class UnfitError extends Error {
  override name = 'UnfitError'
}

function unusable(why: string): errors.InvalidClient {
  return new errors.InvalidClient(`the metadata document of the client cannot be used: ${why}`)
}

function problemOf(error: unknown): { text: string; isFinal: boolean } {
  if (error instanceof UnfitError) return { text: error.message, isFinal: true }
  const text = error instanceof GuardedFetchError && describeFetch(error)
  if (!text) throw error
  return { text, isFinal: false }
}

/**
 * Why no document can be at a client_id, as the end of a sentence (draft section 3). Of each document
 * there is one spelling, and a query would make many documents of one.
 */
export function documentIdProblem(
  id: string,
  domains: readonly string[] | undefined,
): string | undefined {
  const url = URL.parse(id)
  const problem = clientIdProblem(id)
  if (problem) return problem
  if (url?.protocol !== 'https:' || url.href !== id)
    return 'client_id must be an https URL, as browsers write it'
  if (url.username || url.password) return 'client_id must not have a user name'
  if (id.includes('?') || id.includes('#')) return 'client_id must not have a query or a fragment'
  if (url.pathname === '/') return 'client_id must have a path'
  const { hostname } = url
  const isAllowed = (domain: string) =>
    domain.startsWith('*.') ? hostname.endsWith(domain.slice(1)) : hostname === domain
  if (domains && !domains.some(isAllowed)) return 'documents of this host are not accepted here'
  return undefined
}

function readDocument({ body }: GuardedAnswer): ClientDocument {
  if (body.length > documentLimitBytes) {
    throw new UnfitError(`it is longer than ${documentLimitBytes} bytes`)
  }
  // Names that come twice are refused: others may read the other one.
  const document = parseJsonObject(Buffer.from(body))
  if (!document) throw new UnfitError('it is no JSON object')
  return document
}

/** @throws UnfitError */
function metadataOf(id: string, document: ClientDocument): ClientMetadata {
  if (document.client_id !== id) throw new UnfitError('its client_id is not its URL')
  if (document.client_secret !== undefined || document.client_secret_expires_at !== undefined) {
    throw new UnfitError('it has a secret')
  }
  try {
    const metadata = openClient('document', document, new URL(id).hostname)
    return { ...metadata, client_id: id } as ClientMetadata
  } catch (error) {
    if (!(error instanceof RegistrationError)) throw error
    throw new UnfitError(error.message)
  }
}

/** HTTP caching as far as it is meant here: `max-age`, else `Expires`, within our own bounds. */
function freshnessOf({ headers }: GuardedAnswer, now: number): number {
  const control = headers.get('cache-control') ?? ''
  const [, seconds] = /(?:^|[\s,])max-age=(\d{1,9})/i.exec(control) ?? []
  const expires = Date.parse(headers.get('expires') ?? '')
  const named = seconds === undefined ? expires - now : Number(seconds) * 1000
  const asked = Number.isNaN(named) ? freshMs.standard : named
  const most = /no-(?:store|cache)/i.test(control) ? freshMs.least : freshMs.most
  return Math.max(freshMs.least, Math.min(most, asked))
}

/** One that a header can carry back as it came. */
function etagOf({ headers }: GuardedAnswer): string | undefined {
  const etag = headers.get('etag')
  return etag !== undefined && /^(?:W\/)?"[\x21\x23-\x7e]{0,200}"$/.test(etag) ? etag : undefined
}

/** Clients of a table, and beside them those that documents describe. */
export function withDocuments(
  table: ClientTable,
  find: ClientDocuments['find'] | undefined,
): ClientTable {
  if (!find) return table
  return { ...table, find: async (id) => (await table.find(id)) ?? (await find(id)) }
}
