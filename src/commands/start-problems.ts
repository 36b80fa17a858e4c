import { once } from 'node:events'
import { access, constants } from 'node:fs/promises'
import { createServer } from 'node:net'
import path from 'node:path'
import { isAvailable } from '@holdfast/token-binding-tls'
import { CertificateFileError } from '../certificates/certificate-file-error.ts'
import { loadClientAuthorities } from '../certificates/client-authorities.ts'
import type { Config } from '../config/config.ts'
import { authorityFiles } from '../config/mtls-config.ts'
import { isSecretMade, readOrMakeSecret } from '../config/secret.ts'
import { readCertificate } from '../http/listen.ts'
import { openDatabase } from '../storage/database.ts'
import { requireCurrentSchema } from '../storage/migrate.ts'
import { StorageError } from '../storage/storage-error.ts'
import { CommandError, explain } from './command.ts'

/**
 * What would keep a server with this configuration from starting here: files, ports, the database.
 * Looks, and changes nothing. Returns all problems, as sentences.
 */
export async function startProblems(config: Config): Promise<string[]> {
  const problems: string[] = []
  // In turn: a port that one check has opened would be in use for the next.
  for (const check of [certificates, authorities, tokenBinding, dataFolder, database]) {
    problems.push(...(await problemsOf(() => check(config))))
  }
  const { listen, mtls, operations } = config
  for (const [name, host, port] of [
    ['HOLDFAST_PORT', listen.host, listen.port],
    ['HOLDFAST_MTLS_PORT', listen.host, mtls.port],
    ['HOLDFAST_METRICS', operations.metrics?.host, operations.metrics?.port],
  ] as const) {
    if (port) problems.push(...(await problemsOf(() => tryPort(name, host ?? '', port))))
  }
  return problems
}

async function problemsOf(check: () => Promise<void>): Promise<string[]> {
  try {
    await check()
    return []
  } catch (error) {
    const sentence = explain(error)
    if (sentence === undefined) throw error
    return sentence.split('\n')
  }
}

async function certificates({ tls }: Config): Promise<void> {
  if (tls.mode === 'files') await readCertificate(tls)
}

async function authorities({ mtls }: Config): Promise<void> {
  const files = authorityFiles(mtls)
  if (!files) return
  try {
    await loadClientAuthorities(files)
  } catch (error) {
    if (!(error instanceof CertificateFileError)) throw error
    const { revocationFile } = files
    const isList = revocationFile !== undefined && error.message.startsWith(revocationFile)
    const variable = isList ? 'HOLDFAST_CLIENT_CRL_FILE' : 'HOLDFAST_CLIENT_CA_FILE'
    throw new CommandError(`${variable}: ${error.message}`, { cause: error })
  }
}

async function tokenBinding({ tokenBinding: mode }: Config): Promise<void> {
  if ((mode === 'tls' || mode === 'tls13-draft') && !isAvailable()) {
    throw new CommandError(
      `HOLDFAST_TOKEN_BINDING is ${mode}, and its native part is missing: build it by "npm run build:native".`,
    )
  }
}

async function dataFolder({ dataFolder: folder, databaseUrl, secret, tls }: Config): Promise<void> {
  if (databaseUrl && secret && tls.mode !== 'development') return
  const code = await unwritable(folder)
  if (code) throw new CommandError(`HOLDFAST_DATA cannot be written (${code}): ${folder}.`)
  if (secret === undefined && isSecretMade({ secret, dataFolder: folder })) {
    await readOrMakeSecret(folder)
  }
}

/** The error code of a folder that cannot be written, or cannot be made in the folder above it. */
async function unwritable(folder: string): Promise<string | undefined> {
  try {
    await access(folder, constants.W_OK)
    return undefined
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    return code === 'ENOENT' ? unwritable(path.dirname(folder)) : (code ?? 'unknown')
  }
}

/** Milliseconds. */
const connectionPatienceMs = 5_000

async function database({ databaseUrl, preparedStatements }: Config): Promise<void> {
  if (databaseUrl === undefined) return
  await using opened = await openDatabase(databaseUrl, {
    onError: () => {},
    poolSize: 1,
    connectionTimeout: connectionPatienceMs,
    preparedStatements,
  })
  try {
    await requireCurrentSchema(opened)
  } catch (error) {
    // `serve` migrates it.
    if (!(error instanceof StorageError) || error.code !== 'schema_older') throw error
  }
}

async function tryPort(variable: string, host: string, port: number): Promise<void> {
  const server = createServer()
  server.listen(port, host)
  try {
    await once(server, 'listening')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new CommandError(
      code === 'EADDRINUSE'
        ? `${variable}: port ${port} on ${host} is in use. Stop what uses it (a running Holdfast?), or choose another.`
        : `${variable}: cannot listen on port ${port} of ${host} (${code}).`,
    )
  }
  const closed = once(server, 'close')
  server.close()
  await closed
}
