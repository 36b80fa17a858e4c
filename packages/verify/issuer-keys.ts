/** Where the keys of an issuer are: configured, or found in its metadata. */
import { discover } from './discovery.ts'
import { createJwks, type Jwks } from './jwks.ts'
import { checkUrl, duration, positive } from './lib/check.ts'
import type { Fetch } from './lib/fetch-json.ts'

/** An issuer and its keys. All times are in seconds unless said otherwise. */
export type IssuerKeyOptions = Readonly<{
  /** The issuer identifier, compared exactly with `iss`; `https`, or `http` on loopback. */
  issuer: string
  /** URL of the key set. Default: found in the issuer's metadata (RFC 8414). */
  jwksUri?: string
  /** The key set itself, for issuers that publish none. */
  jwks?: Readonly<{ keys: readonly object[] }>
  /** Age at which the keys are fetched again. Default 600. */
  jwksMaxAge?: number
  /** For how much longer they are used while the issuer is down. Default 3600. */
  jwksMaxStale?: number
  /** Least time between two fetches. Default 30. */
  jwksCooldown?: number
  /** Default: the global `fetch`. */
  fetch?: Fetch
  /** Milliseconds since the epoch. Default `Date.now`. */
  now?: () => number
}>

/** @throws TypeError that names the option. */
export function createIssuerJwks(
  options: IssuerKeyOptions,
  now: () => number,
  onFailure: (cause: unknown) => void = () => {},
): Jwks {
  const { issuer, jwks, jwksUri } = options
  checkUrl('issuer', issuer)
  if (jwks !== undefined && jwksUri !== undefined)
    throw new TypeError('give either jwks or jwksUri')
  if (jwksUri !== undefined) checkUrl('jwksUri', jwksUri)
  return createJwks({
    source: () => jwks ?? locate(options, 'jwks_uri', jwksUri),
    fetch: fetchOf(options),
    now,
    maxAge: positive('jwksMaxAge', options.jwksMaxAge, 600),
    maxStale: duration('jwksMaxStale', options.jwksMaxStale, 3600),
    cooldown: duration('jwksCooldown', options.jwksCooldown, 30),
    onFailure,
  })
}

/** The `fetch` to use: looked up late, so that a patched global one counts. */
export function fetchOf({ fetch }: Pick<IssuerKeyOptions, 'fetch'>): Fetch {
  return fetch ?? ((url, init) => globalThis.fetch(url, init))
}

/** A URL from configuration, or else from the issuer's metadata. */
export async function locate(
  options: Pick<IssuerKeyOptions, 'issuer' | 'fetch'>,
  name: 'jwks_uri' | 'introspection_endpoint',
  configured: string | undefined,
): Promise<string> {
  if (configured !== undefined) return configured
  const { [name]: url } = await discover(fetchOf(options), options.issuer)
  checkUrl(name, url)
  return url as string
}
