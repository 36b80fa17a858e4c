import { mkdir } from 'node:fs/promises'
import { type AccountLinkTable, createAccountLinkTable } from './account-link-table.ts'
import type { AccountStore } from './account-store.ts'
import { createAccountTable } from './account-table.ts'
import { type AccountTransferTable, createAccountTransferTable } from './account-transfer-table.ts'
import { type AdminQueries, createAdminQueries } from './admin-queries.ts'
import { type ArtifactTable, createArtifactTable } from './artifact-table.ts'
import { type AuditTable, createAuditTable } from './audit-table.ts'
import {
  type BackchannelRequestTable,
  createBackchannelRequestTable,
} from './backchannel-request-table.ts'
import { type BrowserRequestTable, createBrowserRequestTable } from './browser-request-table.ts'
import { type BrowserSessionTable, createBrowserSessionTable } from './browser-session-table.ts'
import { type ClaimMappingTable, createClaimMappingTable } from './claim-mapping-table.ts'
import { type ClientDocumentTable, createClientDocumentTable } from './client-document-table.ts'
import { type ClientLogoTable, createClientLogoTable } from './client-logo-table.ts'
import { type ClientTable, createClientTable } from './client-table.ts'
import { type CountedEventTable, createCountedEventTable } from './counted-event-table.ts'
import { type CredentialLookup, createCredentialLookup } from './credential-lookup.ts'
import { describeConnectionError, openDatabase, type PoolUse } from './database.ts'
import {
  createLogoutDeliveries,
  createPingDeliveries,
  type DeliveryQueue,
  type LogoutDelivery,
  type PingDelivery,
} from './delivery-queue.ts'
import { createDetailsTypeTable, type DetailsTypeTable } from './details-type-table.ts'
import { createDevicePollTable, type DevicePollTable } from './device-poll-table.ts'
import { createEmailChangeTable, type EmailChangeTable } from './email-change-table.ts'
import { type EmbeddedStep, startEmbeddedPostgres } from './embedded-postgres.ts'
import type { ExpiringRows } from './expiring-rows.ts'
import { createFailedSignInTable, type FailedSignInTable } from './failed-sign-in-table.ts'
import { createMailTable, type MailTable } from './mail-table.ts'
import { migrate, requireCurrentSchema } from './migrate.ts'
import { createNodeProbe } from './node-probe.ts'
import { createPasskeyTable, type PasskeyTable } from './passkey-table.ts'
import { createRateLimitTable, type RateLimitTable } from './rate-limit-table.ts'
import { createRegistrationTable, type RegistrationTable } from './registration-table.ts'
import { createReplayTable, type ReplayTable } from './replay-table.ts'
import { createResourceServerTable, type ResourceServerTable } from './resource-server-table.ts'
import { createSecondFactorTable, type SecondFactorTable } from './second-factor-table.ts'
import { createSecurityEventTable, type SecurityEventTable } from './security-event-table.ts'
import { createSignInAttemptTable, type SignInAttemptTable } from './sign-in-attempt-table.ts'
import { createSignUpTable, type SignUpTable } from './sign-up-table.ts'
import { createSigningKeyTable, type SigningKeyTable } from './signing-key-table.ts'
import { createStandby, type Standby } from './standby.ts'
import { StorageError } from './storage-error.ts'
import { traceQueries } from './trace-queries.ts'

export interface Storage extends AsyncDisposable {
  readonly accountLinks: AccountLinkTable
  readonly accounts: AccountStore
  readonly accountTransfers: AccountTransferTable
  readonly artifacts: ArtifactTable
  readonly audit: AuditTable
  readonly backchannelRequests: BackchannelRequestTable
  readonly browserRequests: BrowserRequestTable
  readonly browserSessions: BrowserSessionTable
  readonly claimMappings: ClaimMappingTable
  readonly clientDocuments: ClientDocumentTable
  readonly clientLogos: ClientLogoTable
  readonly clients: ClientTable
  readonly countedEvents: CountedEventTable
  readonly credentials: CredentialLookup
  readonly detailsTypes: DetailsTypeTable
  readonly devicePolls: DevicePollTable
  readonly emailChanges: EmailChangeTable
  readonly failedSignIns: FailedSignInTable
  readonly issued: AdminQueries
  readonly logoutDeliveries: DeliveryQueue<LogoutDelivery>
  readonly mail: MailTable
  readonly pingDeliveries: DeliveryQueue<PingDelivery>
  readonly passkeys: PasskeyTable
  readonly rateLimits: RateLimitTable
  readonly registrations: RegistrationTable
  readonly replays: ReplayTable
  readonly resourceServers: ResourceServerTable
  readonly secondFactors: SecondFactorTable
  readonly securityEvents: SecurityEventTable
  readonly signInAttempts: SignInAttemptTable
  readonly signUps: SignUpTable
  readonly signingKeys: SigningKeyTable
  /** Undefined where none is configured. */
  readonly standby: Standby | undefined
  /** What the cleanup of a server removes rows from. */
  readonly expiring: readonly ExpiringRows[]
  /** Names of the migrations that opening has applied. */
  readonly migrated: readonly string[]
  /** Resolves when the database answers, and is one that can be written to. */
  ping(): Promise<void>
  /** Writes a row that nobody reads. Milliseconds since the epoch by the clock of the database. */
  probe(): Promise<number>
  poolUse(): PoolUse
}

const stepLabels = {
  make: 'Making the database',
  start: 'Starting the database',
  connect: 'Connecting to the database',
  migrate: 'Migrating the database',
  stop: 'Stopping the database',
}

type Step = keyof typeof stepLabels

const starting: readonly Step[] = ['make', 'start']
const connecting: readonly Step[] = ['connect', 'migrate']

/**
 * Opens the database at `databaseUrl`, or the embedded one in `dataFolder`. The schema is brought up
 * to this release, or, with `migrates: false`, must be that of this release: nothing is made then.
 * With `migrates: 'done'` it is not looked at: another process of this node has, and a later release
 * may have migrated it since, which this one can serve beside.
 *
 * @throws {@link StorageError}
 */
export async function openStorage({
  databaseUrl,
  dataFolder,
  preparedStatements = true,
  connections,
  standby,
  onError,
  onNotice = () => {},
  migrates = true,
  tracing = false,
  onStep = () => {},
  open: openPool = openDatabase,
  now,
}: {
  databaseUrl: string | undefined
  dataFolder: string
  preparedStatements?: boolean
  /** Connections at most. */
  connections?: number | undefined
  /** A standby that introspection may read. */
  standby?: { readonly url: string; readonly mostBehindMs: number } | undefined
  /** Told of connections that broke while nobody used them. */
  onError: (error: Error) => void
  /** Receives a sentence about what may surprise an operator. */
  onNotice?: (sentence: string) => void
  /** Whether the schema, and an embedded database, are made where they are missing. */
  migrates?: boolean | 'done'
  /** Makes a span of each statement. */
  tracing?: boolean
  /** Told of a step that begins: how much of how much was done before it; of 0 if nobody knows. */
  onStep?: (what: string, done: number, total: number) => void
  open?: typeof openDatabase
  /** The clock of what is remembered of the database: milliseconds. */
  now?: () => number
}): Promise<Storage> {
  await using opened = new AsyncDisposableStack()
  const steps = databaseUrl ? connecting : [...starting, ...connecting]
  // Stopping is a step of its own, of which there is no end to be seen.
  const begin = (step: Step) =>
    step === 'stop'
      ? onStep(stepLabels.stop, 0, 0)
      : onStep(stepLabels[step], steps.indexOf(step), steps.length)
  const connectionString =
    databaseUrl ??
    opened.use(await openEmbedded(dataFolder, migrates === true, { onStep: begin, onNotice }))
      .connectionString
  begin('connect')
  // Before it migrates: a server that is too old is left as it is.
  const pool = opened.use(
    await openPool(connectionString, { onError, preparedStatements, poolSize: connections }),
  )
  const probe = createNodeProbe(tracing ? traceQueries(pool) : pool)
  const { database } = probe
  const migrateNow = () => {
    // Another process may be at it: it is waited for.
    begin('migrate')
    return migrate(connectionString, {
      onMigration: (name, applied, pending) =>
        onStep(`Migrating: ${name}`, steps.indexOf('migrate') + applied / pending, steps.length),
    })
  }
  const checkSchema = () => requireCurrentSchema(pool).then(() => [])
  const prepare = () => (migrates ? migrateNow() : checkSchema())
  const migrated =
    migrates === 'done'
      ? []
      : await prepare().catch((error: unknown) => {
          throw describeConnectionError(error, connectionString)
        })
  const memory = now && { now }
  const artifacts = createArtifactTable(database)
  const replays = createReplayTable(database)
  const rateLimits = createRateLimitTable(database)
  const browserSessions = createBrowserSessionTable(database)
  const securityEvents = createSecurityEventTable(database)
  const registrations = createRegistrationTable(database)
  const clientDocuments = createClientDocumentTable(database)
  const devicePolls = createDevicePollTable(database)
  const countedEvents = createCountedEventTable(database)
  const failedSignIns = createFailedSignInTable(database)
  const ofStandby = { primary: database, preparedStatements, poolSize: connections }
  const watched = standby && opened.use(createStandby({ ...standby, ...ofStandby }))
  const logoutDeliveries = createLogoutDeliveries(database)
  const pingDeliveries = createPingDeliveries(database)
  const mail = createMailTable(database)
  const accountLinks = createAccountLinkTable(database)
  const emailChanges = createEmailChangeTable(database)
  const signUps = createSignUpTable(database)
  const open = opened.move()
  return {
    accountLinks,
    accounts: createAccountTable(database),
    accountTransfers: createAccountTransferTable(database),
    artifacts,
    audit: createAuditTable(database),
    issued: createAdminQueries(database),
    logoutDeliveries,
    mail,
    pingDeliveries,
    rateLimits,
    backchannelRequests: createBackchannelRequestTable(database),
    browserRequests: createBrowserRequestTable(database),
    browserSessions,
    replays,
    claimMappings: createClaimMappingTable(database, memory),
    clientDocuments,
    clientLogos: createClientLogoTable(database, memory),
    clients: createClientTable(database, memory),
    registrations,
    countedEvents,
    credentials: createCredentialLookup(database),
    detailsTypes: createDetailsTypeTable(database, memory),
    emailChanges,
    failedSignIns,
    devicePolls,
    passkeys: createPasskeyTable(database),
    resourceServers: createResourceServerTable(database, memory),
    secondFactors: createSecondFactorTable(database),
    securityEvents,
    signInAttempts: createSignInAttemptTable(database),
    signUps,
    standby: watched,
    signingKeys: createSigningKeyTable(database),
    expiring: [
      artifacts,
      replays,
      rateLimits,
      devicePolls,
      browserSessions,
      securityEvents,
      countedEvents,
      failedSignIns,
      registrations,
      registrations.unusedClients,
      logoutDeliveries,
      pingDeliveries,
      mail,
      accountLinks,
      accountLinks.recovery,
      emailChanges,
      signUps,
      signUps.invitations,
      clientDocuments,
    ],
    migrated,
    ping: probe.ping,
    probe: probe.write,
    poolUse: () => database.poolUse(),
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}

async function openEmbedded(
  dataFolder: string,
  make: boolean,
  handlers: { onStep: (step: EmbeddedStep) => void; onNotice: (sentence: string) => void },
) {
  if (!make) return startEmbeddedPostgres({ folder: dataFolder, make, ...handlers })
  await mkdir(dataFolder, { recursive: true }).catch((cause: NodeJS.ErrnoException) => {
    throw new StorageError(
      'data_folder_unusable',
      `The data folder ${dataFolder} cannot be made (${cause.code}). ` +
        'Set HOLDFAST_DATA to a folder that can be written.',
      { cause },
    )
  })
  return startEmbeddedPostgres({ folder: dataFolder, ...handlers })
}
