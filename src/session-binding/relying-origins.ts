import type { ClientTable } from '../storage/client-table.ts'

/** Where the clients live that may have sessions of their own on the keys of ours. */
export async function relyingOrigins(clients: Pick<ClientTable, 'list'>): Promise<string[]> {
  const origins = (await clients.list())
    .filter(({ metadata }) => metadata.session_policy?.federation)
    .flatMap(({ metadata }) => metadata.redirect_uris ?? [])
    .flatMap((uri) => (uri.startsWith('https:') ? [new URL(uri).origin] : []))
  return [...new Set(origins)]
}
