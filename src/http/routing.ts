import type { Context, Middleware } from 'koa'
import { pathOfIssuer } from '../config/issuer-path.ts'
import { PageError } from '../pages/page-error.ts'
import { acceptJson, machineRoutes } from './machine-routes.ts'
import { publicPlaces } from './public-path.ts'
import { readRequestTarget } from './request-target.ts'
import { allRoutes, type Method, type Route, type RouteFeature, type RouteName } from './routes.ts'

/** The route that a request is for. */
export interface Matched {
  readonly name: RouteName
  readonly path: string
  /** As the client wrote them, percent-decoded once. */
  readonly params: Readonly<Record<string, string>>
  /** A browser asks whether a script may call the route. No rule of the route is about that. */
  readonly isPreflight: boolean
}

type Match = (method: string, path: string) => Matched | undefined

/**
 * Finds routes by method and path. Every character counts: case, slashes, dots and escapes. A GET
 * route answers HEAD as well. A fixed path goes before one with parameters.
 */
export function createMatcher(features: Readonly<Record<RouteFeature, boolean>>): Match {
  const fixed = new Map<string, Candidate[]>()
  const open: (Candidate & { readonly segments: readonly string[] })[] = []
  for (const [name, route] of Object.entries(allRoutes) as [RouteName, Route][]) {
    if (route.feature && !features[route.feature]) continue
    if (route.path.includes('/:')) open.push({ name, route, segments: route.path.split('/') })
    else fixed.set(route.path, [...(fixed.get(route.path) ?? []), { name, route }])
  }

  return (method, path) => {
    for (const { name, route } of fixed.get(path) ?? []) {
      if (takes(route, method)) return matched(name, route, method, {})
    }
    const segments = path.split('/', longestPath + 1)
    for (const { name, route, segments: pattern } of open) {
      const params = takes(route, method) ? paramsOf(pattern, segments) : undefined
      if (params) return matched(name, route, method, params)
    }
    return undefined
  }
}

interface Candidate {
  readonly name: RouteName
  readonly route: Route
}

/** Segments of the longest path in the table, the empty one before the first slash included. */
const longestPath = Math.max(...Object.values(allRoutes).map(({ path }) => path.split('/').length))

function takes({ methods, cors }: Route, method: string): boolean {
  if (method === 'OPTIONS') return cors === true
  return methods.includes((method === 'HEAD' ? 'GET' : method) as Method)
}

function matched(
  name: RouteName,
  { path }: Route,
  method: string,
  params: Readonly<Record<string, string>>,
): Matched {
  return { name, path, params, isPreflight: method === 'OPTIONS' }
}

function paramsOf(
  pattern: readonly string[],
  segments: readonly string[],
): Record<string, string> | undefined {
  if (pattern.length !== segments.length) return undefined
  const params: Record<string, string> = {}
  for (const [at, expected] of pattern.entries()) {
    const segment = segments[at] ?? ''
    if (!expected.startsWith(':')) {
      if (segment !== expected) return undefined
      continue
    }
    const value = decoded(segment)
    if (!value) return undefined
    params[expected.slice(1)] = value
  }
  return params
}

/** Undefined for what is no UTF-8 text once it is decoded, overlong forms included. */
function decoded(segment: string): string | undefined {
  try {
    return decodeURIComponent(segment)
  } catch {
    return undefined
  }
}

/**
 * Decides, once and before anything else, which route a request is for. It also lets the rest of
 * the application live at `/`, wherever requests arrive and whatever path clients write: `ctx.path`
 * is the path below `arrivalPath`, and `ctx.originalUrl` the public one, of which DPoP's `htu` is a
 * part. {@link refuseUnrouted} answers what has no route.
 */
export function routing({
  issuer,
  arrivalPath,
  features,
}: {
  issuer: string
  /** Where requests arrive: the path of the issuer, unless a proxy rewrites it. */
  arrivalPath: string
  features: Readonly<Record<RouteFeature, boolean>>
}): Middleware {
  const base = pathOfIssuer(issuer)
  const placeOf = publicPlaces({ issuer, arrivalPath })
  const match = createMatcher(features)

  return (ctx, next) => {
    const target = readRequestTarget(ctx.req.url ?? '')
    const place = target && placeOf(target.path)
    ctx.state.isMalformed = target === undefined
    ctx.state.route = place === undefined ? undefined : match(ctx.method, place)
    ctx.state.others = place === undefined || ctx.state.route ? [] : otherMethods(match, place)
    if (target?.authority !== undefined) ctx.req.headers.host = target.authority
    // Nothing that comes after this parses what its client wrote.
    ctx.req.url = (place ?? '/') + (target?.search ?? '')
    // What oidc-provider and koa-mount call the part of the path that is not the application's.
    Object.assign(ctx, { mountPath: base })
    ctx.originalUrl = base + ctx.req.url
    ctx.request.originalUrl = ctx.originalUrl
    return next()
  }
}

const everyMethod = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS'] as const

/** The routes of a path by other methods than that of a request. */
function otherMethods(match: Match, path: string): { method: string; name: RouteName }[] {
  return everyMethod.flatMap((method) => {
    const found = match(method, path)
    return found ? [{ method, name: found.name }] : []
  })
}

/** The longest Origin header: a scheme, a host name of 253 characters and a port fit. */
const longestOrigin = 300

/**
 * Ends requests that no route is for with 404, those of another method than the routes of their
 * path have with 405 (RFC 9110 section 15.5.6), and those that cannot be read with 400.
 */
export function refuseUnrouted(): Middleware {
  return (ctx, next) => {
    if (ctx.state.isMalformed) {
      throw new PageError(
        'malformed_target',
        'Expected a path of visible ASCII characters, and at most 100 parameters',
      )
    }
    if (ctx.get('origin').length > longestOrigin) {
      throw new PageError('origin_too_long', `Expected at most ${longestOrigin} characters`)
    }
    const others: ReturnType<typeof otherMethods> = ctx.state.others ?? []
    if (others.length > 0) {
      ctx.set('allow', others.map(({ method }) => method).join(', '))
      if (others.some(({ name }) => machineRoutes.includes(name))) acceptJson(ctx)
      throw new PageError('method_not_allowed', 'Expected a method of the header Allow')
    }
    return matchedRoute(ctx) ? next() : undefined
  }
}

/** The route of a request; undefined for one that has none, and before {@link routing}. */
export function matchedRoute(ctx: Pick<Context, 'state'>): Matched | undefined {
  return ctx.state.route
}

/** Attaches middleware, such as a limit, to routes by their names. Preflights pass beside it. */
export function onRoutes(names: readonly RouteName[], middleware: Middleware): Middleware {
  const wanted: ReadonlySet<RouteName> = new Set(names)
  return (ctx, next) => {
    const route = matchedRoute(ctx)
    return route && !route.isPreflight && wanted.has(route.name) ? middleware(ctx, next) : next()
  }
}

/** The routes that are forms of our own pages: a same-origin rule is for all of them. */
export const formRoutes = (Object.keys(allRoutes) as RouteName[]).filter(
  (name) => allRoutes[name].form,
)
