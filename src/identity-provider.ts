import type { Middleware } from 'koa'
import type { Provider } from 'oidc-provider'
import { claimsByScope, createFindAccount } from './accounts/claims.ts'
import { createAdminGuard } from './administration/admin-guard.ts'
import { createAdminRouter } from './administration/admin-router.ts'
import { createAdministration } from './administration/administration.ts'
import type { ProofWindow } from './bindings/binding.ts'
import { createProofCheck } from './bindings/dpop.ts'
import { browserFeatures } from './browser-features.ts'
import { withDocuments } from './clients/client-documents.ts'
import type { MetadataValidator } from './clients/client-registration.ts'
import { standardScopesOf } from './clients/client-scopes.ts'
import { allowedAlgorithms } from './clients/profile.ts'
import { createGroupDemands } from './clients/sign-in-rules.ts'
import type { Config } from './config/config.ts'
import { createDoctorCodes } from './doctor/codes.ts'
import { doctorEndpoint } from './doctor/observation.ts'
import { activeAccount } from './engine/browser-request.ts'
import { completeDeviceAnswers } from './engine/device-answers.ts'
import { createDevicePages } from './engine/device-pages.ts'
import { currentKeySet } from './engine/engine-keys.ts'
import { engineNonces } from './engine/engine-nonces.ts'
import { createKnownBrowsers } from './engine/known-browsers.ts'
import { serveAliasesOnly } from './engine/mtls-endpoints.ts'
import { proofAlgorithms } from './engine/proof-algorithms.ts'
import { createProvider } from './engine/provider.ts'
import { strictProofs } from './engine/strict-proofs.ts'
import { type Features, middlewareInOrder } from './http/app.ts'
import { clientLogos } from './http/client-logos.ts'
import { createRequestLimits } from './http/request-limits.ts'
import { routesOf } from './http/routers.ts'
import { publicRoutes } from './http/routes.ts'
import { shedLoad } from './http/shed-load.ts'
import { suggestedCodes } from './interaction/device-forms.ts'
import { createProviderPages } from './interaction/provider-pages.ts'
import { createBackchannelLimits } from './limits/backchannel-limits.ts'
import { createUserCodeLimits } from './limits/user-code-limits.ts'
import { frontChannelLogout } from './logout/front-channel.ts'
import { networkOf } from './net/network.ts'
import type { Observability } from './observability/observability.ts'
import { overloaded } from './pages/error-messages.ts'
import { createParts, type IdentityProviderOptions, type Parts } from './parts.ts'
import { createRegistrationCredentials } from './registration/registration-credential.ts'
import { createRegistrationRouter, registrationPath } from './registration/registration-router.ts'
import { createRegistrations } from './registration/registrations.ts'
import type { Storage } from './storage/open-storage.ts'
import { createEndpoints } from './token-endpoint/endpoints.ts'
import { createTokenRoutes } from './token-endpoint/token-route.ts'

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

/** The engine, and the check of proofs at endpoints of our own, by the nonces of the engine. */
function buildEngine(parts: Parts) {
  const { config, storage, observability, accounts, dbsc, pageKeys, views, keys } = parts
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
    groupDemands: createGroupDemands(config.passkeys.groupAcrs),
    findByEmail: async (email) => (await storage.accounts.findByEmail(email))?.account,
    backchannelLimits: createBackchannelLimits(makeLimiter),
    claims: claimsByScope,
    pages: createProviderPages(views),
    guardedFetch: parts.guardedFetch,
    proofs,
    admitLargeRequest: async ({ state }) =>
      (await largeRequests.take(networkOf(state.address))) === undefined,
    sessions: storage.browserSessions,
    provenAt: ({ uid, binding }, cookies) =>
      (binding?.method === 'page-key' ? pageKeys : dbsc)?.provenAt(uid, cookies),
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
    keySet: currentKeySet(keys),
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
        outbox: parts.outbox,
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
