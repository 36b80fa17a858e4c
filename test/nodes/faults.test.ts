// Three processes behind HAProxy on one PostgreSQL, under load, and what can happen to them.
import anyTest, { type TestFn } from 'ava'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { findLosses, type Load, startLoad } from '../support/load.ts'
import { isInstalled, testWith } from '../support/proxies.ts'
import { query } from '../support/query.ts'
import {
  type SystemPostgres,
  startSystemPostgres,
  testWithPostgres,
} from '../support/system-postgres.ts'
import { until } from '../support/until.ts'

const test = anyTest as TestFn<{
  opened: AsyncDisposableStack
  postgres: SystemPostgres
  fleet: Fleet
  load: Load
}>
const nodesTest = isInstalled('haproxy') ? testWithPostgres(test) : testWith(test, 'haproxy')

/** Milliseconds for which PostgreSQL is stopped. */
const outage = 10_000

test.beforeEach(async (t) => {
  const opened = new AsyncDisposableStack()
  t.context.opened = opened
  const postgres = opened.use(await startSystemPostgres())
  const fleet = opened.use(await startFleet({ databaseUrl: postgres.url('postgres'), count: 3 }))
  const load = startLoad(fleet, { workers: 6 })
  opened.defer(() => load.stop())
  Object.assign(t.context, { postgres, fleet, load })
})
test.afterEach.always((t) => t.context.opened.disposeAsync())

const allReady = ({ nodes }: Fleet) =>
  until(async () => (await Promise.all(nodes.map((node) => node.isReady()))).every(Boolean))

/** No answers: a proxy may close a connection whose other end has died without one. */
const troubles = ({ answers }: Load) =>
  [...answers].filter(([status]) => !/^(200|302|303|400)$/.test(status))

nodesTest('nothing is used twice and no sign-in is lost, whatever ends', async (t) => {
  const { postgres, fleet, load } = t.context
  const [first, second] = fleet.nodes as [Fleet['nodes'][0], Fleet['nodes'][0]]
  await load.progress(10)

  await first.end('SIGKILL')
  await load.progress(10)
  await first.start()
  await load.progress(5)

  const before = troubles(load)
  t.is((await second.end('SIGTERM')).code, 0)
  await second.start()
  await load.progress(5)
  t.deepEqual(troubles(load), before, 'a restart in order is noticed by nobody')

  const [ended] = await query(
    postgres.url('postgres'),
    `select count(pg_terminate_backend(pid))::int as count from pg_stat_activity
      where application_name = 'holdfast'`,
  )
  t.true(Number(ended?.count) >= 3)
  await load.progress(5)

  const used = load.accepted()
  const stopping = Date.now()
  await postgres.stop('immediate')
  await load.sees('503', 20)
  for (const node of fleet.nodes) t.false(await node.isReady())
  await until(async () => Date.now() - stopping > outage)
  await postgres.start()
  await load.progress(10)
  await allReady(fleet)

  // A crash of PostgreSQL forgets no proof.
  t.deepEqual(await findLosses(fleet, load, { accepted: used.slice(-12), chains: [] }), [])

  await load.stop()
  for (const [status] of troubles(load)) t.true(['502', '503', 'network'].includes(status), status)
  t.deepEqual(await findLosses(fleet, load, { accepted: [], chains: load.chains }), [])
  t.deepEqual(load.judge(), [])
  t.log(Object.fromEntries(load.answers))
})
