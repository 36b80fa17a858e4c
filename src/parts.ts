import { createAccounts } from './accounts/accounts.ts'
import { createBoundedQueue } from './accounts/bounded-queue.ts'
import { createHashingThreads } from './accounts/hashing-threads.ts'
import { type PasswordCost, passwordQueue } from './accounts/password.ts'
import type { ClientAuthorities } from './certificates/client-authorities.ts'
import {
  type ClientDocuments,
  createClientDocuments,
  withDocuments,
} from './clients/client-documents.ts'
import type { Config } from './config/config.ts'
import { pathOfIssuer } from './config/issuer-path.ts'
import { addressOfEngineRequest } from './engine/current-address.ts'
import { secretsOf } from './engine/engine-keys.ts'
import type { MtlsOptions } from './engine/extension.ts'
import { createEdge } from './http/edge.ts'
import { createFormTokens } from './http/form-token.ts'
import type { KeyRing } from './keys/key-ring.ts'
import { createNetworkLimit } from './limits/network-limit.ts'
import type { Siblings } from './limits/siblings.ts'
import { createOutbox } from './mail/outbox.ts'
import { createGuardedFetch, type GuardedFetch } from './net/guarded-fetch.ts'
import type { Observability } from './observability/observability.ts'
import { createSecurityEvents } from './observability/security-events.ts'
import { loadAssets } from './pages/assets.ts'
import { createViews } from './pages/views.ts'
import { type Challenges, createChallenges } from './passkeys/challenge.ts'
import { createPasskeys, type Passkeys } from './passkeys/passkeys.ts'
import { createDbsc } from './session-binding/dbsc.ts'
import { createPageKeysOf } from './session-binding/page-keys.ts'
import { createRelyingOrigins } from './session-binding/relying-origins.ts'
import type { Storage } from './storage/open-storage.ts'

/** Documents of clients that nobody has allowed, which one network may have fetched in a minute. */
const documentsPerMinute = 20

export interface IdentityProviderOptions {
  readonly keys: KeyRing
  readonly authorities: ClientAuthorities | undefined
  readonly guardedFetch?: GuardedFetch | undefined
  /** What a hash of a password costs; a test may save it. */
  readonly passwordCost?: PasswordCost | undefined
  readonly passwordPatienceMs?: number | undefined
  /** Processes of this node, which share what it may do at once. */
  readonly workers?: number | undefined
  /** The other processes of this node, which the limits in memory are shared with. */
  readonly siblings?: Siblings | undefined
  /** Takes what runs beside the requests; undefined where none are served. */
  readonly opened?: AsyncDisposableStack
}

/** What the engine and the features have in common. */
export type Parts = ReturnType<typeof createParts>

/** Makes them of a configuration, an open storage and keys. */
export function createParts(
  config: Config,
  storage: Storage,
  observability: Observability,
  options: IdentityProviderOptions,
) {
  const { issuer, operations } = config
  const { log, metrics } = observability
  const base = pathOfIssuer(issuer)
  const queue = createBoundedQueue({
    waiting: passwordQueue.waiting,
    patienceMs: options.passwordPatienceMs ?? passwordQueue.patienceMs,
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
  const binding = {
    issuer,
    secrets: secrets('session-binding'),
    lifetime: config.sessionProofLifetime,
    sessions: storage.browserSessions,
    now: options.keys.now,
    replays: storage.replays,
    events: securityEvents,
  }
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
    /** Undefined where no mail is sent. */
    outbox: config.mail && createOutbox({ table: storage.mail, vault: options.keys.vault }),
    edge: createEdge(config),
    mtls: mtlsOptions(config, options.authorities),
    forms: createFormTokens(secrets('form-token')),
    challenges,
    passkeys: createPasskeysOf(config, storage, { challenges, now: options.keys.now }),
    dbsc: createDbsc({
      ...binding,
      refreshInitiators: config.sessionRefreshInitiators,
      relyingOrigins: createRelyingOrigins(storage.clients),
    }),
    /** Undefined where pages bind no sessions; browsers keep no such cookie over plain http. */
    pageKeys: config.pageKey && issuer.startsWith('https:') ? createPageKeysOf(binding) : undefined,
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
  { issuer, passkeys: { rpId, attestation } }: Config,
  { passkeys: table }: Storage,
  given: { challenges: Challenges; now: () => number },
): Passkeys | undefined {
  if (rpId === undefined) return undefined
  return createPasskeys({
    ...given,
    table,
    party: { id: rpId, origin: new URL(issuer).origin, attestation },
  })
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
