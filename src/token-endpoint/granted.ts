/** What of a request a person has granted: pure functions of what is stored of their grant. */
import type { StoredGrant } from './stored.ts'

const scopesOf = (scope: string | undefined) => (scope ? scope.split(' ') : [])

/** The scopes of OpenID Connect that were granted, out of some. */
export function grantedScopes(grant: StoredGrant, wanted: ReadonlySet<string>): string {
  const rejected = new Set(scopesOf(grant.rejected?.openid?.scope))
  return scopesOf(grant.openid?.scope)
    .filter((scope) => scope === 'openid' || !rejected.has(scope))
    .filter((scope) => wanted.has(scope))
    .join(' ')
}

/** The scopes of a resource that were granted, out of some. */
export function grantedScopesOf(
  grant: StoredGrant,
  resource: string,
  wanted: ReadonlySet<string>,
): string {
  const rejected = new Set(scopesOf(grant.rejected?.resources?.[resource]))
  return scopesOf(grant.resources?.[resource])
    .filter((scope) => !rejected.has(scope) && wanted.has(scope))
    .join(' ')
}

/** Claims that nobody can refuse: they are about the sign-in, and not about the person. */
const notRejectable = new Set(['sub', 'sid', 'auth_time', 'acr', 'amr', 'iss'])

/** The claims that a person has refused. */
export function rejectedClaims(grant: StoredGrant): ReadonlySet<string> {
  return new Set(grant.rejected?.openid?.claims)
}

/** Of the claims that a request has named, those that it may have. */
export function grantedClaims(
  grant: StoredGrant,
  requested: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const rejected = rejectedClaims(grant)
  const granted = new Set(
    grant.openid?.claims?.filter((claim) => notRejectable.has(claim) || !rejected.has(claim)),
  )
  return Object.fromEntries(
    Object.entries(requested).filter(([claim]) => notRejectable.has(claim) || granted.has(claim)),
  )
}
