/*
 * The token endpoint of Holdfast beside stock oidc-provider with its memory adapter and with a
 * plain knex adapter. All three ask for DPoP and sign ES256 access tokens; each runs in a process
 * of its own, on one PostgreSQL that keeps every commit, and they take turns in short rounds. Requests
 * are signed before a round begins. The ratios of a round are those of neighbours, and what is
 * printed are medians over the rounds: they hold on a machine that others use as well. As many
 * rounds are made as there is time for: a run takes 12 minutes at most, and a quick one 2. Beside
 * them runs what is written by hand for the same (by-hand.ts). The floors are those of result.ts;
 * the exit code is 1 when one of them does not hold.
 *
 * npm run bench:token -- [--json] [--quick]
 */
import { parseArgs } from 'node:util'
import pg from 'pg'
import { drawProgressOn, showProgress } from '../../../src/commands/progress.ts'
import { freePort } from '../../../src/net/free-port.ts'
import { openBenchDatabase } from '../database.ts'
import { type CandidateProcess, startCandidate } from './candidate-process.ts'
import { makeKeys } from './load.ts'
import {
  type Bench,
  cells,
  countRoundTrips,
  measure,
  raceOneProof,
  raceOneRefreshToken,
  type Sample,
} from './measure.ts'
import { openPostgresMeter } from './postgres-cpu.ts'
import { report } from './report.ts'
import { judge } from './result.ts'
import { canDo, isMeasuredAlone, nameOf, type Peer, peers, ways } from './scenario.ts'

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
  },
})
/** Rounds at most; those that begin after so many seconds are left out, but for the first ones. */
const { rounds, leastRounds, seconds } = values.quick
  ? { rounds: 3, leastRounds: 1, seconds: 80 }
  : { rounds: 9, leastRounds: 3, seconds: 540 }
/** Requests of one round, by concurrency. */
const requests = values.quick ? { 1: 40, 16: 96 } : { 1: 100, 16: 320 }

drawProgressOn(values.json ? undefined : process.stderr)
using progress = showProgress()
progress.report('Starting the candidates', 0, 0)

await using opened = new AsyncDisposableStack()
const { connectionString } = opened.use(await openBenchDatabase())

const key = await makeKeys()
const candidates: CandidateProcess[] = []
for (const peer of peers) {
  const options = {
    databaseUrl: await createDatabase(peer),
    port: await freePort(),
    clientKeys: key.public,
  }
  candidates.push(opened.use(await startCandidate(peer, options)))
}
const [holdfast] = candidates as [CandidateProcess]
const bench: Bench = { key, postgres: opened.use(await openPostgresMeter(connectionString)) }

const races: Record<string, number> = {}
const roundTrips: Record<string, number> = {}
progress.report('Warming up', 0, 0)
// Until what is often run is compiled: a server is measured, and not its start.
const warmUp = values.quick ? 96 : 400
for (const cell of cells) {
  for (const candidate of candidates) {
    if (cell.concurrency === 1 || !canDo(candidate.peer, cell)) continue
    await measure(candidate, bench, cell, warmUp)
  }
}
for (const way of ways) {
  roundTrips[nameOf(way)] = await countRoundTrips(holdfast, bench, way)
  if (!isMeasuredAlone(way)) continue
  races[`one_proof_${nameOf(way)}`] = await raceOneProof(holdfast, bench, way)
  if (way.grant !== 'refresh_token') continue
  races[`one_refresh_token_${way.method}`] = await raceOneRefreshToken(holdfast, bench, way)
}

const samples: Record<Peer, Sample[]> = { holdfast: [], knex: [], memory: [], hand: [] }
const inTime = () => performance.now() < seconds * 1000
for (let round = 0; round < rounds && (round < leastRounds || inTime()); round += 1) {
  progress.report(`Round ${round + 1} of ${rounds}`, round, rounds)
  for (const cell of cells) {
    for (const candidate of candidates) {
      if (!canDo(candidate.peer, cell)) continue
      const count = requests[cell.concurrency]
      samples[candidate.peer].push(await measure(candidate, bench, cell, count))
    }
    // Who goes first pays for what the one before it left behind: they take turns in that, too.
    candidates.push(candidates.shift() as CandidateProcess)
  }
}
progress.rest()
const { peakMemory } = await holdfast.usage()
const measured = { samples, roundTrips, races, peakMemory }
const result = judge(measured)
console.log(values.json ? JSON.stringify(result) : report(measured, result))
process.exitCode = result.failed === 0 ? 0 : 1

async function createDatabase(name: string): Promise<string> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  await client.query(`create database ${name}`)
  await client.end()
  const url = new URL(connectionString)
  url.pathname = `/${name}`
  return url.href
}
