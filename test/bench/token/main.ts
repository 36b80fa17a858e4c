/*
 * The token endpoint of Holdfast beside stock oidc-provider with its memory adapter and with a
 * plain knex adapter. All three ask for DPoP and sign ES256 access tokens; each runs in a process
 * of its own, on one PostgreSQL that keeps every commit, and they take turns in short rounds. Requests
 * are signed before a round begins. The ratios of a round are those of neighbours, and what is
 * printed are medians over the rounds: they hold on a machine that others use as well.
 *
 * npm run bench:token -- [--json] [--quick]
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { drawProgressOn, showProgress } from '../../../src/commands/progress.ts'
import { freePort } from '../../../src/net/free-port.ts'
import { startEmbeddedPostgres } from '../../../src/storage/embedded-postgres.ts'
import { type CandidateProcess, startCandidate } from './candidate-process.ts'
import { makeKey } from './load.ts'
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
import { grants, methods, type Peer, peers } from './scenario.ts'

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
  },
})
const rounds = values.quick ? 3 : 9
/** Requests of one round, by concurrency. */
const requests = values.quick ? { 1: 60, 16: 240 } : { 1: 120, 16: 480 }

drawProgressOn(values.json ? undefined : process.stderr)
using progress = showProgress()
progress.report('Starting the candidates', 0, 0)

await using opened = new AsyncDisposableStack()
const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-bench-'))
opened.defer(() => rm(folder, { recursive: true, force: true }))
// Root's PostgreSQL runs as another user, who must get in.
await chmod(folder, 0o755)
const { connectionString } = opened.use(await startEmbeddedPostgres({ folder }))

const key = makeKey()
const candidates: CandidateProcess[] = []
for (const peer of peers) {
  const options = {
    databaseUrl: await createDatabase(peer),
    port: await freePort(),
    clientJwk: key.jwk,
  }
  candidates.push(opened.use(await startCandidate(peer, options)))
}
const [holdfast] = candidates as [CandidateProcess]
const bench: Bench = { key, postgres: opened.use(await openPostgresMeter(connectionString)) }

const races: Record<string, number> = {}
const roundTrips: Record<string, number> = {}
progress.report('Warming up', 0, 0)
// Until what is often run is compiled: a server is measured, and not its start.
const warmUp = values.quick ? 400 : 1500
for (const cell of cells) {
  for (const candidate of candidates) {
    await measure(candidate, bench, cell, Math.ceil((warmUp * cell.concurrency) / 16))
  }
}
for (const method of methods) {
  for (const grant of grants) {
    const name = `${grant}_${method}`
    roundTrips[name] = await countRoundTrips(holdfast, bench, { grant, method })
    races[`one_proof_${name}`] = await raceOneProof(holdfast, bench, { grant, method })
  }
  races[`one_refresh_token_${method}`] = await raceOneRefreshToken(holdfast, bench, method)
}

const samples: Record<Peer, Sample[]> = { holdfast: [], knex: [], memory: [] }
for (let round = 0; round < rounds; round += 1) {
  progress.report(`Round ${round + 1} of ${rounds}`, round, rounds)
  for (const cell of cells) {
    for (const candidate of candidates) {
      const count = requests[cell.concurrency as keyof typeof requests]
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
