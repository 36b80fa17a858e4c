/*
 * More than one server can do: 800 connections that ask for tokens without a pause, and 80 that begin
 * to sign in, all opened at once. The server is started by the command line, on a PostgreSQL of its
 * own that keeps every commit; what sends the load are processes of their own. Eight connections
 * before it and right after it show what is normal. The floors are those of result.ts; the exit code
 * is 1 when one of them does not hold. It takes about 40 seconds. Linux only.
 *
 * npm run bench:overload -- [--checkout DIR] [--json]
 */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { drawProgressOn, showProgress } from '../../../src/commands/progress.ts'
import { openBenchDatabase } from '../database.ts'
import { startChild } from '../hostile/child.ts'
import { startRelease } from '../hostile/release.ts'
import { watchHealth } from './health.ts'
import { report } from './report.ts'
import { judge, type LoadReport, type LoadSize, type Result } from './result.ts'

const { values } = parseArgs({
  options: {
    checkout: { type: 'string', default: fileURLToPath(new URL('../../../', import.meta.url)) },
    json: { type: 'boolean', default: false },
  },
})

const normal: LoadSize = { tokens: 8, 'sign-ins': 0 }
const overload: LoadSize = { tokens: 800, 'sign-ins': 80 }

drawProgressOn(values.json ? undefined : process.stderr)
using progress = showProgress()
progress.report('Starting the server', 0, 0)

await using opened = new AsyncDisposableStack()
const { folder, connectionString: databaseUrl } = opened.use(await openBenchDatabase())
const { target, ended } = opened.use(
  await startRelease({
    checkout: path.resolve(values.checkout),
    databaseUrl,
    folder,
    logFile: path.join(folder, 'log'),
  }),
)

await using steady = await startChild<LoadReport>('../overload/load.ts', target, normal)
await using crowd = await startChild<LoadReport>('../overload/load.ts', target, overload)
await using again = await startChild<LoadReport>('../overload/load.ts', target, normal)

const before = await pass('before', steady, 5)
const droppedBefore = await droppedByKernel()
const health = watchHealth(target.issuer)
const during = await pass('overload', crowd, 20)
const result: Result = {
  health: await health(),
  dropped: (await droppedByKernel()) - droppedBefore,
  phases: { before, overload: during, after: await pass('after', again, 5) },
}
console.log(values.json ? JSON.stringify({ ...result, floors: judge(result) }) : report(result))
if (!Object.values(judge(result)).every(Boolean)) process.exitCode = 1

/** Lets a load run for a time. */
async function pass(phase: string, load: typeof steady, seconds: number): Promise<LoadReport> {
  load.begin(phase)
  for (let second = 0; second < seconds; second += 1) {
    progress.report(phase, second, seconds)
    await setTimeout(1000)
    if (ended() !== undefined) throw new Error(`the server has ended: ${ended()}`)
  }
  return load.report()
}

/** Connections of this machine that were dropped because too many waited: proc(5)'s netstat. */
async function droppedByKernel(): Promise<number> {
  const [names = '', counts = ''] = (await readFile('/proc/net/netstat', 'utf8')).split('\n')
  return Number(counts.split(' ')[names.split(' ').indexOf('ListenDrops')])
}
