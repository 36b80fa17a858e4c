/*
 * What an installation needs, by what it does: statements, rows, bytes, WAL and CPU of each operation,
 * measured on one node with a PostgreSQL that keeps every commit and has rows already, and from them
 * what 10,000 to 100,000,000 people need who do what model.ts says. Large numbers are products: nothing
 * was run at that size. Each operation is measured right after a checkpoint, when the WAL has most whole
 * pages. The exit code is 1 when a request failed. It takes a few minutes, most of them
 * for sign-ins and pauses.
 *
 * npm run bench:capacity -- [--short] [--json]
 */
import { parseArgs } from 'node:util'
import pg from 'pg'
import { drawProgressOn, showProgress } from '../../../src/commands/progress.ts'
import { createPerson, newKey, obtainCode, post } from '../../support/flow.ts'
import { openBenchDatabase } from '../database.ts'
import { fill, settle } from '../growth/rows.ts'
import { startServingNode } from '../serving-node.ts'
import { makeKeys } from '../token/load.ts'
import { type Cell, measure } from '../token/measure.ts'
import { openPostgresMeter } from '../token/postgres-cpu.ts'
import { clientIdOf, type Grant, redirectUri } from '../token/scenario.ts'
import { openMeter } from './meter.ts'
import { type Costs, habits, leftBy, needsOf, operations, peak, walOfDay } from './model.ts'

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    short: { type: 'boolean', default: false },
  },
})
const { people, signIns, requests, rows } = values.short
  ? { people: 500, signIns: 20, requests: 320, rows: 20_000 }
  : { people: 2000, signIns: 60, requests: 1600, rows: 200_000 }

drawProgressOn(values.json ? undefined : process.stderr)
using progress = showProgress()
progress.report('Starting the node', 0, 0)
await using opened = new AsyncDisposableStack()
const { connectionString: databaseUrl } = opened.use(await openBenchDatabase())
const key = await makeKeys()
const node = opened.use(await startServingNode({ databaseUrl, clientKeys: key.public, workers: 1 }))
const bench = { key, postgres: opened.use(await openPostgresMeter(databaseUrl)) }
const meter = opened.use(await openMeter(node, databaseUrl))
let failures = 0

const cellOf = (grant: Grant): Cell => ({
  grant,
  method: 'client_secret_basic',
  binding: grant === 'introspection' ? 'none' : 'dpop',
  concurrency: 16,
})

async function send(grant: Grant, count: number): Promise<void> {
  failures += (await measure(node, bench, cellOf(grant), count)).failures
}

const person = (at: number) => ({
  email: `person-${at}@example.com`,
  password: `the long password of person ${at}`,
})
const visitors = Array.from({ length: signIns + 2 }, (_, at) => ({
  browser: createPerson(node, { credentials: person(at) }),
  at,
}))
const clientKey = await newKey()
const app = { client_id: clientIdOf({ method: 'none', binding: 'dpop' }) }

async function signIn(all: typeof visitors): Promise<void> {
  for (const { browser } of all) {
    const { exchange } = await obtainCode(browser, app, { redirect_uri: redirectUri })
    const { status } = await post(node, '/token', exchange, { key: clientKey })
    if (status !== 200) failures += 1
  }
}

progress.report('Filling', 0, 0)
const client = new pg.Client({ connectionString: databaseUrl })
await client.connect()
const day = 86_400
await fill(client, { rows, expire: [day, 14 * day], name: 'old' })
await settle(client)
await client.end()
progress.report('Warming up', 0, 0)
for (const grant of ['client_credentials', 'refresh_token', 'introspection'] as const) {
  await send(grant, 320)
}
for (const { at } of visitors) await node.addPerson(person(at))
await signIn(visitors.slice(signIns))
const counted = visitors.slice(0, signIns)

const works: Readonly<Record<keyof Costs, readonly [number, () => Promise<void>]>> = {
  person: [
    people,
    async () => {
      for (let at = 0; at < people; at += 1) {
        const name = `stored-${at}`
        const account = { id: name, email: `${name}@example.com`, disabled: false }
        await node.storage.accounts.insert({ ...account, createdAt: new Date() }, 'x'.repeat(97))
      }
    },
  ],
  first_sign_in: [signIns, () => signIn(counted)],
  later_sign_in: [signIns, () => signIn(counted)],
  service_grant: [requests, () => send('client_credentials', requests)],
  refresh: [requests, () => send('refresh_token', requests)],
  introspection: [requests, () => send('introspection', requests)],
}
const measured: Partial<Record<keyof Costs, Costs[keyof Costs]>> = {}
for (const [at, name] of operations.entries()) {
  progress.report(`Measuring: ${name}`, at, operations.length)
  measured[name] = await meter.measure(...works[name])
}
progress.rest()

const costs = measured as Costs
const model = [1e4, 1e5, 1e6, 1e7, 1e8].map((count) => needsOf(count, costs))
const wal = {
  service_grant: walOfDay(costs.service_grant, 100),
  refresh: walOfDay(costs.refresh, 100),
}
const round = (value: number) => Number(value.toPrecision(3))

if (values.json) {
  console.log(
    JSON.stringify({
      rows,
      costs,
      habits,
      peak,
      model,
      wal_of_a_day_at_100_a_second: wal,
      failures,
    }),
  )
} else {
  console.log('One operation:')
  console.table(
    Object.fromEntries(
      operations.map((name) => {
        const cost = costs[name]
        return [
          name,
          {
            statements: round(cost.statements),
            rows: round(leftBy(cost, 'rows')),
            bytes: round(leftBy(cost, 'bytes')),
            'WAL bytes': round(cost.walBytes),
            'node CPU ms': round(cost.nodeCpuMs),
            'PostgreSQL CPU ms': round(cost.postgresCpuMs),
          },
        ]
      }),
    ),
  )
  console.log(
    `\nA day of one person: ${JSON.stringify(habits)}; the busiest second is ${peak} times the average.`,
  )
  console.table(
    model.map((row) =>
      Object.fromEntries(Object.entries(row).map(([name, value]) => [name, round(value)])),
    ),
  )
  console.log('\nGigabytes of WAL of a day at 100 a second, all of them right after a checkpoint:')
  console.table(
    Object.fromEntries(Object.entries(wal).map(([name, gigabytes]) => [name, round(gigabytes)])),
  )
}
process.exitCode = failures > 0 ? 1 : 0
