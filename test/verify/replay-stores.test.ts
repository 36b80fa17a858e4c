import test from 'ava'
import pg from 'pg'
import type { ReplayStore } from '../../packages/verify/replay.ts'
import {
  createPostgresReplayStore,
  postgresReplayTable,
} from '../../packages/verify/replay-postgres.ts'
import { createRedisReplayStore } from '../../packages/verify/replay-redis.ts'
import { createTickets } from '../../packages/verify/ticket.ts'
import { useTestDatabase } from '../support/database.ts'
import { startSystemPostgres, testWithPostgres } from '../support/system-postgres.ts'
import { dpopRequest, start, verifierWith } from '../support/verify/fixtures.ts'
import { startRedis, withRedis } from '../support/verify/redis.ts'
import { refused } from '../support/verify/refused.ts'

const testRedis = withRedis(test)

/** How many of sixteen uses of one ticket, at once on nodes with these stores, are accepted. */
async function ticketWinners(stores: readonly ReplayStore[]): Promise<number> {
  const nodes = stores.map((replay) =>
    createTickets(verifierWith(), {
      secrets: [Buffer.alloc(32, 1)],
      replay,
      replicas: 2,
      now: () => start * 1000,
    }),
  )
  const verified = await verifierWith().verify(dpopRequest())
  const ticket = nodes[0]?.issue(verified, { url: '/stream' })
  const request = { method: 'GET', url: `/stream?ticket=${ticket}`, headers: [] }
  const uses = Array.from({ length: 16 }, (_, at) => nodes[at % 2]?.verify(request))
  const outcomes = await Promise.allSettled(uses)
  return outcomes.filter(({ status }) => status === 'fulfilled').length
}

testRedis('accepts one of sixteen uses at once on two nodes', async (t) => {
  await using redis = await startRedis()
  const stores = redis.clients.map((client) =>
    createRedisReplayStore({ send: (args) => client.sendCommand(args) }),
  )
  const nodes = stores.map((replay) => verifierWith({ replay, replicas: 2 }))
  const request = dpopRequest()
  const uses = Array.from({ length: 16 }, (_, i) => nodes[i % 2]?.verify(request))
  const outcomes = await Promise.allSettled(uses)
  t.is(outcomes.filter(({ status }) => status === 'fulfilled').length, 1)
  t.is(await ticketWinners(stores), 1)
})

testRedis('keeps a mark for as long as it matters, and holds no jti', async (t) => {
  await using redis = await startRedis()
  const [client] = redis.clients
  const replay = createRedisReplayStore({
    send: (args) => client.sendCommand(args),
    clockDifference: 600,
  })
  t.is(await replay.consume('a secret jti', start + 3600, start), 'fresh')
  t.is(await replay.consume('a secret jti', start + 3600, start), 'replayed')
  const [key = ''] = await client.keys('*')
  t.regex(key, /^holdfast:replay:[\w-]{43}$/)
  const left = await client.pTTL(key)
  t.true(left > 4_000_000 && left <= 4_200_000, `${left}`)
})

testRedis('says so when the server is full or gone', async (t) => {
  await using redis = await startRedis()
  const [client] = redis.clients
  const replay = createRedisReplayStore({ send: (args) => client.sendCommand(args) })
  const verifier = verifierWith({ replay })
  await client.configSet('maxmemory', '1')
  await refused(t, 'replay_store_unavailable', () => verifier.verify(dpopRequest()))
  await client.configSet('maxmemory', '0')
  await t.notThrowsAsync(verifier.verify(dpopRequest()))
  await redis.stop()
  await refused(t, 'replay_store_unavailable', () => verifier.verify(dpopRequest()))
})

test('takes no other reply for a promise to remember', async (t) => {
  const replay = createRedisReplayStore({ send: async () => 'QUEUED' })
  await t.throwsAsync(async () => replay.consume('a', start + 1, start))
})

const database = useTestDatabase(test, { migrated: false })

async function open() {
  const pool = new pg.Pool({ connectionString: database.url })
  await pool.query(postgresReplayTable)
  return { pool, [Symbol.asyncDispose]: () => pool.end() }
}

test.serial('accepts one of sixteen uses at once on two nodes with PostgreSQL', async (t) => {
  await using one = await open()
  await using two = await open()
  const stores = [one, two].map(({ pool }) => createPostgresReplayStore({ client: pool }))
  const nodes = stores.map((replay) => verifierWith({ replay, replicas: 2 }))
  const request = dpopRequest()
  const uses = Array.from({ length: 16 }, (_, i) => nodes[i % 2]?.verify(request))
  const outcomes = await Promise.allSettled(uses)
  t.is(outcomes.filter(({ status }) => status === 'fulfilled').length, 1)
  const [lost] = outcomes.filter((outcome) => outcome.status === 'rejected')
  t.is(lost?.reason.code, 'dpop_replayed')
  t.is(await ticketWinners(stores), 1)
})

test.serial('knows a mark until it expires on the slowest clock', async (t) => {
  await using opened = await open()
  const replay = createPostgresReplayStore({ client: opened.pool })
  t.is(await replay.consume('a', start + 60, start), 'fresh')
  t.is(await replay.consume('a', start + 60, start + 65), 'replayed')
  t.is(await replay.consume('a', start + 120, start + 66), 'fresh')
  t.is(await replay.consume('a', start + 120, start + 66), 'replayed')
})

test.serial('sweeps what has expired, and nothing else', async (t) => {
  await using opened = await open()
  await opened.pool.query('truncate dpop_replay')
  const replay = createPostgresReplayStore({ client: opened.pool })
  await replay.consume('old', start, start)
  await replay.consume('new', start + 60, start)
  t.is(await replay.sweep(start + 6), 1)
  t.is(await replay.consume('new', start + 60, start + 6), 'replayed')
})

testWithPostgres(test)('a crash of the server forgets no entry', async (t) => {
  await using postgres = await startSystemPostgres()
  const connect = () =>
    new pg.Pool({ connectionString: postgres.url('postgres') }).on('error', () => {})
  const [before, after] = [connect(), connect()]
  await before.query(postgresReplayTable)
  const entry = ['a', start + 60, start] as const
  t.is(await createPostgresReplayStore({ client: before }).consume(...entry), 'fresh')
  await postgres.stop('immediate')
  await before.end()
  await postgres.start()
  t.is(await createPostgresReplayStore({ client: after }).consume(...entry), 'replayed')
  await after.end()
})

test.serial('says so when the database is gone', async (t) => {
  const { pool } = await open()
  const verifier = verifierWith({ replay: createPostgresReplayStore({ client: pool }) })
  await pool.end()
  await refused(t, 'replay_store_unavailable', () => verifier.verify(dpopRequest()))
})
