import { pathOfIssuer } from '../config/issuer-path.ts'

/** Documents about an issuer that are at its origin, with its path behind (RFC 8414 section 3.1). */
const metadata = ['/.well-known/oauth-authorization-server', '/.well-known/openid-configuration']

/** What is about an origin, or about this node. */
const ofOrigin = [
  '/.well-known/change-password',
  '/.well-known/device-bound-sessions',
  '/.well-known/webauthn',
  '/livez',
  '/readyz',
]

/**
 * Where a path that arrives is in this application, which lives at `/`. Undefined for what arrives
 * elsewhere: there is nothing.
 */
export function publicPlaces({
  issuer,
  arrivalPath,
}: {
  issuer: string
  /** Where requests arrive: the path of the issuer, unless a proxy rewrites it. */
  arrivalPath: string
}): (path: string) => string | undefined {
  const base = pathOfIssuer(issuer)
  return (path) => {
    if (ofOrigin.includes(path)) return path
    const known = metadata.find((document) => path === document + base)
    if (known) return known
    if (path === arrivalPath) return '/'
    return path.startsWith(`${arrivalPath}/`) ? path.slice(arrivalPath.length) : undefined
  }
}
