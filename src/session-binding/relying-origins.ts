import type { ClientTable } from '../storage/client-table.ts'
import { createTtlCache, type TtlCacheOptions } from '../storage/ttl-cache.ts'

/** Redirect URIs that the document is made from: a browser reads no more of it. */
const limit = 1000

/**
 * Where the clients live that may have sessions of their own on the keys of ours. Anyone may ask:
 * the table is read once in a few seconds, and by one request at a time.
 */
export function createRelyingOrigins(
  clients: Pick<ClientTable, 'listFederatedRedirectUris'>,
  clock: TtlCacheOptions = {},
): () => Promise<readonly string[]> {
  const memory = createTtlCache(async () => {
    const uris = await clients.listFederatedRedirectUris(limit)
    const origins = uris.flatMap((uri) => (uri.startsWith('https:') ? [new URL(uri).origin] : []))
    return [...new Set(origins)]
  }, clock)
  let reading: Promise<readonly string[]> | undefined
  return () => {
    reading ??= memory
      .find('origins')
      .then((origins) => origins ?? [])
      .finally(() => {
        reading = undefined
      })
    return reading
  }
}
