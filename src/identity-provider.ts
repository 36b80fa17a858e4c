import type Router from '@koa/router'
import type { Middleware } from 'koa'
import type { Provider } from 'oidc-provider'
import { createCodeAppRouter } from './account-page/code-app-router.ts'
import { createConfirmedChanges } from './account-page/confirmed-changes.ts'
import { createFreshAuthentication } from './account-page/fresh-authentication.ts'
import { createLinkRouter } from './account-page/link-router.ts'
import { createPasskeyRouter } from './account-page/passkey-router.ts'
import { createPasswordRouter } from './account-page/password-router.ts'
import { createReaders } from './account-page/reader.ts'
import { createSecurityRouter } from './account-page/security-router.ts'
import { createAccountLinks } from './accounts/account-links.ts'
import { createAccounts } from './accounts/accounts.ts'
import { createBoundedQueue } from './accounts/bounded-queue.ts'
import { claimsByScope, createFindAccount } from './accounts/claims.ts'
import { createHashingThreads } from './accounts/hashing-threads.ts'
import { type PasswordCost, passwordQueue } from './accounts/password.ts'
import { createAdminGuard } from './administration/admin-guard.ts'
import { createAdminRouter } from './administration/admin-router.ts'
import { createAdministration } from './administration/administration.ts'
import { createApprovalsRouter } from './approvals/approvals-router.ts'
import type { ProofWindow } from './bindings/binding.ts'
import { createProofCheck } from './bindings/dpop.ts'
import type { ClientAuthorities } from './certificates/client-authorities.ts'
import {
  type ClientDocuments,
  createClientDocuments,
  withDocuments,
} from './clients/client-documents.ts'
import type { MetadataValidator } from './clients/client-registration.ts'
import { standardScopesOf } from './clients/client-scopes.ts'
import { allowedAlgorithms } from './clients/profile.ts'
import { createSignInRules } from './clients/sign-in-rules.ts'
import type { Config } from './config/config.ts'
import { pathOfIssuer } from './config/issuer-path.ts'
import { createDoctorCodes } from './doctor/codes.ts'
import { doctorEndpoint } from './doctor/observation.ts'
import { activeAccount } from './engine/browser-request.ts'
import { addressOfEngineRequest } from './engine/current-address.ts'
import { completeDeviceAnswers } from './engine/device-answers.ts'
import { createDevicePages } from './engine/device-pages.ts'
import { cacheKeySet, secretsOf } from './engine/engine-keys.ts'
import { engineNonces } from './engine/engine-nonces.ts'
import type { MtlsOptions } from './engine/extension.ts'
import { createKnownBrowsers } from './engine/known-browsers.ts'
import { serveAliasesOnly } from './engine/mtls-endpoints.ts'
import { proofAlgorithms } from './engine/proof-algorithms.ts'
import { createProvider } from './engine/provider.ts'
import { strictProofs } from './engine/strict-proofs.ts'
import { type Features, middlewareInOrder } from './http/app.ts'
import { clientLogos } from './http/client-logos.ts'
import { createCodeForms } from './http/code-form.ts'
import { createEdge } from './http/edge.ts'
import { createFormTokens } from './http/form-token.ts'
import { createNewPasswords, newPasswordLimit } from './http/new-password.ts'
import { createPasskeyForms, type PasskeyForms } from './http/passkey-form.ts'
import { createPasswordForms } from './http/password-form.ts'
import { createRequestLimits } from './http/request-limits.ts'
import { linkAddress, publicRoutes } from './http/routes.ts'
import { shedLoad } from './http/shed-load.ts'
import { suggestedCodes } from './interaction/device-forms.ts'
import {
  createInteractionRouter,
  type InteractionDependencies,
} from './interaction/interaction-router.ts'
import { createProviderPages } from './interaction/provider-pages.ts'
import type { KeyRing } from './keys/key-ring.ts'
import { createBackchannelLimits } from './limits/backchannel-limits.ts'
import { codeLimits, createLoginLimits } from './limits/login-limits.ts'
import { createNetworkLimit } from './limits/network-limit.ts'
import type { Siblings } from './limits/siblings.ts'
import { createUserCodeLimits } from './limits/user-code-limits.ts'
import { frontChannelLogout } from './logout/front-channel.ts'
import { createGuardedFetch, type GuardedFetch } from './net/guarded-fetch.ts'
import { networkOf } from './net/network.ts'
import type { Observability } from './observability/observability.ts'
import { createSecurityEvents } from './observability/security-events.ts'
import { loadAssets } from './pages/assets.ts'
import { overloaded } from './pages/error-messages.ts'
import type { FindResourceLabels } from './pages/scope-labels.ts'
import { createViews } from './pages/views.ts'
import { type Challenges, createChallenges } from './passkeys/challenge.ts'
import { createPasskeys, type Passkeys } from './passkeys/passkeys.ts'
import { createRegistrationCredentials } from './registration/registration-credential.ts'
import { createRegistrationRouter, registrationPath } from './registration/registration-router.ts'
import { createRegistrations } from './registration/registrations.ts'
import { createDbsc } from './session-binding/dbsc.ts'
import { dbscMiddleware } from './session-binding/dbsc-middleware.ts'
import { createProofRouter } from './session-binding/proof-router.ts'
import { createRelyingOrigins } from './session-binding/relying-origins.ts'
import type { Storage } from './storage/open-storage.ts'
import { createEndpoints } from './token-endpoint/endpoints.ts'
import { createTokenRoutes } from './token-endpoint/token-route.ts'

/** Documents of clients that nobody has allowed, which one network may have fetched in a minute. */
const documentsPerMinute = 20

/** Passkeys of one network that are looked at in a minute although they are refused. */
const refusedPasskeysPerMinute = 60

export interface IdentityProviderOptions {
  readonly keys: KeyRing
  readonly authorities: ClientAuthorities | undefined
  readonly guardedFetch?: GuardedFetch | undefined
  /** What a hash of a password costs; a test may save it. */
  readonly passwordCost?: PasswordCost | undefined
  /** Processes of this node, which share what it may do at once. */
  readonly workers?: number | undefined
  /** The other processes of this node, which the limits in memory are shared with. */
  readonly siblings?: Siblings | undefined
  /** Takes what runs beside the requests; undefined where none are served. */
  readonly opened?: AsyncDisposableStack
}

/** The identity provider on an open storage, as a koa application that nobody listens with yet. */
export function createIdentityProvider(
  config: Config,
  storage: Storage,
  observability: Observability,
  options: IdentityProviderOptions,
): Provider {
  const parts = createParts(config, storage, observability, options)
  const built = buildEngine(parts)
  const { engine } = built
  const { events, metrics } = observability
  const { makeLimiter } = storage.rateLimits
  const isKnown = createKnownBrowsers(engine, { siblings: options.siblings })
  const order = middlewareInOrder({
    ...parts,
    config,
    events,
    metrics,
    features: createFeatures(parts, built),
    limits: createRequestLimits({
      operations: config.operations,
      events,
      makeLimiter,
      siblings: options.siblings,
      isKnown,
    }),
    ping: storage.ping,
  })
  for (const middleware of order) engine.use(middleware)
  return engine
}

/** What the engine and the features have in common. */
function createParts(
  config: Config,
  storage: Storage,
  observability: Observability,
  options: IdentityProviderOptions,
) {
  const { issuer, operations } = config
  const { log, metrics } = observability
  const base = pathOfIssuer(issuer)
  const queue = createBoundedQueue({
    ...passwordQueue,
    atOnce: Math.ceil(operations.passwordHashes / (options.workers ?? 1)),
  })
  const assets = loadAssets({ base })
  const secrets = (purpose: 'form-token' | 'session-binding') => () =>
    secretsOf(options.keys.view(), purpose)
  const guardedFetch = options.guardedFetch ?? createGuardedFetch()
  const documents = createDocuments(config, storage, { ...options, guardedFetch })
  const challenges = createChallenges({ keys: secrets('form-token'), now: options.keys.now })
  const securityEvents = createSecurityEvents({
    table: storage.securityEvents,
    log,
    metrics,
    makeLimiter: storage.rateLimits.makeLimiter,
  })
  return {
    ...options,
    guardedFetch,
    documents,
    config,
    storage,
    // For requests that must not have a document fetched: those of machines, which begin elsewhere.
    knownClients: withDocuments(storage.clients, documents?.known),
    observability,
    base,
    assets,
    securityEvents,
    accounts: createAccounts({
      store: storage.accounts,
      cost: options.passwordCost,
      queue,
      hashing: options.opened?.use(createHashingThreads()),
    }),
    views: createViews({ assets: assets.urls, base }),
    edge: createEdge(config),
    mtls: mtlsOptions(config, options.authorities),
    forms: createFormTokens(secrets('form-token')),
    challenges,
    passkeys: createPasskeysOf(config, storage, challenges),
    dbsc: createDbsc({
      issuer,
      secrets: secrets('session-binding'),
      lifetime: config.sessionProofLifetime,
      refreshInitiators: config.sessionRefreshInitiators,
      sessions: storage.browserSessions,
      now: options.keys.now,
      replays: storage.replays,
      events: securityEvents,
      relyingOrigins: createRelyingOrigins(storage.clients),
    }),
  }
}

/** Undefined where clients cannot name themselves by the URL of a document. */
function createDocuments(
  { operations: { clientDocuments } }: Config,
  { clientDocuments: table }: Storage,
  {
    keys,
    siblings,
    guardedFetch,
  }: Pick<IdentityProviderOptions, 'keys' | 'siblings'> & { guardedFetch: GuardedFetch },
): ClientDocuments | undefined {
  if (!clientDocuments) return undefined
  const limit = createNetworkLimit({
    name: 'client_documents',
    perMinute: documentsPerMinute,
    ...(siblings && { siblings }),
  })
  return createClientDocuments({
    table,
    guardedFetch,
    domains: clientDocuments.domains,
    // Our own pages continue what an endpoint of the engine has begun.
    admit: async () => {
      const address = addressOfEngineRequest()
      return address === undefined || (await limit.take(address)) === undefined
    },
    now: keys.now,
  })
}

/** Undefined for an issuer that browsers make no passkeys for. */
function createPasskeysOf(
  { issuer, passkeys: { rpId, aaguids } }: Config,
  { passkeys: table }: Storage,
  challenges: Challenges,
): Passkeys | undefined {
  if (rpId === undefined) return undefined
  return createPasskeys({
    table,
    challenges,
    party: { id: rpId, origin: new URL(issuer).origin, aaguids },
  })
}

/** Passkeys in forms; the sign-in page and My security count what they refuse together. */
function passkeyFormsOf(parts: Parts): PasskeyForms | undefined {
  const { passkeys, siblings, securityEvents } = parts
  return (
    passkeys &&
    createPasskeyForms({
      passkeys,
      limit: createNetworkLimit({
        name: 'passkeys',
        perMinute: refusedPasskeysPerMinute,
        ...(siblings && { siblings }),
      }),
      events: parts.observability.events,
      securityEvents,
      scriptUrl: scriptUrlsOf(parts).passkeys,
    })
  )
}

type Parts = ReturnType<typeof createParts>

/** The engine, and the check of proofs at endpoints of our own, by the nonces of the engine. */
function buildEngine(parts: Parts) {
  const { config, storage, observability, accounts, dbsc, views, keys } = parts
  const { issuer, operations } = config
  const { makeLimiter } = storage.rateLimits
  const largeRequests = makeLimiter({ name: 'large_requests', points: 60, duration: 60 })
  const proofs = createProofCheck({
    // Those of the engine, whose own check looks at the proofs of pushed requests.
    nonces: {
      current: () => nonces.current(0),
      accepts: (nonce) => nonces.accepts(nonce, 0),
    },
    required: config.dpopNonces === 'required',
    algorithms: allowedAlgorithms(config.protocol.profile, proofAlgorithms),
    window: proofWindowOf(config),
  })
  const engine = createProvider({
    issuer,
    keys,
    adminApi: operations.adminApi,
    registrationEndpoint: operations.registration ? issuer + registrationPath : undefined,
    dpopNonces: config.dpopNonces,
    protocol: config.protocol,
    edge: parts.edge,
    mtls: parts.mtls,
    tokenBinding: config.tokenBinding !== 'off',
    deviceFlow: operations.deviceFlow
      ? {
          limits: createUserCodeLimits(makeLimiter, { wrong: operations.userCodeLimit }),
          pages: createDevicePages(views),
        }
      : undefined,
    tables: { ...storage, clients: withDocuments(storage.clients, parts.documents?.find) },
    clientDocuments: parts.documents !== undefined,
    findAccount: createFindAccount(
      (id, ctx) => activeAccount(ctx, id, accounts),
      () => storage.claimMappings.list(),
    ),
    findByEmail: async (email) => (await storage.accounts.findByEmail(email))?.account,
    backchannelLimits: createBackchannelLimits(makeLimiter),
    claims: claimsByScope,
    pages: createProviderPages(views),
    guardedFetch: parts.guardedFetch,
    proofs,
    admitLargeRequest: async ({ state }) =>
      (await largeRequests.take(networkOf(state.address))) === undefined,
    sessions: storage.browserSessions,
    provenAt: dbsc.provenAt,
    securityEvents: parts.securityEvents,
    events: observability.events,
  })
  const nonces = engineNonces(engine)
  return { engine, nonces, proofs }
}

type Built = ReturnType<typeof buildEngine>

/** The middleware of every feature that is on. */
function createFeatures(parts: Parts, built: Built): Features {
  const { config, storage, edge, keys, mtls, assets } = parts
  const { issuer, operations } = config
  const codes = createDoctorCodes(storage.artifacts)
  const verificationUri = issuer + publicRoutes.device.path
  return {
    ...tokenFeatures(parts, built),
    ...browserFeatures(parts, built),
    admin: operations.adminApi ? adminFeature(parts, built) : undefined,
    assets: assets.middleware,
    clientLogos: clientLogos(storage.clientLogos),
    deviceAnswers: operations.deviceFlow ? completeDeviceAnswers({ verificationUri }) : undefined,
    frontChannelLogout: frontChannelLogout({
      issuer,
      engine: built.engine,
      page: parts.views.signedOut,
    }),
    doctor: doctorEndpoint({ ...config, edge, codes, now: keys.now }),
    keySet: cacheKeySet(),
    engineProofs: strictProofs({
      proofs: built.proofs,
      originOf: edge.originOf,
      now: keys.now,
    }),
    mtlsOrigin: mtls?.origin ? serveAliasesOnly(edge, mtls.origin) : undefined,
    registration: operations.registration ? registrationFeature(parts, built) : undefined,
    shedding: sheddingFeature(parts),
    suggestedCodes: operations.deviceFlow ? suggestedCodes() : undefined,
  }
}

function tokenFeatures({ config, storage, ...parts }: Parts, { engine, proofs }: Built) {
  const { issuer, operations, protocol, refreshReuseSeconds, keyOverlapHours } = config
  const { base, edge, keys, authorities, observability, knownClients } = parts
  const endpoints = createEndpoints({
    issuer,
    engine,
    keys,
    proofs,
    tables: { ...storage, clients: knownClients },
    polls: storage.devicePolls,
    hasDevices: operations.deviceFlow,
    authorities,
    claimsByScope,
    adminApi: operations.adminApi,
    protocol,
    refreshReuseSeconds,
    keyOverlapHours,
  })
  const { events } = observability
  const { acceptsEndpointAudiences } = protocol
  const routing = { issuer, base, edge, acceptsEndpointAudiences }
  return createTokenRoutes({ ...routing, endpoints, events, now: keys.now })
}

/** Sign-in, consent, My security, and proofs of the browser's key. */
function browserFeatures(parts: Parts, { engine: provider }: Built) {
  const { config, storage, accounts, views, forms, dbsc, keys } = parts
  const { events } = parts.observability
  const { browserSessions: sessions } = storage
  const rules = createSignInRules(config.passkeys.signIn, storage.passkeys)
  const passkeys = passkeyFormsOf(parts)
  const passwords = createPasswordForms({
    accounts,
    limits: createLoginLimits(storage.signInAttempts, {
      attempts: config.operations.loginLimit,
      perNetwork: config.operations.loginNetworkLimit,
    }),
    failures: storage.failedSignIns,
    rules,
    events,
  })
  const codes = createCodeForms({
    table: storage.secondFactors,
    vault: keys.vault,
    limits: createLoginLimits(storage.signInAttempts, codeLimits),
    events,
    securityEvents: parts.securityEvents,
    now: keys.now,
  })
  const resourceLabels: FindResourceLabels = async (identifier) => {
    const found = await storage.resourceServers.find(identifier)
    if (!found) return undefined
    const scopes = new Map(Object.entries(found.scopeLabels))
    return { ...(found.name !== null && { name: found.name }), scopes }
  }
  const interactions = createInteractionRouter({
    provider,
    accounts,
    views,
    events,
    forms,
    async endSession(sessionUid, accountId, by) {
      if (!(await sessions.end(sessionUid))) return
      await parts.securityEvents.record('session_ended', { accountId, sessionUid, ...by })
    },
    passkeys,
    passwords,
    codes,
    challenges: parts.challenges,
    rules,
    resourceLabels,
    detailsType: storage.detailsTypes.find,
    async onAllowed(clientId) {
      await parts.documents?.remember(clientId)
      const client = await storage.clients.find(clientId)
      if (client?.open_client === 'registration') await storage.registrations.keepOpen(clientId)
    },
  })
  const approvals = createApprovalsRouter({
    provider,
    accounts,
    views,
    events,
    tables: storage,
    resourceLabels,
    detailsType: storage.detailsTypes.find,
    address: config.issuer,
    base: parts.base,
    forms,
    now: keys.now,
  })
  return {
    account: accountFeature(parts, { provider, passkeys, passwords, codes, rules }),
    approvals: routesOf(approvals),
    dbsc: dbscMiddleware({
      provider,
      dbsc,
      events: parts.securityEvents,
      interstitial: views.interstitial,
    }),
    interactions: routesOf(interactions),
    proofs: routesOf(
      createProofRouter({
        provider,
        dbsc,
        sessions,
        interstitial: views.interstitial,
        now: keys.now,
      }),
    ),
  }
}

/** My security, and the pages that it leads to. */
function accountFeature(
  parts: Parts,
  {
    provider,
    ...signIn
  }: Pick<InteractionDependencies, 'provider' | 'passkeys' | 'passwords' | 'codes' | 'rules'>,
): Middleware {
  const { config, storage, accounts, views, forms, base, passkeys, securityEvents } = parts
  const publicOrigin = new URL(config.issuer).origin
  const readers = createReaders({ provider, accounts, forms })
  const { events } = parts.observability
  const scripts = scriptUrlsOf(parts)
  const changes = createConfirmedChanges({
    fresh: createFreshAuthentication({ ...signIn, accounts, table: storage.passkeys }),
    forms,
    views,
    passwordScript: scripts.password,
  })
  const newPasswords = createNewPasswords({
    accounts,
    limiter: storage.rateLimits.makeLimiter(newPasswordLimit),
    events,
  })
  const { rpId, relatedOrigins } = config.passkeys
  const page = base + publicRoutes.security.path
  const { rules } = signIn
  const common = { readers, changes, rules, forms, views, events, securityEvents, page }
  return inTurn([
    createSecurityRouter({
      ...{ readers, views, forms, accounts, rules, publicOrigin, base },
      tables: { ...storage, clients: parts.knownClients },
      events: securityEvents,
      passkeys: rpId === undefined ? undefined : { rpId, scriptUrl: scripts.passkeys },
    }),
    createCodeAppRouter({
      ...common,
      table: storage.secondFactors,
      vault: parts.keys.vault,
      challenges: parts.challenges,
      host: new URL(config.issuer).host,
      now: parts.keys.now,
    }),
    createPasswordRouter({ ...common, newPasswords, store: storage.accounts }),
    createLinkRouter({
      ...common,
      ...{ passkeys, newPasswords, scripts },
      links: createAccountLinks({
        table: storage.accountLinks,
        store: storage.accounts,
        address: linkAddress(config.issuer),
      }),
    }),
    ...(passkeys
      ? [
          createPasskeyRouter({
            ...common,
            ...{ passkeys, relatedOrigins, scriptUrl: scripts.passkeys },
            table: storage.passkeys,
          }),
        ]
      : []),
  ])
}

/** One middleware of several routers. */
function inTurn(routers: readonly Router[]): Middleware {
  return routers.map(routesOf).reduceRight<Middleware>(
    (rest, first) => (ctx, next) => first(ctx, () => rest(ctx, next) as Promise<unknown>),
    (_ctx, next) => next(),
  )
}

/** Scripts of our pages, absolute. */
function scriptUrlsOf({ config: { issuer }, assets: { urls } }: Parts) {
  const { origin } = new URL(issuer)
  return { passkeys: origin + urls.passkeys, password: origin + urls.password }
}

function adminFeature(parts: Parts, { engine }: Built): Middleware {
  const { config, storage, keys } = parts
  const { events, flush } = parts.observability
  const { issuer } = config
  const { replays, credentials } = storage
  return createAdminRouter({
    issuer,
    guard: createAdminGuard({
      issuer,
      proofWindow: proofWindowOf(config),
      keys,
      replays,
      credentials,
    }),
    administrationFor: (facts) =>
      createAdministration({
        issuer,
        storage,
        keys: { ring: keys, publish: config.keys.publish },
        validator: validatorOf(parts, engine),
        events,
        context: facts,
      }),
    flushAudit: flush,
  })
}

function registrationFeature(parts: Parts, { engine, nonces }: Built): Middleware {
  const { config, storage, keys } = parts
  const { registrations: table, clients, replays } = storage
  const router = createRegistrationRouter({
    issuer: config.issuer,
    credentials: createRegistrationCredentials({
      proofWindow: proofWindowOf(config),
      nonces: config.dpopNonces === 'required' ? nonces : undefined,
      now: () => Math.floor(keys.now() / 1000),
      recordReplay: (value, until) => replays.recordReplay('registration', value, until),
    }),
    registrations: createRegistrations({
      table,
      clients,
      validator: validatorOf(parts, engine),
      standardScopes: standardScopesOf(claimsByScope),
      now: keys.now,
    }),
    table,
    events: parts.observability.events,
    takeOpen: openRegistration(parts),
  })
  return routesOf(router)
}

const validatorOf = ({ config }: Parts, { Client }: Provider): MetadataValidator => ({
  Client,
  profile: config.protocol.profile,
})

/** The limit of registrations without a token; undefined where each needs one. */
function openRegistration({ config: { operations }, storage }: Parts) {
  if (!operations.openRegistration) return undefined
  const { take } = storage.rateLimits.makeLimiter({
    name: 'open-registration',
    points: operations.openRegistrationLimit,
    duration: 60 * 60,
  })
  return (address: string) => take(networkOf(address))
}

/** A router adds to the context what its own handlers need. */
function routesOf(router: Router): Middleware {
  const routes = router.routes()
  return (ctx, next) => routes(ctx as Parameters<typeof routes>[0], next)
}

function sheddingFeature(parts: Parts): Middleware | undefined {
  const { config, storage, views, observability, opened } = parts
  const shedding = opened?.use(
    shedLoad({
      issuer: config.issuer,
      longestWaitMs: config.operations.longestWaitMs,
      poolWaitMs: () => storage.poolUse().waitMs,
      onShed: observability.events.shed,
      page: (requestId) => views.error({ ...overloaded, requestId }),
    }),
  )
  return shedding?.middleware
}

function proofWindowOf({ proofWindowS: pastS, protocol }: Config): ProofWindow {
  return { pastS, aheadS: protocol.clockToleranceS }
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
