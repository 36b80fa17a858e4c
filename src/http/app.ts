import type { Middleware } from 'koa'
import type { Config } from '../config/config.ts'
import { trustedPeers } from '../net/trusted-peers.ts'
import type { Events } from '../observability/events.ts'
import type { Metrics } from '../observability/metrics.ts'
import type { Views } from '../pages/views.ts'
import { noteClientAddress } from './client-address.ts'
import type { Edge } from './edge.ts'
import { errorPages } from './error-pages.ts'
import { type HealthOptions, healthChecks } from './health.ts'
import { hostCookies } from './host-cookies.ts'
import { answerInJson, machineRoutes } from './machine-routes.ts'
import { guardedRoutes } from './network-limit.ts'
import { postAsGet } from './post-as-get.ts'
import { allowProviderForms } from './provider-forms.ts'
import { requestId } from './request-id.ts'
import type { RequestLimits } from './request-limits.ts'
import { requestMetrics } from './request-metrics.ts'
import { retryAfter } from './retry-after.ts'
import type { RouteName } from './routes.ts'
import { formRoutes, onRoutes, refuseUnrouted, routing } from './routing.ts'
import { sameOrigin } from './same-origin.ts'
import { securityHeaders } from './security-headers.ts'
import { singleHeaders } from './single-headers.ts'
import { traceRequests } from './trace-requests.ts'

/** The middleware of each feature; undefined where it is off. */
export interface Features {
  readonly account: Middleware
  readonly admin: Middleware | undefined
  readonly approvals: Middleware
  readonly assets: Middleware
  readonly clientLogos: Middleware
  readonly dbsc: Middleware
  readonly deviceAnswers: Middleware | undefined
  readonly doctor: Middleware
  /** Holds the proofs that the engine checks to the rules of all others. */
  readonly engineProofs: Middleware
  /** Shows a page from which applications learn of a sign-out. */
  readonly frontChannelLogout: Middleware
  readonly interactions: Middleware
  readonly introspection: Middleware
  /** Lets caches keep the keys. */
  readonly keySet: Middleware
  /** Keeps everything but the aliases of endpoints off the origin for certificates. */
  readonly mtlsOrigin: Middleware | undefined
  readonly proofs: Middleware
  readonly registration: Middleware | undefined
  readonly revocation: Middleware
  readonly shedding: Middleware | undefined
  readonly suggestedCodes: Middleware | undefined
  readonly token: Middleware
}

export interface AppOptions {
  readonly config: Pick<
    Config,
    'arrivalPath' | 'issuer' | 'operations' | 'signUp' | 'trustedProxies'
  >
  readonly base: string
  readonly edge: Pick<Edge, 'middleware'>
  readonly events: Pick<Events, 'forwardedByUntrusted'>
  readonly features: Features
  readonly limits: RequestLimits
  readonly metrics: Metrics
  readonly ping: HealthOptions['ping']
  readonly views: Pick<Views, 'error'>
}

/** Everything that a request passes, in this order. After it come the engine's own endpoints. */
export function middlewareInOrder(options: AppOptions): Middleware[] {
  const { base, config, edge, events, features, limits, metrics, ping, views } = options
  const { issuer, arrivalPath, operations } = config
  const routed = { ...operations, signUp: config.signUp.mode !== 'closed' }
  const peers = trustedPeers(config.trustedProxies)
  const onFirstUntrusted = (peer: string) => events.forwardedByUntrusted(peer)
  const ifOn = (names: readonly RouteName[], middleware: Middleware | undefined) =>
    middleware && onRoutes(names, middleware)
  const order: (Middleware | undefined | false)[] = [
    // Everything hangs on the name of a route.
    routing({ issuer, arrivalPath, features: routed }),
    onRoutes(machineRoutes, answerInJson()),
    operations.tracing && traceRequests(),
    requestMetrics(metrics),
    retryAfter(),
    healthChecks({ ping }),
    requestId(),
    features.shedding,
    // Who asks, and how every answer looks.
    noteClientAddress(peers, { onFirstUntrusted }),
    hostCookies({ issuer }),
    securityHeaders({ issuer }),
    errorPages({ render: views.error }),
    limits.edgeRefusals,
    // What is refused whatever it asks for.
    refuseUnrouted(),
    singleHeaders(),
    onRoutes(['doctor'], features.doctor),
    edge.middleware,
    features.mtlsOrigin,
    onRoutes(formRoutes, sameOrigin({ publicOrigin: new URL(issuer).origin })),
    // How often.
    onRoutes(guardedRoutes, limits.refusals),
    onRoutes(['authorize'], limits.authorize),
    onRoutes(['par', 'backchannel_authentication'], limits.par),
    ifOn(['device_authorization'], limits.deviceCodes),
    ifOn(['device', 'device_submit'], limits.devicePages),
    // What is asked for.
    ifOn(['device'], features.suggestedCodes),
    ifOn(['device_authorization'], features.deviceAnswers),
    onRoutes(['jwks'], features.keySet),
    onRoutes(['par', 'userinfo'], features.engineProofs),
    onRoutes(['token'], features.token),
    onRoutes(['introspect'], features.introspection),
    onRoutes(['revoke'], features.revocation),
    allowProviderForms(),
    onRoutes(['end_session_confirm'], features.frontChannelLogout),
    onRoutes(['authorize', 'end_session'], postAsGet({ base })),
    features.assets,
    onRoutes(['client_logo'], features.clientLogos),
    features.dbsc,
    features.proofs,
    features.interactions,
    features.account,
    features.approvals,
    features.admin,
    features.registration,
  ]
  return order.filter((each) => each !== undefined && each !== false)
}
