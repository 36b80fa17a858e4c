import { availableParallelism } from 'node:os'
import { z } from 'zod'
import { defaultPort } from './mtls-config.ts'

/** What serves operators. */
export interface OperationsConfig {
  /** Processes that serve, all of them at the same port. */
  readonly workers: number
  /** Connections to the database that one of them has at most. */
  readonly connectionsPerWorker: number
  /** Where metrics are served: an address of their own, which the Internet does not reach. */
  readonly metrics: { readonly host: string; readonly port: number } | undefined
  readonly adminApi: boolean
  /** Whether clients may register themselves, with an initial access token. */
  readonly registration: boolean
  /** Whether they may without one. */
  readonly openRegistration: boolean
  /** Clients that one network may register in an hour without a token. */
  readonly openRegistrationLimit: number
  /**
   * Whether clients may name themselves by the URL of a document, and at which hosts it may be;
   * undefined where they cannot.
   */
  readonly clientDocuments: { readonly domains: readonly string[] | undefined } | undefined
  /** Whether devices without a browser may ask for tokens (RFC 8628). */
  readonly deviceFlow: boolean
  /** Device codes that one network may ask for in a minute. */
  readonly deviceLimit: number
  /** Wrong user codes that one network may type in 15 minutes. */
  readonly userCodeLimit: number
  /** Seconds for which a server that is stopping still serves requests, and reports that it is not ready. */
  readonly drainSeconds: number
  /** Whether each grant is a row of the audit trail, or only those that a person has caused. */
  readonly auditTokens: 'count' | 'each'
  /** Days after whose end a month of the audit trail is dropped; undefined keeps all. */
  readonly auditRetentionDays: number | undefined
  /** Traces, by the standard variables of OpenTelemetry. */
  readonly tracing: boolean
  /** Attempts to sign in to one account from one network in 15 minutes. */
  readonly loginLimit: number
  /** Failed attempts to sign in of one network in an hour, for all accounts that do not know it. */
  readonly loginNetworkLimit: number
  /** Passwords that are hashed at the same time. */
  readonly passwordHashes: number
  /** Milliseconds that a token request may have to wait before it is refused. */
  readonly longestWaitMs: number
  /** Authorization requests of one network in a minute; the same of pushed ones, and device pages. */
  readonly authorizeLimit: number
  readonly parLimit: number
  readonly devicePageLimit: number
  /** Malformed and forged requests of one network in a minute whose response says what is wrong. */
  readonly edgeRefusalLimit: number
  /** Refused requests of one network to the token endpoint and its like in a minute. */
  readonly refusalLimit: number
}

/** Processes of a node where nothing else is configured. */
const mostStandardWorkers = 4

/** Bytes that each of them takes, and that the first process takes beside them. */
const workerBytes = 256 * 1024 * 1024
const primaryBytes = 128 * 1024 * 1024

/** Systems on which several processes can listen at one port (SO_REUSEPORT), each for itself. */
const sharesPorts: ReadonlySet<string> = new Set(['linux', 'freebsd'])

/**
 * The cores that this process may use, by its affinity and its control group, as far as the memory of
 * the control group is enough; 1 where processes cannot share a port.
 */
export function standardWorkers({
  platform = process.platform,
  cores = availableParallelism(),
  memoryBytes = process.constrainedMemory() || Number.POSITIVE_INFINITY,
}: {
  platform?: string
  cores?: number
  memoryBytes?: number
} = {}): number {
  const fit = Math.floor((memoryBytes - primaryBytes) / workerBytes)
  return sharesPorts.has(platform) ? Math.max(1, Math.min(cores, mostStandardWorkers, fit)) : 1
}

/** Connections of a node with one worker or two; of more workers each has half of them. */
const standardConnections = 10

const limit = (standard: number) =>
  z
    .string()
    .regex(/^[1-9]\d{0,5}$/, 'must be a number from 1 to 999999')
    .transform(Number)
    .default(standard)

export const operationsVariables = {
  HOLDFAST_WORKERS: z
    .string()
    .regex(/^[1-9]\d?$/, 'must be a number from 1 to 64')
    .transform(Number)
    .refine((workers) => workers <= 64, 'must be a number from 1 to 64')
    .refine(
      (workers) => workers === 1 || sharesPorts.has(process.platform),
      'must be 1: on this system several processes cannot listen at one port',
    )
    .default(() => standardWorkers()),
  HOLDFAST_DATABASE_CONNECTIONS: z
    .string()
    .regex(/^[1-9]\d{0,2}$/, 'must be a number from 1 to 999')
    .transform(Number)
    .optional(),
  HOLDFAST_METRICS: z
    .string()
    .refine(
      (text) => parseAddress(text) !== undefined,
      'must be an address and port such as 127.0.0.1:9464',
    )
    .optional(),
  HOLDFAST_DRAIN_SECONDS: z
    .string()
    .regex(/^\d{1,2}$/, 'must be a number from 0 to 60')
    .transform(Number)
    .refine((seconds) => seconds <= 60, 'must be a number from 0 to 60')
    .default(0),
  HOLDFAST_ADMIN_API: z.enum(['on', 'off'], 'must be on or off').default('off'),
  HOLDFAST_REGISTRATION: z.enum(['on', 'off', 'open'], 'must be on, off or open').default('off'),
  HOLDFAST_OPEN_REGISTRATION_LIMIT: limit(20),
  HOLDFAST_CLIENT_ID_METADATA: z
    .string()
    .refine(
      (text) => /^(?:on|off)$/.test(text) || text.split(',').every(isDomain),
      'must be on, off, or hosts in lower case such as app.example.com,*.example.org',
    )
    .default('off'),
  HOLDFAST_DEVICE_FLOW: z.enum(['on', 'off'], 'must be on or off').default('off'),
  HOLDFAST_DEVICE_LIMIT: limit(60),
  HOLDFAST_USER_CODE_LIMIT: limit(20),
  HOLDFAST_LOGIN_LIMIT: limit(10),
  HOLDFAST_LOGIN_NETWORK_LIMIT: limit(100),
  HOLDFAST_REFUSAL_LIMIT: limit(120),
  HOLDFAST_AUTHORIZE_LIMIT: limit(600),
  HOLDFAST_PAR_LIMIT: limit(600),
  HOLDFAST_DEVICE_PAGE_LIMIT: limit(300),
  HOLDFAST_EDGE_REFUSAL_LIMIT: limit(60),
  HOLDFAST_PASSWORD_HASHES: z
    .string()
    .regex(/^[1-9]\d{0,2}$/, 'must be a number from 1 to 999')
    .transform(Number)
    .default(2),
  HOLDFAST_AUDIT_TOKENS: z.enum(['count', 'each'], 'must be count or each').default('count'),
  HOLDFAST_AUDIT_RETENTION_DAYS: z
    .string()
    .regex(/^(9\d|[1-9]\d{2,4})$/, 'must be a number of days from 90 to 99999')
    .transform(Number)
    .optional(),
  HOLDFAST_LONGEST_WAIT_MS: z
    .string()
    .regex(/^[1-9]\d{1,4}$/, 'must be a number of milliseconds from 10 to 99999')
    .transform(Number)
    .default(400),
}

type Values = z.output<z.ZodObject<typeof operationsVariables>>

export function operationsConfig(values: Values, tracing: boolean): OperationsConfig {
  const workers = values.HOLDFAST_WORKERS
  const connections =
    values.HOLDFAST_DATABASE_CONNECTIONS ??
    Math.max(standardConnections, (workers * standardConnections) / 2)
  return {
    workers,
    connectionsPerWorker: Math.floor(connections / workers),
    metrics:
      values.HOLDFAST_METRICS === undefined ? undefined : parseAddress(values.HOLDFAST_METRICS),
    drainSeconds: values.HOLDFAST_DRAIN_SECONDS,
    adminApi: values.HOLDFAST_ADMIN_API === 'on',
    registration: values.HOLDFAST_REGISTRATION !== 'off',
    openRegistration: values.HOLDFAST_REGISTRATION === 'open',
    openRegistrationLimit: values.HOLDFAST_OPEN_REGISTRATION_LIMIT,
    clientDocuments: clientDocumentsOf(values.HOLDFAST_CLIENT_ID_METADATA),
    deviceFlow: values.HOLDFAST_DEVICE_FLOW === 'on',
    deviceLimit: values.HOLDFAST_DEVICE_LIMIT,
    userCodeLimit: values.HOLDFAST_USER_CODE_LIMIT,
    auditTokens: values.HOLDFAST_AUDIT_TOKENS,
    auditRetentionDays: values.HOLDFAST_AUDIT_RETENTION_DAYS,
    tracing,
    loginLimit: values.HOLDFAST_LOGIN_LIMIT,
    loginNetworkLimit: values.HOLDFAST_LOGIN_NETWORK_LIMIT,
    refusalLimit: values.HOLDFAST_REFUSAL_LIMIT,
    authorizeLimit: values.HOLDFAST_AUTHORIZE_LIMIT,
    parLimit: values.HOLDFAST_PAR_LIMIT,
    devicePageLimit: values.HOLDFAST_DEVICE_PAGE_LIMIT,
    edgeRefusalLimit: values.HOLDFAST_EDGE_REFUSAL_LIMIT,
    passwordHashes: values.HOLDFAST_PASSWORD_HASHES,
    longestWaitMs: values.HOLDFAST_LONGEST_WAIT_MS,
  }
}

/** A host, or `*.` and one for its subdomains. A word alone would be a misspelt `on`. */
const isDomain = (text: string) => /^(\*\.)?[a-z\d-]+(\.[a-z\d-]+)+$/.test(text.trim())

function clientDocumentsOf(text: string): OperationsConfig['clientDocuments'] {
  if (text === 'off') return undefined
  return { domains: text === 'on' ? undefined : text.split(',').map((host) => host.trim()) }
}

/** What is wrong with variables that are each right. */
export function operationsContradictions(
  given: Readonly<Record<string, string | undefined>>,
): string[] {
  return [...portContradictions(given), ...connectionContradictions(given)]
}

/** A worker without a connection could answer nothing. */
function connectionContradictions({
  HOLDFAST_WORKERS: workers,
  HOLDFAST_DATABASE_CONNECTIONS: connections,
}: Readonly<Record<string, string | undefined>>): string[] {
  const count = Number(workers ?? standardWorkers())
  return connections === undefined || Number(connections) >= count
    ? []
    : [`HOLDFAST_DATABASE_CONNECTIONS must be at least one for each of the ${count} workers.`]
}

/** Two listeners cannot have one port of one address. */
function portContradictions(given: Readonly<Record<string, string | undefined>>): string[] {
  const { HOLDFAST_HOST: host = '127.0.0.1', HOLDFAST_PORT = defaultPort } = given
  const metrics = parseAddress(given.HOLDFAST_METRICS ?? '')
  if (!metrics || !overlap(metrics.host, host)) return []
  return Object.entries({ HOLDFAST_PORT, HOLDFAST_MTLS_PORT: given.HOLDFAST_MTLS_PORT })
    .filter(([, port]) => Number(port) === metrics.port)
    .map(([name]) => `HOLDFAST_METRICS must be at another port than ${name}.`)
}

function overlap(one: string, other: string): boolean {
  const hosts = [one, other].map((host) => host.replace('localhost', '127.0.0.1'))
  return hosts[0] === hosts[1] || hosts.some((host) => host === '0.0.0.0' || host === '::')
}

function parseAddress(text: string): { host: string; port: number } | undefined {
  const url = URL.parse(`tcp://${text}`)
  const port = Number(url?.port)
  if (!url || port < 1 || url.host !== text) return undefined
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port }
}
