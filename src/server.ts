import type { Provider } from 'oidc-provider'
import { createAccountLinks } from './accounts/account-links.ts'
import type { PasswordCost } from './accounts/password.ts'
import { createSignUps } from './accounts/sign-ups.ts'
import { createPings } from './approvals/pings.ts'
import {
  type WatchedAuthorities,
  watchClientAuthorities,
} from './certificates/watched-authorities.ts'
import { bearerClientIds } from './clients/binding-method.ts'
import { clientsAgainst } from './clients/profile.ts'
import type { Config } from './config/config.ts'
import type { MailConfig } from './config/mail-config.ts'
import type { AuthorityFiles } from './config/mtls-config.ts'
import { authorityFiles } from './config/mtls-config.ts'
import { configWarnings } from './config/proxies-config.ts'
import type { SignUpPolicy } from './config/sign-up-config.ts'
import { type DeliveryOutcome, deliveryLimits, startDeliveries } from './deliveries/deliveries.ts'
import { createPingState } from './engine/backchannel-requests.ts'
import { listen } from './http/listen.ts'
import { listenForOperators } from './http/operations-listener.ts'
import { createReadiness } from './http/readiness.ts'
import { linkAddress, signUpAddress } from './http/routes.ts'
import { createIdentityProvider } from './identity-provider.ts'
import { createKeyObserver } from './keys/key-metrics.ts'
import type { KeyRing } from './keys/key-ring.ts'
import { startKeyRotation } from './keys/key-rotation.ts'
import type { Siblings } from './limits/siblings.ts'
import { createBackChannel } from './logout/back-channel.ts'
import { createLetters } from './mail/letters.ts'
import { createMailSender } from './mail/sender.ts'
import { createSmtp } from './mail/smtp.ts'
import { createGuardedFetch, type GuardedFetch } from './net/guarded-fetch.ts'
import type { DeliveryKind, Events, Facts } from './observability/events.ts'
import { type Log, logStart } from './observability/log.ts'
import type { Metrics } from './observability/metrics.ts'
import { createObservability, type Observability } from './observability/observability.ts'
import { startTracing } from './observability/tracing.ts'
import { type OpenKeysOptions, openKeys } from './open-keys.ts'
import { startCleanup } from './storage/cleanup.ts'
import type { DeliveryQueue, QueuedDelivery } from './storage/delivery-queue.ts'
import type { Storage } from './storage/open-storage.ts'
import { createSigner } from './token-endpoint/own-tokens.ts'

/** Milliseconds between two removals of expired rows. */
const cleanupInterval = 60_000

export interface RunningServer extends AsyncDisposable {
  readonly issuer: string
  readonly provider: Provider
  readonly keys: KeyRing
  readonly events: Events
  readonly metrics: Metrics
  /** The certificate that clients must trust, when it is the development authority's. */
  readonly authorityFile: string | undefined
  /** From now on `/readyz` says that no requests should be sent here; all are served still. */
  drain(): void
  /** Removes expired rows from now on: one process of a node is enough for that. */
  lead(): void
  /** Resolves when requests should be sent here. */
  ready(): Promise<void>
  /** Writes the audit events of everything that was answered so far. */
  flushAudit(): Promise<void>
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

/** Which of the processes of a node one is: the first reports what concerns all of them. */
export interface WorkerPlace {
  readonly number: number
  readonly of: number
}

export interface ServerOptions extends Pick<OpenKeysOptions, 'onStep' | 'makeKey'> {
  /** Fetches what clients name by URL; a test may give one with an exception. */
  readonly guardedFetch?: GuardedFetch | undefined
  /** What a hash of a password costs; a test may save it. */
  readonly passwordCost?: PasswordCost | undefined
  /** How long a password may wait to be checked; a test on a busy machine may be patient. */
  readonly passwordPatienceMs?: number | undefined
  /** Undefined for a node of one process, which serves operators itself. */
  readonly worker?: (WorkerPlace & { readonly siblings: Siblings }) | undefined
}

/** Reports clients whose tokens are not bound, and those that the server refuses. */
async function reportClients(
  { protocol }: Config,
  { clients: table }: Storage,
  events: Events,
): Promise<void> {
  const clients = await table.list()
  events.bearerClientsFound(bearerClientIds(clients))
  const refused = clientsAgainst(protocol.profile, clients)
  if (refused.length === 0) return
  const some = refused.slice(0, 10).join(', ')
  events.configWarned(`${refused.length} clients contradict their profile and are refused: ${some}`)
}

/**
 * Listens with the identity provider on an open storage. Disposing finishes requests
 * that were begun; the storage stays open, and anyone who opened it closes it.
 *
 * @param onStep told of keys that are made, which takes a while.
 * @param makeKey makes them; a test may take keys that are ready.
 */
export async function startServer(
  config: Config,
  storage: Storage,
  log: Log,
  { onStep, makeKey, worker, ...options }: ServerOptions = {},
): Promise<RunningServer> {
  await using opened = new AsyncDisposableStack()
  const isFirst = worker === undefined || worker.number === 1
  if (!worker) logStart(log)
  if (config.operations.tracing) opened.use(await startTracing())
  const { auditTokens, auditRetentionDays: retentionDays } = config.operations
  const observability = opened.use(
    createObservability({ log, storage, auditTokens, workers: worker?.of }),
  )
  const { events, metrics, flush } = observability
  if (isFirst) for (const warning of configWarnings(config)) events.configWarned(warning)
  const files = authorityFiles(config.mtls)
  const authorities = files && opened.use(await watchAuthorities(files, observability))
  const keys = await openKeys({ config, storage, events, actor: 'server', onStep, makeKey })
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
  storage.standby?.watch(events.standbyChanged)
  let draining = false
  const ping = async () => {
    if (draining) throw new Error('the server is stopping')
    await readiness.check()
  }
  const { auditMonthsDropped: onDropped } = events
  const cleanUp = () =>
    startCleanup({
      tables: [storage.audit.months({ retentionDays, onDropped }), ...storage.expiring],
      interval: cleanupInterval,
      onCleaned: (cleaned) => events.cleaned(cleaned),
      onError: (error, table) => events.cleanupFailed(table, error),
    })
  if (!worker) opened.use(cleanUp())
  const provider = createIdentityProvider(config, { ...storage, ping }, observability, {
    keys,
    authorities,
    ...options,
    workers: worker?.of,
    siblings: worker?.siblings,
    opened,
  })
  if (isFirst) {
    const sending = {
      config,
      storage,
      events,
      keys,
      engine: provider,
      guardedFetch: options.guardedFetch,
    }
    await storage.mail.setSending(config.mail !== undefined)
    for (const queue of deliver(sending)) opened.use(queue)
    await reportClients(config, storage, events)
  }
  const { metrics: address } = config.operations
  if (address && !worker) {
    const { registry } = metrics
    opened.use(
      await listenForOperators({ address, config, ping, metrics: () => registry.metrics() }),
    )
  }
  const handler = provider.callback()
  const isShared = worker !== undefined
  const { authorityFile } = opened.use(await listen(handler, config, { isShared }))
  const { port } = config.mtls
  if (port) {
    const mtls = { ...config, listen: { ...config.listen, port } }
    opened.use(await listen(handler, mtls, { askForCertificates: true, isShared }))
  }
  const open = opened.move()
  return {
    issuer: config.issuer,
    provider,
    keys,
    events,
    metrics,
    authorityFile,
    drain() {
      draining = true
    },
    lead: () => void open.use(cleanUp()),
    ready: ping,
    flushAudit: flush,
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}

/**
 * Sends what waits: to clients logout tokens and notifications of decided requests (CIBA), and to
 * people mail.
 */
function deliver({
  config: { issuer, mail, signUp },
  storage,
  events,
  keys,
  engine,
  guardedFetch = createGuardedFetch({ limits: deliveryLimits }),
}: {
  config: Config
  storage: Pick<
    Storage,
    | 'accountLinks'
    | 'accounts'
    | 'logoutDeliveries'
    | 'mail'
    | 'pingDeliveries'
    | 'rateLimits'
    | 'signUps'
  >
  events: Events
  keys: KeyRing
  engine: Provider
  guardedFetch: GuardedFetch | undefined
}): AsyncDisposable[] {
  const { now } = keys
  const start = <Delivery extends QueuedDelivery>(
    kind: DeliveryKind,
    queue: DeliveryQueue<Delivery>,
    send: (delivery: Delivery) => Promise<DeliveryOutcome>,
    factsOf: (delivery: Delivery) => Facts,
  ) =>
    startDeliveries({
      queue,
      send,
      onDone: (delivery, result) =>
        events.delivered(kind, factsOf(delivery), result, { attempts: delivery.attempts }),
      onError: (error) => events.deliveryFailed(kind, error),
    })
  const ofClient = ({ clientId, accountId }: { clientId: string; accountId: string }) => ({
    client: clientId,
    account: accountId,
  })
  const logouts = { issuer, engine, guardedFetch, now, sign: createSigner(keys) }
  const pings = { engine, guardedFetch, state: createPingState(keys) }
  return [
    start('logout', storage.logoutDeliveries, createBackChannel(logouts), ofClient),
    start('ping', storage.pingDeliveries, createPings(pings), ofClient),
    ...(mail
      ? [
          start(
            'mail',
            storage.mail,
            mailSender(mail, { issuer, signUp, storage, keys, events }),
            ({ accountId }) => ({ account: accountId ?? undefined }),
          ),
        ]
      : []),
  ]
}

function mailSender(
  mail: MailConfig,
  {
    issuer,
    signUp,
    storage,
    keys: { vault },
    events,
  }: {
    issuer: string
    signUp: SignUpPolicy
    storage: Pick<Storage, 'accountLinks' | 'accounts' | 'rateLimits' | 'signUps'>
    keys: Pick<KeyRing, 'vault'>
    events: Events
  },
) {
  return createMailSender({
    smtp: createSmtp(mail),
    letters: createLetters({ issuer }),
    vault,
    store: storage.accounts,
    recover: createAccountLinks({
      table: storage.accountLinks,
      store: storage.accounts,
      address: linkAddress(issuer),
    }).recover,
    prepareSignUp: createSignUps({
      policy: signUp,
      table: storage.signUps,
      store: storage.accounts,
      address: signUpAddress(issuer),
    }).prepare,
    makeLimiter: storage.rateLimits.makeLimiter,
    host: new URL(issuer).hostname,
    onProblem: ({ code, reply }) => events.mailRefused(code, reply),
  })
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
