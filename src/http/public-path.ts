import type { Middleware } from 'koa'

/** Whether a text is a path as an issuer may have one: plain segments, and no final slash. */
export function isPath(text: string): boolean {
  return /^(\/[A-Za-z0-9_-][A-Za-z0-9._~-]*)+$/.test(text)
}

/** The path of an issuer, below which everything public is; `` for one that is an origin. */
export function pathOfIssuer(issuer: string): string {
  return new URL(issuer).pathname.replace(/\/$/, '')
}

/** Documents about an issuer that are at its origin, with its path behind (RFC 8414 section 3.1). */
const metadata = ['/.well-known/oauth-authorization-server', '/.well-known/openid-configuration']

/** Documents about an origin. */
const ofOrigin = ['/.well-known/device-bound-sessions']

/**
 * Lets the rest of the application live at `/`, wherever requests arrive and whatever path clients
 * write: `ctx.path` is the path below `arrivalPath`, and `ctx.originalUrl` the public one, of which
 * DPoP's `htu` is a part. To anything that arrives elsewhere there is nothing here.
 */
export function publicPath({
  issuer,
  arrivalPath,
}: {
  issuer: string
  /** Where requests arrive: the path of the issuer, unless a proxy rewrites it. */
  arrivalPath: string
}): Middleware {
  const base = pathOfIssuer(issuer)

  function placeOf(path: string): string | undefined {
    if (ofOrigin.includes(path)) return path
    const known = metadata.find((document) => path === document + base)
    if (known) return known
    if (path === arrivalPath) return '/'
    return path.startsWith(`${arrivalPath}/`) ? path.slice(arrivalPath.length) : undefined
  }

  return async (ctx, next) => {
    const place = placeOf(ctx.path)
    if (place === undefined) return
    // What oidc-provider and koa-mount call the part of the path that is not the application's.
    Object.assign(ctx, { mountPath: base })
    ctx.path = place
    ctx.originalUrl = base + place + ctx.search
    ctx.request.originalUrl = ctx.originalUrl
    await next()
  }
}
