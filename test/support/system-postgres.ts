import { execFile, execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import type { TestFn } from 'ava'
import { freePort } from '../../src/net/free-port.ts'

const run = promisify(execFile)
const installed = '/usr/lib/postgresql'

/** The folder of the programs of the newest PostgreSQL of the system; undefined without one. */
export function findPrograms(): string | undefined {
  if (!existsSync(installed)) return undefined
  return readdirSync(installed)
    .filter((version) => Number(version) >= 15)
    .sort((a, b) => Number(b) - Number(a))
    .map((version) => path.join(installed, version, 'bin'))
    .find((folder) => existsSync(path.join(folder, 'initdb')))
}

/**
 * Runs tests where PostgreSQL's own programs are installed: the embedded one comes without pg_dump
 * and pg_basebackup. Elsewhere they are skipped loudly, and in CI they fail.
 */
export function testWithPostgres<Context>(
  test: TestFn<Context>,
): TestFn<Context> | TestFn<Context>['skip'] {
  if (findPrograms()) return test
  const message =
    'PostgreSQL 15 or newer is not installed: its tests are skipped (apt-get install postgresql)'
  if (process.env.CI) throw new Error(message)
  process.stderr.write(`\n!!! ${message}\n\n`)
  return test.skip
}

/** How PostgreSQL stops: `fast` ends connections and writes everything; `immediate` is a crash. */
export type StopMode = 'fast' | 'immediate'

export interface SystemPostgres extends AsyncDisposable {
  readonly port: number
  url(database: string): string
  /** Runs a program of PostgreSQL against it. */
  run(program: string, ...args: string[]): Promise<unknown>
  stop(mode: StopMode): Promise<void>
  /** Starts again what was stopped, at the same port. */
  start(): Promise<void>
  /** Makes a standby of it, which streams from `port` and begins as a copy of all there is. */
  makeStandby(options: { port: number; name: string }): Promise<SystemPostgres>
  /** Makes a primary of a standby. */
  promote(): Promise<void>
}

/**
 * A cluster of its own, without a password. It survives a crash of PostgreSQL and not one of the
 * machine: nothing is forced to disk.
 */
export async function startSystemPostgres({ diskMb }: { diskMb?: number } = {}) {
  await using opened = new AsyncDisposableStack()
  const place = await mkdtemp(path.join(tmpdir(), 'holdfast-postgres-'))
  opened.defer(() => rm(place, { recursive: true, force: true }))
  if (diskMb !== undefined) opened.use(mountDisk(place, diskMb))
  await chmod(place, 0o777)
  const folder = path.join(place, 'cluster')
  await mkdir(folder)
  await chmod(folder, 0o777)
  await execute(folder, 'initdb', '-D', data(folder), '-U', 'holdfast', '--auth=trust', '--no-sync')
  const cluster = opened.use(await startCluster(folder))
  const open = opened.move()
  return { ...cluster, folder, [Symbol.asyncDispose]: () => open.disposeAsync() }
}

/** A disk of its own in memory, as root can mount one. */
function mountDisk(folder: string, sizeMb: number): Disposable {
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeMb}m`, 'tmpfs', folder])
  return { [Symbol.dispose]: () => void execFileSync('umount', [folder]) }
}

/** Whether this process may mount a disk; where not, it says that tests are skipped. */
export function canMountDisk(): boolean {
  const folder = mkdtempSync(path.join(tmpdir(), 'holdfast-disk-'))
  try {
    using _disk = mountDisk(folder, 1)
    return true
  } catch {
    process.stderr.write('\n!!! no disk can be mounted here: tests of a full disk are skipped\n\n')
    return false
  } finally {
    rmSync(folder, { recursive: true })
  }
}

const data = (folder: string) => path.join(folder, 'data')

/** PostgreSQL refuses to run as root. */
export function ordinaryUser(): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {}
  const id = (flag: string) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }))
  return { uid: id('-u'), gid: id('-g') }
}

function execute(folder: string, program: string, ...args: string[]): Promise<unknown> {
  const programs = findPrograms() ?? ''
  return run(path.join(programs, program), args, { cwd: folder, ...ordinaryUser() })
}

async function startCluster(folder: string): Promise<SystemPostgres> {
  const port = await freePort()
  const program = (name: string, ...args: string[]) => execute(folder, name, ...args)
  const control = (...args: string[]) => program('pg_ctl', '-D', data(folder), '-w', ...args)
  let running = false
  const cluster: SystemPostgres = {
    port,
    url: (database) => `postgresql://holdfast@127.0.0.1:${port}/${database}`,
    run: program,
    async stop(mode) {
      await control('stop', '-m', mode)
      running = false
    },
    async start() {
      const options = `-p ${port} -k ${folder} -c fsync=off -c max_connections=200`
      await control('start', '-o', options, '-l', path.join(folder, 'log'))
      running = true
    },
    async makeStandby({ port, name }) {
      const copy = await mkdtemp(path.join(tmpdir(), 'holdfast-standby-'))
      await chmod(copy, 0o777)
      const from = `host=127.0.0.1 port=${port} user=holdfast application_name=${name}`
      // -R writes where to stream from, and that it is a standby.
      await execute(copy, 'pg_basebackup', '-D', data(copy), '-d', from, '-R', '-c', 'fast', '-N')
      return startCluster(copy)
    },
    async promote() {
      await control('promote')
    },
    async [Symbol.asyncDispose]() {
      if (running) await control('stop', '-m', 'immediate')
      await rm(folder, { recursive: true, force: true })
    },
  }
  await cluster.start()
  return cluster
}
