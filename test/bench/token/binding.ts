/*
 * What it costs to bind tokens: grants with a DPoP proof beside grants of bearer tokens, by one
 * server, in turns. The CPU is that of the server and of PostgreSQL.
 *
 * npm run bench:binding
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import pg from 'pg'
import { asTable } from '../../../src/commands/table.ts'
import { freePort } from '../../../src/net/free-port.ts'
import { startEmbeddedPostgres } from '../../../src/storage/embedded-postgres.ts'
import { startCandidate } from './candidate-process.ts'
import { makeKey } from './load.ts'
import { measure, median } from './measure.ts'
import { openPostgresMeter } from './postgres-cpu.ts'
import { grants } from './scenario.ts'

const rounds = 9
const requests = 480
const concurrency = 16

await using opened = new AsyncDisposableStack()
const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-bench-'))
opened.defer(() => rm(folder, { recursive: true, force: true }))
// Root's PostgreSQL runs as another user, who must get in.
await chmod(folder, 0o755)
const { connectionString } = opened.use(await startEmbeddedPostgres({ folder }))
const client = new pg.Client({ connectionString })
await client.connect()
await client.query('create database holdfast')
await client.end()
const url = new URL(connectionString)
url.pathname = '/holdfast'

const key = makeKey()
const options = { databaseUrl: url.href, port: await freePort(), clientJwk: key.jwk }
const candidate = opened.use(await startCandidate('holdfast', options))
const bench = { key, postgres: opened.use(await openPostgresMeter(connectionString)) }

const methods = ['basic', 'bearer'] as const
const cells = grants.flatMap((grant) => methods.map((method) => ({ grant, method, concurrency })))
for (const cell of cells) await measure(candidate, bench, cell, 1500)

const cpu = new Map(cells.map((cell) => [cell, [] as number[]]))
for (let round = 0; round < rounds; round += 1) {
  for (const cell of cells) {
    const { nodeCpu, postgresCpu, failures } = await measure(candidate, bench, cell, requests)
    if (failures > 0) throw new Error(`${failures} requests failed`)
    cpu.get(cell)?.push(nodeCpu + postgresCpu)
  }
}

const rows = grants.map((grant) => {
  const of = (method: string) =>
    [...cpu].find(([cell]) => cell.grant === grant && cell.method === method)?.[1] ?? []
  const [bound, bearer] = [of('basic'), of('bearer')]
  const ratio = median(bound.map((each, round) => each / (bearer[round] ?? Number.NaN)))
  return [grant, median(bound).toFixed(0), median(bearer).toFixed(0), `${ratio.toFixed(2)}×`]
})
console.log(asTable(['grant', 'with DPoP, µs', 'bearer, µs', 'ratio'], rows))
