/*
 * Ten thousand hostile requests a minute from one address, beside a normal load: what they cost the
 * others, the database, the log and the memory of one server. The server is started by the command
 * line of a checkout, so that a release can be measured beside another, on a PostgreSQL of its own
 * that keeps every commit. Both loads run in processes of their own. Linux only.
 *
 * npm run bench:hostile -- [--checkout DIR] [--minutes 1] [--only KIND]... [--json]
 *
 * --minutes is the length of the hostile phase, to which the others keep their proportion, and
 * --only makes all hostile requests of one kind, or of some: see kinds.ts.
 */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { drawProgressOn, showProgress } from '../../../src/commands/progress.ts'
import { openBenchDatabase } from '../database.ts'
import { type HostileReport, type NormalReport, startChild } from './child.ts'
import { type Kind, kinds } from './kinds.ts'
import { startRelease } from './release.ts'
import { type PhaseUsage, type Result, report } from './report.ts'
import { openMeter, residentBytes } from './usage.ts'

const { values } = parseArgs({
  options: {
    checkout: { type: 'string', default: fileURLToPath(new URL('../../../', import.meta.url)) },
    minutes: { type: 'string', default: '1' },
    only: { type: 'string', multiple: true },
    json: { type: 'boolean', default: false },
  },
})
const minutes = Number(values.minutes)
if (!(minutes > 0 && minutes <= 60)) throw new Error('--minutes is more than 0 and at most 60')
const unknown = values.only?.find((name) => !kinds.includes(name as Kind))
if (unknown) throw new Error(`--only is one of ${kinds.join(', ')}, and not ${unknown}`)
const checkout = path.resolve(values.checkout)

/** Seconds, for one minute. */
const phases = { 'warm-up': 10, normal: 20, hostile: 60, recovery: 10 }

drawProgressOn(values.json ? undefined : process.stderr)
using progress = showProgress()
progress.report('Starting the server', 0, 0)

await using opened = new AsyncDisposableStack()
const { folder, connectionString: databaseUrl } = opened.use(await openBenchDatabase())
const logFile = path.join(folder, 'log')
const release = opened.use(await startRelease({ checkout, databaseUrl, folder, logFile }))
const { target, pid } = release
const meter = opened.use(await openMeter({ databaseUrl, pid, logFile }))
const normal = opened.use(await startChild<Record<string, NormalReport>>('normal.ts', target))
const hostile = opened.use(
  await startChild<HostileReport>('hostile.ts', target, values.only ?? kinds),
)

const measured: PhaseUsage[] = []
let hostileReport: HostileReport = { answers: {}, unanswered: 0, closed: 0 }
for (const [phase, share] of Object.entries(phases)) {
  normal.begin(phase)
  if (phase === 'hostile') hostile.begin(phase)
  measured.push(await pass(phase, share * minutes * 1000))
  if (phase === 'hostile') hostileReport = await hostile.report()
}
const result: Result = {
  checkout,
  phases: measured,
  normal: await normal.report(),
  hostile: hostileReport,
  ended: release.ended() && `${release.ended()}. ${await lastLines()}`,
}
console.log(values.json ? JSON.stringify(result) : report(result))

/** Lets a phase pass, or end with the server. */
async function pass(phase: string, lengthMs: number): Promise<PhaseUsage> {
  const before = await meter.look()
  const started = performance.now()
  const elapsedMs = () => performance.now() - started
  let mostRssBytes = before.rssBytes
  while (elapsedMs() < lengthMs && release.ended() === undefined) {
    progress.report(phase, Math.round((elapsedMs() / lengthMs) * 100), 100)
    await setTimeout(Math.min(250, lengthMs))
    mostRssBytes = Math.max(mostRssBytes, (await residentBytes(pid)) || 0)
  }
  return { phase, seconds: elapsedMs() / 1000, before, after: await meter.look(), mostRssBytes }
}

/** What a process writes when it runs out of memory, or the last that it wrote. */
async function lastLines(): Promise<string> {
  const lines = (await readFile(logFile, 'utf8')).trim().split('\n')
  return (lines.find((line) => line.includes('FATAL')) ?? lines.at(-1) ?? '').slice(0, 300)
}
