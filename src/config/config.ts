import type { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import path from 'node:path'
import { z } from 'zod'
import { isLoopback } from '../net/loopback.ts'
import { isPath, pathOfIssuer } from './issuer-path.ts'
import { type KeysConfig, keysConfig, keysContradictions, keysVariables } from './keys-config.ts'
import {
  type MailConfig,
  mailConfig,
  mailContradictions,
  mailVariables,
  shownSmtpUrl,
} from './mail-config.ts'
import {
  defaultPort,
  type MtlsConfig,
  mtlsConfig,
  mtlsContradictions,
  mtlsVariables,
} from './mtls-config.ts'
import {
  type OperationsConfig,
  operationsConfig,
  operationsContradictions,
  operationsVariables,
} from './operations-config.ts'
import {
  type PasskeysConfig,
  passkeysConfig,
  passkeysContradictions,
  passkeysVariables,
  readAttestationRoots,
} from './passkeys-config.ts'
import {
  type ProtocolConfig,
  protocolConfig,
  protocolContradictions,
  protocolVariables,
} from './protocol-config.ts'
import { proxiesContradictions, proxiesVariables } from './proxies-config.ts'
import { readSecretFiles, secretFileNames } from './secret-files.ts'
import { type SelfService, selfServiceVariables } from './self-service-config.ts'
import {
  type SignUpPolicy,
  signUpContradictions,
  signUpPolicy,
  signUpVariables,
} from './sign-up-config.ts'
import { tlsCipherVariables } from './tls-ciphers.ts'
import {
  type TokenBindingMode,
  tokenBindingContradictions,
  tokenBindingVariables,
} from './token-binding-config.ts'
import { asksForTraces } from './traces.ts'

/** What the server runs on. Every value was checked; nothing reads the environment again. */
export interface Config {
  /** The issuer identifier: what tokens, metadata and DPoP's htu are made of. It may have a path. */
  readonly issuer: string
  /** The path below which requests arrive here, such as `/auth`; `` for the root. */
  readonly arrivalPath: string
  readonly listen: { readonly host: string; readonly port: number }
  readonly tls: TlsConfig
  /** The cipher suites of our listeners, in the order in which we prefer them. */
  readonly tlsCiphers: string
  /** Undefined where no mail is sent. */
  readonly mail: MailConfig | undefined
  readonly mtls: MtlsConfig
  readonly tokenBinding: TokenBindingMode
  /** Addresses and networks of the proxies whose headers are believed. */
  readonly trustedProxies: readonly string[]
  /** Whether plain HTTP for a public issuer is meant, though no proxy is named. */
  readonly allowsTlsOffWithoutTrustedProxies: boolean
  readonly operations: OperationsConfig
  readonly passkeys: PasskeysConfig
  readonly protocol: ProtocolConfig
  /** What people may do with their accounts by themselves. */
  readonly selfService: readonly SelfService[]
  /** Who may make an account for themselves. */
  readonly signUp: SignUpPolicy
  /** The folder for everything that is kept in files: the embedded database, keys, certificates. */
  readonly dataFolder: string
  /** Undefined for the embedded PostgreSQL. */
  readonly databaseUrl: string | undefined
  /** A standby that introspection may read; undefined for none. */
  readonly standby: { readonly url: string; readonly mostBehindMs: number } | undefined
  /** Off for a pooler in transaction mode that cannot follow them. */
  readonly preparedStatements: boolean
  /** Undefined for one that is made at first start and kept in the data folder. */
  readonly secret: string | undefined
  /** The one before, while keys in the database may still be encrypted under it. */
  readonly previousSecret: string | undefined
  readonly keys: KeysConfig
  readonly dpopNonces: 'required' | 'optional'
  /** Seconds for which a DPoP proof without a nonce is good. */
  readonly proofWindowS: number
  /** The grace period in which a client that lost the response may retry a refresh. */
  readonly refreshReuseSeconds: number
  /** For how long a client that renews its key may use both; undefined when it must not. */
  readonly keyOverlapHours: number | undefined
  /** Seconds for which a browser's proof of its session's key is good. */
  readonly sessionProofLifetime: number
  /** Whether pages bind the sessions of browsers without DBSC, by a script. */
  readonly pageKey: boolean
  /** Hosts of applications whose requests may have a browser prove its session's key. */
  readonly sessionRefreshInitiators: readonly string[]
  readonly logLevel: LogLevel
}

export type TlsConfig =
  /** A certificate from the development authority in the data folder. */
  | { readonly mode: 'development' }
  | { readonly mode: 'files'; readonly certFile: string; readonly keyFile: string }
  /** Plain HTTP, for use behind a proxy that terminates TLS. */
  | { readonly mode: 'off' }

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent'

/** The configuration has mistakes: all of them, each naming its variable. */
export class ConfigError extends Error {
  override name = 'ConfigError'
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(problems.join('\n'))
    this.problems = problems
  }
}

const secretSchema = z.string().refine((secret) => secret.length >= 32, {
  error: 'must have at least 32 characters',
  abort: true,
})

const databaseUrl = z
  .string()
  .refine(
    isPostgresUrl,
    'must be a URL such as postgresql://user:password@host:5432/database, its password URL-encoded',
  )

const variables = z.object({
  HOLDFAST_ISSUER: z.string().optional(),
  HOLDFAST_PATH: z
    .string()
    .refine((path) => path === '/' || isPath(path), 'must be / or a path such as /auth')
    .optional(),
  HOLDFAST_HOST: z
    .string()
    .refine(
      (host) => isIP(host) !== 0 || host === 'localhost',
      'must be an IP address or localhost',
    )
    .default('127.0.0.1'),
  HOLDFAST_PORT: z
    .string()
    .regex(/^\d{1,5}$/, 'must be a number from 1 to 65535')
    .transform(Number)
    .refine((port) => port >= 1 && port <= 65535, 'must be a number from 1 to 65535')
    .default(defaultPort),
  HOLDFAST_TLS: z.enum(['on', 'off'], 'must be on or off').default('on'),
  HOLDFAST_TLS_CERT_FILE: z.string().optional(),
  HOLDFAST_TLS_KEY_FILE: z.string().optional(),
  HOLDFAST_DATA: z.string().default('data'),
  DATABASE_URL: databaseUrl.optional(),
  HOLDFAST_DATABASE_STANDBY_URL: databaseUrl.optional(),
  HOLDFAST_STANDBY_LAG_SECONDS: z
    .string()
    .regex(/^\d{1,2}$/, 'must be a number of seconds from 1 to 60')
    .transform(Number)
    .refine((seconds) => seconds >= 1 && seconds <= 60, 'must be from 1 to 60')
    .default(2),
  HOLDFAST_PREPARED_STATEMENTS: z.enum(['on', 'off'], 'must be on or off').default('on'),
  HOLDFAST_SECRET: secretSchema
    .refine(
      (secret) => new Set(secret).size >= 8,
      'is weak: generate it, by "openssl rand -hex 32"',
    )
    .optional(),
  HOLDFAST_SECRET_PREVIOUS: secretSchema.optional(),
  HOLDFAST_DPOP_NONCES: z
    .enum(['required', 'optional'], 'must be required or optional')
    .default('optional'),
  HOLDFAST_REFRESH_REUSE_SECONDS: z
    .string()
    .regex(/^\d{1,2}$/, 'must be a number from 0 to 60')
    .transform(Number)
    .refine((seconds) => seconds <= 60, 'must be a number from 0 to 60')
    .default(0),
  HOLDFAST_PROOF_WINDOW_SECONDS: z
    .string()
    .regex(/^\d{1,3}$/, 'must be a number of seconds from 10 to 300')
    .transform(Number)
    .refine((seconds) => seconds >= 10 && seconds <= 300, 'must be from 10 to 300')
    .default(300),
  HOLDFAST_SESSION_PROOF_SECONDS: z
    .string()
    .regex(/^\d{1,4}$/, 'must be a number of seconds from 1 to 3600')
    .transform(Number)
    .refine((seconds) => seconds >= 1 && seconds <= 3600, 'must be from 1 to 3600')
    .default(600),
  HOLDFAST_PAGE_KEY: z.enum(['on', 'off'], 'must be on or off').default('on'),
  HOLDFAST_SESSION_REFRESH_INITIATORS: z
    .string()
    .transform((list) => list.split(',').map((host) => host.trim()))
    .refine(
      (hosts) => hosts.every((host) => /^(\*|(\*\.)?[a-z\d-]+(\.[a-z\d-]+)*)$/.test(host)),
      'must be host names in lower case, such as app.example.com,*.example.org, or *',
    )
    .default([]),
  HOLDFAST_LOG_LEVEL: z
    .enum(
      ['trace', 'debug', 'info', 'warn', 'error', 'silent'],
      'must be one of trace, debug, info, warn, error, silent',
    )
    .default('info'),
  HOLDFAST_KEY_OVERLAP_HOURS: z
    .string()
    .regex(/^\d{1,3}$/, 'must be a number of hours from 1 to 720')
    .transform(Number)
    .refine((hours) => hours >= 1 && hours <= 720, 'must be a number of hours from 1 to 720')
    .optional(),
  ...keysVariables,
  ...mailVariables,
  ...mtlsVariables,
  ...passkeysVariables,
  ...selfServiceVariables,
  ...signUpVariables,
  ...protocolVariables,
  ...tlsCipherVariables,
  ...proxiesVariables,
  ...tokenBindingVariables,
  ...operationsVariables,
})

/** The names of all variables that {@link parseConfig} reads. */
export const variableNames = Object.keys(variables.shape)

const known: ReadonlySet<string> = new Set([...variableNames, ...secretFileNames])

type Environment = Readonly<Record<string, string | undefined>>

interface ReadOptions {
  readonly readFile?: (file: string) => string
}

/**
 * Makes the configuration from environment variables. An empty variable counts as unset.
 *
 * @throws {@link ConfigError} with every mistake at once.
 */
export function parseConfig(environment: Environment, options: ReadOptions = {}): Config {
  const { config, problems } = examineVariables(environment, options)
  if (problems.length > 0) throw new ConfigError(problems)
  return config
}

/** What the environment says, mistakes included. */
export interface ExaminedVariables {
  /** Of the variables that are right: one that is wrong counts as unset here. */
  readonly config: Config
  readonly problems: readonly string[]
  /** The value in use of every variable, defaults included; secrets are not in it. */
  readonly shown: Readonly<Record<string, string | undefined>>
}

/** Reads the environment as {@link parseConfig} does, and continues after mistakes. */
export function examineVariables(
  environment: Environment,
  { readFile = readText }: ReadOptions = {},
): ExaminedVariables {
  const { env, problems: fileProblems } = readSecretFiles(environment, readFile)
  const given = Object.fromEntries(
    variableNames.flatMap((name) => (env[name] ? [[name, env[name]]] : [])),
  )
  const roots = readAttestationRoots(env.HOLDFAST_PASSKEY_ATTESTATION_ROOTS_FILE, readFile)
  const issues = variables.safeParse(given).error?.issues ?? []
  const problems = [
    ...issues.map(({ path: [name], message }) => `${String(name)} ${message}.`),
    ...fileProblems,
    ...roots.problems,
    ...misspelt(env),
    ...contradictions(given),
    ...keysContradictions(given),
    ...mailContradictions(given),
    ...mtlsContradictions(given),
    ...passkeysContradictions(given),
    ...protocolContradictions(given),
    ...proxiesContradictions(given),
    ...signUpContradictions(given),
    ...tokenBindingContradictions(given),
    ...operationsContradictions(given),
  ]
  const wrong = new Set(issues.map(({ path: [name] }) => String(name)))
  const { HOLDFAST_ISSUER: issuer, HOLDFAST_TLS } = given
  if (issuer && issuerProblems(issuer, HOLDFAST_TLS === 'off').length > 0) {
    wrong.add('HOLDFAST_ISSUER')
  }
  const right = Object.fromEntries(Object.entries(given).filter(([name]) => !wrong.has(name)))
  const values = variables.parse(right)
  const config = configOf(values, env, roots.roots)
  return { config, problems, shown: shownVariables(config, { ...values, ...right }) }
}

function configOf(
  values: z.output<typeof variables>,
  env: Environment,
  attestationRoots: readonly X509Certificate[],
): Config {
  const origin = `${values.HOLDFAST_TLS === 'on' ? 'https' : 'http'}://localhost:${values.HOLDFAST_PORT}`
  const issuer = values.HOLDFAST_ISSUER ?? origin
  return Object.freeze({
    issuer,
    arrivalPath: values.HOLDFAST_PATH?.replace(/^\/$/, '') ?? pathOfIssuer(issuer),
    listen: { host: values.HOLDFAST_HOST, port: values.HOLDFAST_PORT },
    tls: tlsConfig(values),
    tlsCiphers: values.HOLDFAST_TLS_CIPHERS,
    mail: mailConfig(values),
    mtls: mtlsConfig(values, issuer),
    tokenBinding: values.HOLDFAST_TOKEN_BINDING,
    trustedProxies: values.HOLDFAST_TRUSTED_PROXIES ?? [],
    allowsTlsOffWithoutTrustedProxies:
      values.HOLDFAST_ALLOW_TLS_OFF_WITHOUT_TRUSTED_PROXIES === 'on',
    operations: operationsConfig(values, asksForTraces(env)),
    passkeys: passkeysConfig(values, issuer, attestationRoots),
    protocol: protocolConfig(values),
    selfService: values.HOLDFAST_ACCOUNT_SELF_SERVICE,
    signUp: signUpPolicy(values),
    dataFolder: path.resolve(values.HOLDFAST_DATA),
    databaseUrl: values.DATABASE_URL,
    standby: values.HOLDFAST_DATABASE_STANDBY_URL
      ? {
          url: values.HOLDFAST_DATABASE_STANDBY_URL,
          mostBehindMs: values.HOLDFAST_STANDBY_LAG_SECONDS * 1000,
        }
      : undefined,
    preparedStatements: values.HOLDFAST_PREPARED_STATEMENTS === 'on',
    secret: values.HOLDFAST_SECRET,
    previousSecret: values.HOLDFAST_SECRET_PREVIOUS,
    keys: keysConfig(values),
    dpopNonces: values.HOLDFAST_DPOP_NONCES,
    proofWindowS: values.HOLDFAST_PROOF_WINDOW_SECONDS,
    refreshReuseSeconds: values.HOLDFAST_REFRESH_REUSE_SECONDS,
    keyOverlapHours: values.HOLDFAST_KEY_OVERLAP_HOURS,
    sessionProofLifetime: values.HOLDFAST_SESSION_PROOF_SECONDS,
    pageKey: values.HOLDFAST_PAGE_KEY === 'on',
    sessionRefreshInitiators: values.HOLDFAST_SESSION_REFRESH_INITIATORS,
    logLevel: values.HOLDFAST_LOG_LEVEL,
  })
}

/** Text for each variable, and only that there is one for a secret. */
function shownVariables(
  config: Config,
  values: Readonly<Record<string, unknown>>,
): Readonly<Record<string, string | undefined>> {
  const derived: Record<string, string | undefined> = {
    HOLDFAST_ISSUER: config.issuer,
    HOLDFAST_PATH: config.arrivalPath || '/',
    HOLDFAST_MTLS_ORIGIN: config.mtls.origin,
    HOLDFAST_DATA: config.dataFolder,
    DATABASE_URL: config.databaseUrl && withoutPassword(config.databaseUrl),
    HOLDFAST_DATABASE_STANDBY_URL: config.standby && withoutPassword(config.standby.url),
    HOLDFAST_SMTP_URL: shownSmtpUrl(String(values.HOLDFAST_SMTP_URL ?? '')),
    HOLDFAST_SECRET: config.secret && 'set',
    HOLDFAST_SECRET_PREVIOUS: config.previousSecret && 'set',
  }
  return Object.fromEntries(
    variableNames.map((name) => {
      const value = name in derived ? derived[name] : values[name]
      return [name, value === undefined ? undefined : String(value) || undefined]
    }),
  )
}

function withoutPassword(databaseUrl: string): string {
  const { protocol = '', host = '', pathname = '' } = URL.parse(databaseUrl) ?? {}
  return `${protocol}//${host}${pathname}`
}

function readText(file: string): string {
  return readFileSync(file, 'utf8')
}

function tlsConfig(values: z.output<typeof variables>): TlsConfig {
  if (values.HOLDFAST_TLS === 'off') return { mode: 'off' }
  if (values.HOLDFAST_TLS_CERT_FILE && values.HOLDFAST_TLS_KEY_FILE) {
    return {
      mode: 'files',
      certFile: values.HOLDFAST_TLS_CERT_FILE,
      keyFile: values.HOLDFAST_TLS_KEY_FILE,
    }
  }
  return { mode: 'development' }
}

function isPostgresUrl(text: string): boolean {
  const url = URL.parse(text)
  if (!url || !/^postgres(ql)?:$/.test(url.protocol)) return false
  try {
    for (const part of [url.username, url.password, url.pathname]) decodeURIComponent(part)
  } catch {
    return false
  }
  // An unescaped /, ? or # in the password ends the host early. What follows is then no secret to
  // whatever prints a host and a database name.
  return !text.slice(text.indexOf(url.host) + url.host.length).includes('@')
}

/** A security setting with a typing mistake in its name must not be silently off. */
function misspelt(env: Environment): string[] {
  return Object.keys(env)
    .filter((name) => name.startsWith('HOLDFAST_') && !known.has(name))
    .map((name) => `${name} is not a variable that Holdfast knows.`)
}

function contradictions(given: Environment): string[] {
  const problems: string[] = []
  const { HOLDFAST_TLS_CERT_FILE: cert, HOLDFAST_TLS_KEY_FILE: key } = given
  if (Boolean(cert) !== Boolean(key)) {
    const [there, missing] = cert
      ? ['HOLDFAST_TLS_CERT_FILE', 'HOLDFAST_TLS_KEY_FILE']
      : ['HOLDFAST_TLS_KEY_FILE', 'HOLDFAST_TLS_CERT_FILE']
    problems.push(`${missing} is missing: it belongs to ${there}.`)
  }
  if (given.HOLDFAST_DATABASE_STANDBY_URL && !given.DATABASE_URL) {
    problems.push('DATABASE_URL is missing: HOLDFAST_DATABASE_STANDBY_URL is a standby of it.')
  }
  if (given.HOLDFAST_TLS === 'off' && (cert || key)) {
    problems.push('HOLDFAST_TLS is off, and a TLS certificate or key file is set: choose one.')
  }
  if (given.HOLDFAST_ISSUER !== undefined) {
    problems.push(...issuerProblems(given.HOLDFAST_ISSUER, given.HOLDFAST_TLS === 'off'))
  }
  return problems
}

function issuerProblems(issuer: string, tlsOff: boolean): string[] {
  const url = URL.parse(issuer)
  if (!url || !/^https?:$/.test(url.protocol)) {
    return ['HOLDFAST_ISSUER must be a URL such as https://id.example.com.']
  }
  // RFC 8414 section 2: no query or fragment. Clients compare the issuer as text.
  const path = issuer.slice(url.origin.length)
  if (!issuer.startsWith(url.origin) || !(path === '' || isPath(path))) {
    const plain = pathOfIssuer(url.href)
    return [
      'HOLDFAST_ISSUER must be an origin, perhaps with a path of letters, digits, - and _, and ' +
        `without query or final slash: ${url.origin}${isPath(plain) ? plain : ''}.`,
    ]
  }
  if (url.protocol === 'http:' && !isLoopback(url)) {
    return ['HOLDFAST_ISSUER must be https (RFC 8414 section 2); http is for loopback only.']
  }
  if (url.protocol === 'http:' && !tlsOff) {
    return [
      'HOLDFAST_ISSUER is http while HOLDFAST_TLS is on: set HOLDFAST_TLS=off for plain HTTP.',
    ]
  }
  return []
}
