// Introspection reads from a standby, with real streaming replication, and never what decides.
import test, { type TestFn } from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import type { RequestedMetadata } from '../../src/clients/client-registration.ts'
import { freePort } from '../../src/net/free-port.ts'
import { basic, createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { query } from '../support/query.ts'
import { startTestServer, type TestServer } from '../support/server.ts'
import {
  type SystemPostgres,
  startSystemPostgres,
  testWithPostgres,
} from '../support/system-postgres.ts'
import { until } from '../support/until.ts'

const scene = testWithPostgres(test.serial as unknown as TestFn)
const opened = new AsyncDisposableStack()
const limitMs = 2000
let primary: SystemPostgres
let standby: SystemPostgres
let server: TestServer
let app: ClientMetadata
let api: ClientMetadata

const service: RequestedMetadata = {
  grant_types: ['client_credentials'],
  response_types: [],
  redirect_uris: [],
  token_endpoint_auth_method: 'client_secret_basic',
}

test.before(async () => {
  primary = opened.use(await startSystemPostgres())
  standby = opened.use(await primary.makeStandby({ port: primary.port, name: 'standby' }))
  server = opened.use(
    await startTestServer({
      DATABASE_URL: primary.url('postgres'),
      HOLDFAST_DATABASE_STANDBY_URL: standby.url('postgres'),
      HOLDFAST_STANDBY_LAG_SECONDS: String(limitMs / 1000),
    }),
  )
  app = await server.addClient()
  api = await server.addClient(service)
})
test.after.always(() => opened.disposeAsync())

const isRead = async () => server.storage.standby?.credentials() !== undefined
const isNotRead = async () => !(await isRead())
const reads = () => server.storage.standby?.reads() ?? 0
const onStandby = (statement: string) => query(standby.url('postgres'), statement)

async function newTokens() {
  const key = await newKey()
  const { exchange } = await obtainCode(createPerson(server), app)
  const { body } = await post(server, '/token', exchange, { key })
  return { key, exchange, token: body.refresh_token as string }
}

async function isActive(token: string): Promise<boolean> {
  const { body } = await post(server, '/introspect', { token }, { headers: basic(api) })
  return body.active
}

const revoke = (token: string) =>
  post(server, '/revoke', { token, client_id: String(app.client_id) })

/** Until the standby has the token, and was asked about it. */
async function isReadOf(token: string): Promise<boolean> {
  const before = reads()
  return (await isActive(token)) && (await isRead()) && reads() > before
}

scene(
  'introspection reads a token from the standby, and a newer one from the primary',
  async (t) => {
    const { token } = await newTokens()
    await until(() => isReadOf(token))
    await onStandby('select pg_wal_replay_pause()')
    const newer = await newTokens()
    t.true(await isActive(newer.token))
    await onStandby('select pg_wal_replay_resume()')
  },
)

scene('a revoked token is active for no longer than the limit', async (t) => {
  const { token } = await newTokens()
  await until(() => isReadOf(token))
  await onStandby('select pg_wal_replay_pause()')
  t.is((await revoke(token)).status, 200)
  const revokedAt = performance.now()
  const late: number[] = []
  await until(async () => {
    const askedAt = performance.now()
    const active = await isActive(token)
    if (active && askedAt > revokedAt + limitMs) late.push(askedAt - revokedAt)
    return askedAt > revokedAt + 2 * limitMs
  })
  t.deepEqual(late, [])
  const before = reads()
  t.false(await isActive(token))
  t.is(reads(), before)
  await onStandby('select pg_wal_replay_resume()')
  await until(isRead)
  t.false(await isActive(token))
})

scene('what decides is read from the primary while the standby is behind', async (t) => {
  const { key, exchange, token } = await newTokens()
  await until(() => isReadOf(token))
  await onStandby('select pg_wal_replay_pause()')
  const next = await post(server, '/token', refreshing(app, token), { key })
  t.is(next.status, 200)
  // The standby still has it as unused.
  const again = await post(server, '/token', refreshing(app, token), { key })
  t.is(again.body.error, 'invalid_grant')
  const reused = await post(server, '/token', exchange, { key })
  t.is(reused.body.error, 'invalid_grant')
  await onStandby('select pg_wal_replay_resume()')
})

scene('a standby that is gone keeps nothing from being answered, and is read again', async (t) => {
  const { token } = await newTokens()
  await until(() => isReadOf(token))
  await standby.stop('immediate')
  t.true(await isActive(token))
  t.is((await revoke(token)).status, 200)
  await until(isNotRead)
  t.false(await isActive(token))
  await standby.start()
  await until(isRead)
  t.false(await isActive(token))
})

scene('a standby that was never there is not read, and the log says so', async (t) => {
  const nowhere = `postgresql://holdfast@127.0.0.1:${await freePort()}/postgres`
  await using other = await startTestServer({ HOLDFAST_DATABASE_STANDBY_URL: nowhere })
  const asking = { headers: basic(await other.addClient(service)) }
  const { status, body } = await post(other, '/introspect', { token: 'unknown' }, asking)
  t.deepEqual([status, body], [200, { active: false }])
  await until(async () => other.logged.some((line) => line.includes('"event":"standby.not_read"')))
  t.is(other.storage.standby?.reads(), 0)
})

scene('a standby that was promoted is not read', async (t) => {
  const { token } = await newTokens()
  await until(() => isReadOf(token))
  await standby.promote()
  t.is((await revoke(token)).status, 200)
  await until(isNotRead)
  t.false(await isActive(token))
  t.true((await onStandby('select count(*)::int as rows from artifacts')).length > 0)
})
