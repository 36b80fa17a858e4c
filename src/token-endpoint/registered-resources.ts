import { adminResource, adminScopesOf } from '../engine/admin-resource.ts'
import type { ResourceServerTable } from '../storage/resource-server-table.ts'
import type { FindResource } from './resources.ts'

/** Finds APIs that are registered, and the admin API of this server for clients that administer. */
export function createResourceFinder({
  resourceServers,
  issuer,
  adminApi,
}: {
  resourceServers: Pick<ResourceServerTable, 'find'>
  issuer: string
  adminApi: boolean
}): FindResource {
  const ofAdministration = adminResource(issuer)
  return async (identifier, { administration }) => {
    if (adminApi && identifier === ofAdministration) {
      const scopes = adminScopesOf(administration)
      if (!scopes) return undefined
      return {
        identifier,
        audience: identifier,
        scopes: new Set(scopes),
        algorithm: 'ES256',
        detailsTypes: new Set(),
      }
    }
    const found = await resourceServers.find(identifier)
    if (!found) return undefined
    const { identifier: audience, scopes, openScopes, signingAlg: algorithm } = found
    const detailsTypes = new Set(Object.keys(found.authorizationDetailsTypes))
    return { identifier, audience, scopes: new Set(scopes), openScopes, algorithm, detailsTypes }
  }
}
