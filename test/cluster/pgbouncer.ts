import { execFileSync } from 'node:child_process'
import { chown, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { freePort } from '../../src/net/free-port.ts'
import { startProgram } from '../support/program.ts'
import { query } from '../support/query.ts'
import { ordinaryUser } from '../support/system-postgres.ts'
import { until } from '../support/until.ts'
import { fillTemplate, password } from './patroni.ts'

export interface Pooler extends AsyncDisposable {
  readonly version: string
  /** Whether it follows named statements from one server connection to another. */
  readonly followsStatements: boolean
  url(database: string): string
}

/** Starts PgBouncer in transaction mode, by the file of docker/cluster/. */
export async function startPgbouncer(
  program: string,
  { folder, primary }: { folder: string; primary: string },
): Promise<Pooler> {
  const [, version = ''] =
    /(\d+\.\d+)/.exec(execFileSync(program, ['-V'], { encoding: 'utf8' })) ?? []
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const followsStatements = major > 1 || minor >= 21
  const [host = '', primaryPort = ''] = primary.split(':')
  const port = await freePort()
  const users = path.join(folder, 'pgbouncer-users.txt')
  const file = path.join(folder, 'pgbouncer.ini')
  const filled = await fillTemplate('pgbouncer.ini.template', {
    PRIMARY_HOST: host,
    PRIMARY_PORT: primaryPort,
    LISTEN_HOST: '127.0.0.1',
    LISTEN_PORT: port,
    AUTH_FILE: users,
  })
  const known = followsStatements ? filled : filled.replace(/^max_prepared_statements.*\n/m, '')
  await writeFile(users, `"holdfast" "${password}"\n`, { mode: 0o600 })
  await writeFile(file, known)
  // Like PostgreSQL it does not run as root.
  const user = ordinaryUser()
  if (user.uid !== undefined && user.gid !== undefined) await chown(users, user.uid, user.gid)
  const log = path.join(folder, 'pgbouncer.log')
  const running = startProgram(program, [file], { folder, log, user })
  const url = (database: string) =>
    `postgresql://holdfast:${password}@127.0.0.1:${port}/${database}`
  await until(() => query(url('holdfast'), 'select 1').then(Boolean, () => false))
  return {
    version,
    followsStatements,
    url,
    [Symbol.asyncDispose]: () => running[Symbol.asyncDispose](),
  }
}
