/*
 * What it costs to bind tokens: grants with a DPoP proof beside grants of bearer tokens, by one
 * server, in turns. The CPU is that of the server and of PostgreSQL.
 *
 * npm run bench:binding
 */
import pg from 'pg'
import { asTable } from '../../../src/commands/table.ts'
import { freePort } from '../../../src/net/free-port.ts'
import { openBenchDatabase } from '../database.ts'
import { startCandidate } from './candidate-process.ts'
import { makeKeys } from './load.ts'
import { type Cell, measure, median } from './measure.ts'
import { openPostgresMeter } from './postgres-cpu.ts'
import { bindings, type Grant, grants } from './scenario.ts'

const rounds = 9
const requests = 480

await using opened = new AsyncDisposableStack()
const { connectionString } = opened.use(await openBenchDatabase())
const client = new pg.Client({ connectionString })
await client.connect()
await client.query('create database holdfast')
await client.end()
const url = new URL(connectionString)
url.pathname = '/holdfast'

const key = await makeKeys()
const options = { databaseUrl: url.href, port: await freePort(), clientKeys: key.public }
const candidate = opened.use(await startCandidate('holdfast', options))
const bench = { key, postgres: opened.use(await openPostgresMeter(connectionString)) }

const bound = grants.filter((grant) => grant !== 'introspection')
const method = 'client_secret_basic'
// By a certificate the client authenticates as well: its registered one, which needs no secret.
const cells: Cell[] = bound.flatMap((grant) =>
  bindings.map((binding) => ({
    grant,
    method: binding === 'mtls' ? 'self_signed_tls_client_auth' : method,
    binding,
    concurrency: 16,
  })),
)
for (const cell of cells) await measure(candidate, bench, cell, 800)

const cpu = new Map(cells.map((cell) => [cell, [] as number[]]))
for (let round = 0; round < rounds; round += 1) {
  for (const cell of cells) {
    const { nodeCpu, postgresCpu, failures } = await measure(candidate, bench, cell, requests)
    if (failures > 0) throw new Error(`${failures} requests failed`)
    cpu.get(cell)?.push(nodeCpu + postgresCpu)
  }
}

const rows = bound.map((grant) => {
  const [dpop, bearer, mtls] = [of(grant, 'dpop'), of(grant, 'none'), of(grant, 'mtls')]
  const costs = [dpop, mtls, bearer].map((each) => median(each).toFixed(0))
  const ratios = [dpop, mtls].map((each) => {
    const ratio = median(each.map((value, round) => value / (bearer[round] ?? Number.NaN)))
    return `${ratio.toFixed(2)}×`
  })
  return [grant, ...costs, ...ratios]
})
const columns = ['grant', 'DPoP, µs', 'certificate, µs', 'bearer, µs', 'DPoP', 'certificate']
console.log(asTable(columns, rows))

function of(grant: Grant, binding: Cell['binding']): number[] {
  return [...cpu].find(([cell]) => cell.grant === grant && cell.binding === binding)?.[1] ?? []
}
