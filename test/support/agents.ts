import type { GuardedAnswer, GuardedFetch } from '../../src/net/guarded-fetch.ts'
import { GuardedFetchError } from '../../src/net/guarded-fetch.ts'

/** Documents by their URL, as their hosts answer; what is not here does not answer. */
export interface DocumentHosts {
  readonly documents: Map<string, unknown>
  /** Headers of every answer. */
  headers: Record<string, string>
  /** Of each request: its URL and `If-None-Match`. */
  readonly asked: (readonly [url: string, etag: string | undefined])[]
  readonly guardedFetch: GuardedFetch
}

/** Hosts of documents, in the place of the web. A number is a status, and a string a body. */
export function documentHosts(): DocumentHosts {
  const hosts: DocumentHosts = {
    documents: new Map(),
    headers: {},
    asked: [],
    async guardedFetch(url, { headers = {} } = {}): Promise<GuardedAnswer> {
      const etag = headers['if-none-match']
      hosts.asked.push([url, etag])
      const document = hosts.documents.get(url)
      if (document === undefined) throw new GuardedFetchError('unreachable', 'it does not answer')
      const given = new Map(Object.entries(hosts.headers))
      const isSame = etag !== undefined && etag === given.get('etag')
      const status = isSame ? 304 : typeof document === 'number' ? document : 200
      const text = typeof document === 'string' ? document : JSON.stringify(document)
      return { status, headers: given, body: new Uint8Array(Buffer.from(isSame ? '' : text)) }
    },
  }
  return hosts
}

/** The document of an agent that runs on the machines of its users. */
export function agentDocument(client_id: string, changes: Record<string, unknown> = {}) {
  return {
    client_id,
    client_name: 'Helpful agent',
    redirect_uris: ['http://127.0.0.1/callback'],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
    ...changes,
  }
}
