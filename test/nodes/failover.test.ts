// A standby takes over under load: what is lost, by synchronous and by asynchronous replication.
import anyTest, { type ExecutionContext, type TestFn } from 'ava'
import { makeProof } from '../../src/doctor/proof.ts'
import { type DatabaseProxy, openDatabaseProxy } from '../support/database-proxy.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { basic, createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { createRecorder } from '../support/history.ts'
import { findLosses, type Load, startLoad } from '../support/load.ts'
import { isInstalled, testWith } from '../support/proxies.ts'
import { query } from '../support/query.ts'
import {
  type SystemPostgres,
  startSystemPostgres,
  testWithPostgres,
} from '../support/system-postgres.ts'
import { until } from '../support/until.ts'

interface Places {
  opened: AsyncDisposableStack
  primary: SystemPostgres
  standby: SystemPostgres
  /** What the standby streams over. */
  link: DatabaseProxy
  /** The address of the primary, whichever that is. */
  front: DatabaseProxy
  fleet: Fleet
  load: Load
}

const test = anyTest as TestFn<Places>
const nodesTest = isInstalled('haproxy') ? testWithPostgres(test) : testWith(test, 'haproxy')

test.beforeEach(async (t) => {
  const opened = new AsyncDisposableStack()
  t.context.opened = opened
  const primary = opened.use(await startSystemPostgres())
  const url = primary.url('postgres')
  const link = opened.use(await openDatabaseProxy(url))
  const front = opened.use(await openDatabaseProxy(url))
  const fleet = opened.use(await startFleet({ databaseUrl: front.url, count: 2 }))
  const standby = opened.use(await primary.makeStandby({ port: link.port, name: 'standby' }))
  const load = startLoad(fleet, { workers: 4 })
  opened.defer(() => load.stop())
  Object.assign(t.context, { primary, standby, link, front, fleet, load })
})
test.afterEach.always((t) => t.context.opened.disposeAsync())

/** The nodes are led to the standby before it takes writes, as most routers do it now and then. */
async function failOver({ primary, standby, front, load }: Places): Promise<void> {
  await primary.stop('immediate')
  front.leadTo(standby.port)
  await load.sees('503', 5)
  await standby.promote()
}

/** Waits until the standby has what the primary has now, or shows it to readers. */
async function catchUp(
  { primary }: Places,
  how: 'flush_lsn' | 'replay_lsn' = 'replay_lsn',
): Promise<void> {
  const url = primary.url('postgres')
  const [now] = await query(url, 'select pg_current_wal_lsn()::text as lsn')
  const text = `select ${how} >= $1::pg_lsn as there from pg_stat_replication`
  await until(async () => (await query(url, text, [now?.lsn]))[0]?.there === true)
}

function report(t: ExecutionContext<Places>): void {
  const { load } = t.context
  t.log({ ...Object.fromEntries(load.answers), violations: load.judge().length })
}

nodesTest('with synchronous replication nothing that was answered is lost', async (t) => {
  const { primary, fleet, load } = t.context
  const url = primary.url('postgres')
  await query(url, "alter system set synchronous_standby_names = 'standby'")
  await query(url, 'select pg_reload_conf()')
  const state = async () => (await query(url, 'select sync_state from pg_stat_replication'))[0]
  await until(async () => (await state())?.sync_state === 'sync')
  await load.progress(10)
  const used = load.accepted()

  await failOver(t.context)

  await load.progress(5)
  await load.stop()
  report(t)
  const asked = { accepted: used.slice(-12), chains: load.chains }
  t.deepEqual(await findLosses(fleet, load, asked), [])
  t.deepEqual(load.judge(), [])
})

nodesTest('answers nothing from a standby that is behind', async (t) => {
  const { primary, standby, front, fleet, load } = t.context
  await load.stop()
  const key = await newKey()
  const person = createPerson(fleet)
  const fetchToken = async () =>
    (await post(fleet, '/token', (await obtainCode(person, fleet.app)).exchange, { key })).body
  const { access_token: token } = await fetchToken()
  const about = { client_id: String(fleet.app.client_id), token }
  const inspect = () => post(fleet, '/introspect', about)
  t.true((await inspect()).body.active)
  await catchUp(t.context)

  // What the primary writes is shipped, and not yet there to read.
  await query(standby.url('postgres'), 'select pg_wal_replay_pause()')
  t.is((await post(fleet, '/revoke', about)).status, 200)
  t.false((await inspect()).body.active)
  await catchUp(t.context, 'flush_lsn')
  await primary.stop('immediate')
  front.leadTo(standby.port)
  for (let asked = 0; asked < 10; asked += 1) t.is((await inspect()).status, 503)

  await standby.promote()
  await until(async () => (await inspect()).status === 200)
  t.false((await inspect()).body.active)
})

nodesTest(
  'with asynchronous replication what was not shipped is as if it had not been',
  async (t) => {
    const { link, fleet, load } = t.context
    const key = await newKey()
    const history = createRecorder({ graceS: 60 })
    const fetch = history.watch()
    const { exchange } = await obtainCode(createPerson(fleet, { fetch }), fleet.app)
    const ask = (parameters: Record<string, string>) =>
      post(fleet, '/token', parameters, { key, fetch })
    const { body: first } = await ask(exchange)
    const refresh = (token: string) => ask(refreshing(fleet.app, token))
    const proof = await makeProof(key, { method: 'POST', url: `${fleet.issuer}/token` })
    const headers = basic(fleet.service)
    const serve = () =>
      post(fleet, '/token', { grant_type: 'client_credentials' }, { proof, headers, fetch })
    await load.progress(5)
    await catchUp(t.context)

    // From here on the standby gets nothing, and the primary answers as ever.
    link.pause()
    const { body: second } = await refresh(first.refresh_token)
    t.is((await serve()).status, 200)
    t.is((await serve()).status, 400)

    await failOver(t.context)
    await load.sees('200', 20)
    await load.stop()
    report(t)

    // The proof is good once more, and then never again.
    t.is((await serve()).status, 200)
    t.is((await serve()).status, 400)
    // The newest token is unknown. The one before it is unused, and its successor is the same one.
    t.is((await refresh(second.refresh_token)).body.error, 'invalid_grant')
    const again = await refresh(first.refresh_token)
    t.is(again.status, 200)
    t.is(again.body.refresh_token, second.refresh_token)
    t.is((await refresh(second.refresh_token)).status, 200)
    // The history of these clients contradicts itself, and says where.
    const rules = new Set(history.judge().map(({ rule }) => rule))
    t.deepEqual([...rules], ['a proof is good once', 'an answered grant is never lost'])
  },
)
