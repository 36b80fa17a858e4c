import type { Context } from 'koa'
import type { Provider } from 'oidc-provider'
import { createSecurityRouter } from './account-page/security-router.ts'
import { createAccounts } from './accounts/accounts.ts'
import { createBoundedQueue } from './accounts/bounded-queue.ts'
import { claimsByScope, createFindAccount } from './accounts/claims.ts'
import { passwordQueue } from './accounts/password.ts'
import { createAdminGuard } from './administration/admin-guard.ts'
import { createAdminRouter } from './administration/admin-router.ts'
import { createAdministration } from './administration/administration.ts'
import { createProofCheck } from './bindings/dpop.ts'
import type { ClientAuthorities } from './certificates/client-authorities.ts'
import {
  type WatchedAuthorities,
  watchClientAuthorities,
} from './certificates/watched-authorities.ts'
import { bearerClientIds } from './clients/binding-method.ts'
import type { Config } from './config/config.ts'
import { pathOfIssuer } from './config/issuer-path.ts'
import type { AuthorityFiles } from './config/mtls-config.ts'
import { authorityFiles } from './config/mtls-config.ts'
import { configWarnings } from './config/proxies-config.ts'
import { version } from './config/version.ts'
import { createDoctorCodes } from './doctor/codes.ts'
import { doctorEndpoint } from './doctor/observation.ts'
import { completeDeviceAnswers } from './engine/device-answers.ts'
import { createDevicePages } from './engine/device-pages.ts'
import { observeEngine } from './engine/engine-events.ts'
import { secretsOf } from './engine/engine-keys.ts'
import { engineNonces } from './engine/engine-nonces.ts'
import { createKnownBrowsers } from './engine/known-browsers.ts'
import { serveAliasesOnly } from './engine/mtls-endpoints.ts'
import { proofAlgorithms } from './engine/proof-algorithms.ts'
import { createProvider, type MtlsOptions } from './engine/provider.ts'
import { addSessionClaims } from './engine/session-claims.ts'
import { bindSessions } from './engine/session-model.ts'
import { noteClientAddress } from './http/client-address.ts'
import { createEdge } from './http/edge.ts'
import { errorPages } from './http/error-pages.ts'
import { createFormTokens } from './http/form-token.ts'
import { healthChecks } from './http/health.ts'
import { hostCookies } from './http/host-cookies.ts'
import { listen } from './http/listen.ts'
import { answerInJson, machineRoutes } from './http/machine-routes.ts'
import {
  guardedRoutes,
  limitEdgeRefusals,
  limitRefusals,
  limitRequests,
} from './http/network-limit.ts'
import { listenForOperators } from './http/operations-listener.ts'
import { postAsGet } from './http/post-as-get.ts'
import { allowProviderForms } from './http/provider-forms.ts'
import { createReadiness } from './http/readiness.ts'
import { requestId } from './http/request-id.ts'
import { requestMetrics } from './http/request-metrics.ts'
import { retryAfter } from './http/retry-after.ts'
import { publicRoutes } from './http/routes.ts'
import { formRoutes, onRoutes, refuseUnrouted, routing } from './http/routing.ts'
import { sameOrigin } from './http/same-origin.ts'
import { securityHeaders } from './http/security-headers.ts'
import { shedLoad } from './http/shed-load.ts'
import { singleHeaders } from './http/single-headers.ts'
import { traceRequests } from './http/trace-requests.ts'
import { suggestedCodes } from './interaction/device-forms.ts'
import { createInteractionRouter } from './interaction/interaction-router.ts'
import { createProviderPages } from './interaction/provider-pages.ts'
import { createKeyObserver } from './keys/key-metrics.ts'
import type { KeyRing } from './keys/key-ring.ts'
import { startKeyRotation } from './keys/key-rotation.ts'
import { createLoginLimits } from './limits/login-limits.ts'
import { createNetworkLimit } from './limits/network-limit.ts'
import { createUserCodeLimits } from './limits/user-code-limits.ts'
import { createGuardedFetch, type GuardedFetch } from './net/guarded-fetch.ts'
import { networkOf } from './net/network.ts'
import { trustedPeers } from './net/trusted-peers.ts'
import type { Events, LimitName } from './observability/events.ts'
import type { Log } from './observability/log.ts'
import { createObservability, type Observability } from './observability/observability.ts'
import { requestFacts } from './observability/request-facts.ts'
import { createSecurityEvents } from './observability/security-events.ts'
import { startTracing } from './observability/tracing.ts'
import { type OpenKeysOptions, openKeys } from './open-keys.ts'
import { loadAssets } from './pages/assets.ts'
import { overloaded } from './pages/error-messages.ts'
import { createViews } from './pages/views.ts'
import { createRegistrationCredentials } from './registration/registration-credential.ts'
import { createRegistrationRouter, registrationPath } from './registration/registration-router.ts'
import { createRegistrations } from './registration/registrations.ts'
import { createDbsc } from './session-binding/dbsc.ts'
import { dbscMiddleware } from './session-binding/dbsc-middleware.ts'
import { createProofRouter } from './session-binding/proof-router.ts'
import { createRelyingOrigins } from './session-binding/relying-origins.ts'
import { bindSessionsByTokenBinding } from './session-binding/token-binding.ts'
import { startCleanup } from './storage/cleanup.ts'
import type { Limiter } from './storage/limiter.ts'
import type { Storage } from './storage/open-storage.ts'
import { createEndpoints } from './token-endpoint/endpoints.ts'
import { createTokenRoutes } from './token-endpoint/token-route.ts'

/** Milliseconds between two removals of expired rows. */
const cleanupInterval = 60_000

export interface RunningServer extends AsyncDisposable {
  readonly issuer: string
  readonly provider: Provider
  readonly keys: KeyRing
  readonly events: Events
  /** The certificate that clients must trust, when it is the development authority's. */
  readonly authorityFile: string | undefined
  /** From now on `/readyz` says that no requests should be sent here; all are served still. */
  drain(): void
  /** Writes the audit events of everything that was answered so far. */
  flushAudit(): Promise<void>
}

/** The identity provider on an open storage, as a koa application that nobody listens with yet. */
export async function createIdentityProvider(
  config: Config,
  storage: Storage,
  { events, metrics, flush, log }: Observability,
  {
    keys,
    authorities,
    guardedFetch = createGuardedFetch(),
    opened,
  }: {
    keys: KeyRing
    authorities: ClientAuthorities | undefined
    guardedFetch?: GuardedFetch | undefined
    /** Takes what runs beside the requests; undefined where none are served. */
    opened?: AsyncDisposableStack
  },
): Promise<Provider> {
  const { issuer, arrivalPath } = config
  const { origin: publicOrigin } = new URL(issuer)
  const base = pathOfIssuer(issuer)
  const queue = createBoundedQueue({ atOnce: config.operations.passwordHashes, ...passwordQueue })
  const accounts = createAccounts({ store: storage.accounts, queue })
  const assets = loadAssets({ base })
  const views = createViews({ assets: assets.urls, base })

  const edge = createEdge(config)
  const mtls = mtlsOptions(config, authorities)
  const { browserSessions: sessions } = storage
  const { makeLimiter } = storage.rateLimits
  const securityEvents = createSecurityEvents({
    table: storage.securityEvents,
    log,
    metrics,
    makeLimiter,
  })
  const dbsc = createDbsc({
    issuer,
    secrets: () => secretsOf(keys.view(), 'session-binding'),
    lifetime: config.sessionProofLifetime,
    refreshInitiators: config.sessionRefreshInitiators,
    sessions,
    now: keys.now,
    replays: storage.replays,
    events: securityEvents,
    relyingOrigins: createRelyingOrigins(storage.clients),
  })

  const { operations } = config
  const perNetwork = (
    name: LimitName,
    perMinute: number,
    shared: { shared?: Limiter; unshared?: number } = {},
  ) => ({
    limit: createNetworkLimit({ perMinute, ...shared }),
    onLimited: (ctx: Context) => events.rateLimited(requestFacts(ctx), name),
  })
  const largeRequests = makeLimiter({ name: 'large_requests', points: 60, duration: 60 })
  const proofs = createProofCheck({
    // Those of the engine, whose own check looks at the proofs of pushed requests.
    nonces: {
      current: () => nonces.current(0),
      accepts: (nonce) => nonces.accepts(nonce, 0),
    },
    required: config.dpopNonces === 'required',
    algorithms: proofAlgorithms,
  })
  const provider = createProvider({
    issuer,
    keys,
    adminApi: config.operations.adminApi,
    registrationEndpoint: config.operations.registration ? issuer + registrationPath : undefined,
    dpopNonces: config.dpopNonces,
    edge,
    mtls,
    tokenBinding: config.tokenBinding !== 'off',
    deviceFlow: config.operations.deviceFlow
      ? {
          limits: createUserCodeLimits(makeLimiter, { wrong: config.operations.userCodeLimit }),
          pages: createDevicePages(views),
        }
      : undefined,
    tables: storage,
    findAccount: createFindAccount(accounts),
    claims: claimsByScope,
    pages: createProviderPages(views),
    guardedFetch,
    proofs,
    admitLargeRequest: async ({ state }) =>
      (await largeRequests.take(networkOf(state.address))) === undefined,
    bindSessions(engine, times) {
      // First: a session that has no key on this connection is not even named.
      bindSessionsByTokenBinding(
        engine,
        (request) => edge.proofsOf(request).tokenBinding,
        securityEvents,
      )
      bindSessions(engine, {
        sessions,
        events: securityEvents,
        times,
        provenAt: dbsc.provenAt,
      })
      addSessionClaims(engine, sessions, times)
    },
  })
  const nonces = engineNonces(provider)

  provider.use(routing({ issuer, arrivalPath, features: config.operations }))
  provider.use(onRoutes(machineRoutes, answerInJson()))
  if (config.operations.tracing) provider.use(traceRequests())
  provider.use(requestMetrics(metrics))
  provider.use(retryAfter())
  provider.use(healthChecks({ ping: storage.ping }))
  provider.use(requestId())
  if (opened) {
    const shedding = shedLoad({
      issuer,
      longestWaitMs: config.operations.longestWaitMs,
      poolWaitMs: () => storage.poolUse().waitMs,
      onShed: events.shed,
      page: (requestId) => views.error({ ...overloaded, requestId }),
    })
    provider.use(opened.use(shedding).middleware)
  }
  const onFirstUntrusted = (peer: string) => events.forwardedByUntrusted(peer)
  provider.use(noteClientAddress(trustedPeers(config.trustedProxies), { onFirstUntrusted }))
  provider.use(hostCookies({ issuer }))
  provider.use(securityHeaders({ issuer }))
  provider.use(errorPages({ render: views.error }))
  provider.use(limitEdgeRefusals(perNetwork('edge_refusals', operations.edgeRefusalLimit)))
  provider.use(refuseUnrouted())
  provider.use(singleHeaders())
  const codes = createDoctorCodes(storage.artifacts)
  provider.use(onRoutes(['doctor'], doctorEndpoint({ ...config, edge, codes, now: keys.now })))
  provider.use(edge.middleware)
  if (mtls?.origin) provider.use(serveAliasesOnly(edge, mtls.origin))
  provider.use(onRoutes(formRoutes, sameOrigin({ publicOrigin })))
  const refusals = makeLimiter({ name: 'refusals', points: operations.refusalLimit, duration: 60 })
  const refused = perNetwork('refusals', operations.refusalLimit, {
    shared: refusals,
    unshared: operations.refusalLimit / 10,
  })
  provider.use(onRoutes(guardedRoutes, limitRefusals(refused)))
  const isKnown = createKnownBrowsers(provider)
  const authorize = perNetwork('authorize', operations.authorizeLimit)
  provider.use(onRoutes(['authorize'], limitRequests({ ...authorize, isKnown })))
  provider.use(onRoutes(['par'], limitRequests(perNetwork('par', operations.parLimit))))
  if (operations.deviceFlow) {
    // Whoever knows the client_id of a public client may ask for codes, each is kept for a while,
    // and the more there are the sooner a user code is guessed: nodes share this count.
    const asked = makeLimiter({
      name: 'device-codes',
      points: operations.deviceLimit,
      duration: 60,
    })
    const codes = perNetwork('device_codes', operations.deviceLimit, { shared: asked })
    provider.use(onRoutes(['device_authorization'], limitRequests(codes)))
    const pages = perNetwork('device_pages', operations.devicePageLimit)
    provider.use(onRoutes(['device', 'device_submit'], limitRequests({ ...pages, isKnown })))
    provider.use(onRoutes(['device'], suggestedCodes()))
    provider.use(completeDeviceAnswers({ verificationUri: issuer + publicRoutes.device.path }))
  }
  const endpoints = createEndpoints({
    issuer,
    engine: provider,
    keys,
    proofs,
    tables: storage,
    polls: config.operations.deviceFlow ? storage.devicePolls : undefined,
    authorities,
    claimsByScope,
    adminApi: config.operations.adminApi,
    refreshReuseSeconds: config.refreshReuseSeconds,
    keyOverlapHours: config.keyOverlapHours,
  })
  const routes = createTokenRoutes({ issuer, base, endpoints, edge, events, now: keys.now })
  provider.use(onRoutes(['token'], routes.token))
  provider.use(onRoutes(['introspect'], routes.introspection))
  provider.use(onRoutes(['revoke'], routes.revocation))
  provider.use(allowProviderForms())
  provider.use(onRoutes(['authorize', 'end_session'], postAsGet({ base })))
  provider.use(assets.middleware)
  provider.use(dbscMiddleware({ provider, dbsc, events: securityEvents, hop: views.hop }))
  const forms = createFormTokens(() => secretsOf(keys.view(), 'form-token'))
  const interactions = createInteractionRouter({
    provider,
    accounts,
    views,
    events,
    limits: createLoginLimits(makeLimiter, {
      attempts: config.operations.loginLimit,
      perNetwork: config.operations.loginNetworkLimit,
    }),
    forms,
    failures: storage.failedSignIns,
    resourceLabels: async (identifier) => {
      const name = (await storage.resourceServers.find(identifier))?.name
      return name ? { name } : undefined
    },
  })
  provider.use(
    createProofRouter({ provider, dbsc, sessions, hop: views.hop, now: keys.now }).routes(),
  )
  provider.use(interactions.routes())
  const security = createSecurityRouter({
    provider,
    accounts,
    views,
    tables: storage,
    events: securityEvents,
    publicOrigin,
    base,
    forms,
  })
  provider.use(security.routes())
  if (config.operations.adminApi) {
    const admin = createAdminRouter({
      issuer,
      guard: createAdminGuard({
        issuer,
        keys,
        replays: storage.replays,
        credentials: storage.credentials,
      }),
      administrationFor: (facts) =>
        createAdministration({
          storage,
          keys: { ring: keys, publish: config.keys.publish },
          validator: provider,
          events,
          facts,
        }),
      flushAudit: flush,
    })
    provider.use(admin)
  }
  if (config.operations.registration) {
    const registration = createRegistrationRouter({
      issuer,
      credentials: createRegistrationCredentials({
        nonces: config.dpopNonces === 'required' ? nonces : undefined,
        now: () => Math.floor(keys.now() / 1000),
        markOnce: (value, until) => storage.replays.markOnce('registration', value, until),
      }),
      registrations: createRegistrations({
        table: storage.registrations,
        clients: storage.clients,
        validator: provider,
        now: keys.now,
      }),
      table: storage.registrations,
      events,
    })
    provider.use(registration.routes())
  }
  observeEngine(provider, events, keys)
  return provider
}

function mtlsOptions(
  { mtls: { origin, port, forwarded } }: Config,
  authorities: ClientAuthorities | undefined,
): MtlsOptions | undefined {
  if (!port && !forwarded) return undefined
  return {
    origin,
    authorities,
    onUntrusted: (ctx, reason) => ctx.app.emit('client_certificate.untrusted', ctx, reason),
  }
}

/** The authorities of `tls_client_auth`, as their files change. */
async function watchAuthorities(
  files: AuthorityFiles,
  { events, metrics }: Observability,
): Promise<WatchedAuthorities> {
  return watchClientAuthorities(files, {
    onRead({ nextUpdate }, change) {
      metrics.revocationListEnd.set((nextUpdate ?? 0) / 1000)
      if (change === 'changed') events.clientAuthoritiesChanged(asDate(nextUpdate))
    },
    onUnusable: ({ message }) => events.clientAuthoritiesUnusable(message),
    onExpired: (nextUpdate) => events.revocationListExpired(new Date(nextUpdate)),
  })
}

function asDate(time: number | undefined): Date | undefined {
  return time === undefined ? undefined : new Date(time)
}

/**
 * Listens with the identity provider on an open storage. Disposing finishes requests
 * that were begun; the storage stays open, and whoever opened it closes it.
 *
 * @param onStep told of keys that are made, which takes a while.
 * @param guardedFetch fetches what clients name by URL; a test may give one with an exception.
 */
export async function startServer(
  config: Config,
  storage: Storage,
  log: Log,
  { onStep, guardedFetch }: Pick<OpenKeysOptions, 'onStep'> & { guardedFetch?: GuardedFetch } = {},
): Promise<RunningServer> {
  await using opened = new AsyncDisposableStack()
  log.info({ event: 'server.starting', version, node: process.version }, 'Holdfast is starting')
  if (config.operations.tracing) opened.use(await startTracing())
  const observability = opened.use(createObservability({ log, storage }))
  const { events, metrics, flush } = observability
  for (const warning of configWarnings(config)) events.configWarned(warning)
  const files = authorityFiles(config.mtls)
  const authorities = files && opened.use(await watchAuthorities(files, observability))
  const keys = await openKeys({ config, storage, events, actor: 'server', onStep })
  opened.use(keepKeysCurrent(keys, config, observability))
  const readiness = opened.use(
    createReadiness({
      ping: storage.ping,
      write: storage.probe,
      onCompared: (seconds) => metrics.clockAhead.set(seconds),
      onClock: events.clockChanged,
    }),
  )
  // Where it fails now, /readyz says so; a database that is away stops no start that got this far.
  await readiness.check().catch(() => {})
  readiness.watch()
  let draining = false
  const ping = async () => {
    if (draining) throw new Error('the server is stopping')
    await readiness.check()
  }
  opened.use(
    startCleanup({
      tables: storage.expiring,
      interval: cleanupInterval,
      onCleaned: (cleaned) => events.cleaned(cleaned),
      onError: (error, table) => events.cleanupFailed(table, error),
    }),
  )
  const provider = await createIdentityProvider(config, { ...storage, ping }, observability, {
    keys,
    authorities,
    guardedFetch,
    opened,
  })
  events.bearerClientsFound(bearerClientIds(await storage.clients.list()))
  const { metrics: address } = config.operations
  if (address) {
    const middleware = [
      routing({ issuer: config.issuer, arrivalPath: '', features: config.operations }),
      healthChecks({ ping, version }),
    ]
    opened.use(await listenForOperators({ address, registry: metrics.registry, middleware }))
  }
  const handler = provider.callback()
  const { authorityFile } = opened.use(await listen(handler, config))
  const { port } = config.mtls
  if (port) {
    const mtls = { ...config, listen: { ...config.listen, port } }
    opened.use(await listen(handler, mtls, { askForCertificates: true }))
  }
  const open = opened.move()
  return {
    issuer: config.issuer,
    provider,
    keys,
    events,
    authorityFile,
    drain() {
      draining = true
    },
    flushAudit: flush,
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}

function keepKeysCurrent(
  ring: KeyRing,
  { keys: { poll } }: Config,
  observability: Observability,
): AsyncDisposable {
  const onRefreshed = createKeyObserver(ring, observability)
  onRefreshed()
  return startKeyRotation({
    ring,
    interval: poll,
    onRefreshed,
    onError: (error) => observability.events.keysNotRefreshed(error),
  })
}
