/** Authorization server metadata (RFC 8414, OpenID Connect Discovery): just enough to find keys. */
import { type Fetch, fetchJson } from './lib/fetch-json.ts'
import { isObject } from './lib/json.ts'

/**
 * The metadata document of an issuer.
 *
 * RFC 8414 puts the well-known path between host and path, OpenID Connect after the path; both are
 * tried. RFC 8414 section 3.3: a document that names another issuer must not be used.
 */
export async function discover(fetch: Fetch, issuer: string): Promise<Record<string, unknown>> {
  const { origin, pathname } = new URL(issuer)
  const path = pathname.replace(/\/$/, '')
  const locations = [
    `${origin}/.well-known/oauth-authorization-server${path}`,
    `${origin}${path}/.well-known/openid-configuration`,
  ]
  const failures: unknown[] = []
  for (const location of locations) {
    try {
      const metadata = await fetchJson(fetch, location)
      if (isObject(metadata) && metadata.issuer === issuer) return metadata
      failures.push(new Error(`${location} describes another issuer`))
    } catch (error) {
      failures.push(error)
    }
  }
  throw new AggregateError(failures, `no metadata found for issuer ${issuer}`)
}
