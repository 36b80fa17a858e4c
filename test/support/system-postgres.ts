import { execFile, execFileSync } from 'node:child_process'
import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { freePort } from '../../src/http/free-port.ts'

const run = promisify(execFile)
const installed = '/usr/lib/postgresql'

/** The folder of the programs of a PostgreSQL of the system, with pg_dump; undefined without one. */
export async function systemPostgres(): Promise<string | undefined> {
  const versions = await readdir(installed).catch(() => [])
  const newest = versions.filter((name) => Number(name) >= 15).sort()
  const [name] = newest.slice(-1)
  return name && path.join(installed, name, 'bin')
}

export interface SystemPostgres extends AsyncDisposable {
  url(database: string): string
  /** Runs a program of PostgreSQL against it. */
  run(program: string, ...args: string[]): Promise<unknown>
}

export async function startSystemPostgres(binaries: string): Promise<SystemPostgres> {
  const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-postgres-'))
  await chmod(folder, 0o777)
  const data = path.join(folder, 'data')
  const port = await freePort()
  // PostgreSQL refuses to run as root.
  const isRoot = process.getuid?.() === 0
  const id = (flag: string) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }))
  const as = isRoot ? { uid: id('-u'), gid: id('-g') } : {}
  const program = (name: string, ...args: string[]) =>
    run(path.join(binaries, name), args, { cwd: folder, ...as })
  await program('initdb', '-D', data, '-U', 'holdfast', '--auth=trust', '--no-sync')
  const options = `-p ${port} -k ${folder} -c fsync=off`
  await program('pg_ctl', 'start', '-D', data, '-w', '-o', options, '-l', path.join(folder, 'log'))
  const url = (database: string) => `postgresql://holdfast@127.0.0.1:${port}/${database}`
  return {
    url,
    run: program,
    async [Symbol.asyncDispose]() {
      await program('pg_ctl', 'stop', '-D', data, '-m', 'immediate', '-w')
      await rm(folder, { recursive: true, force: true })
    },
  }
}
