// The three stores of sessions keep the same promises; two gates with one store see the same sessions.
import { randomUUID } from 'node:crypto'
import test, { type ExecutionContext } from 'ava'
import pg from 'pg'
import {
  createMemorySessionStore,
  type Session,
  type SessionStore,
} from '../../packages/gate/browser/sessions.ts'
import {
  createPostgresSessionStore,
  postgresSessionTable,
} from '../../packages/gate/browser/sessions-postgres.ts'
import { createRedisSessionStore } from '../../packages/gate/browser/sessions-redis.ts'
import { openTestDatabase } from '../support/database.ts'
import { app, startBrowserGate } from '../support/gate-browsers.ts'
import { useTestServer } from '../support/server.ts'
import { until } from '../support/until.ts'
import { startRedis, withRedis } from '../support/verify/redis.ts'

const server = useTestServer(test)
const hourMs = 3_600_000
const key = { method: 'dbsc', jkt: 'k', alg: 'ES256', jwk: { kty: 'EC' }, atMs: 1 } as const

function sessionWith(changes: Partial<Session> = {}): Session {
  const now = Date.now()
  return {
    ...{ id: randomUUID(), application: app, issuer: 'https://as.example', subject: randomUUID() },
    ...{ sid: randomUUID(), claims: { name: 'Ada' }, startedAtMs: now, endsAtMs: now + hourMs },
    ...{ idleEndsAtMs: now + hourMs / 2, renewAtMs: now, askedAcr: [], sealed: 's', version: 1 },
    ...changes,
  }
}

async function checkStore(t: ExecutionContext, store: SessionStore): Promise<void> {
  const now = Date.now()
  const session = sessionWith()
  const { id } = session
  await store.insert(session, 10, now)
  const { idleEndsAtMs: _, ...rest } = session
  t.like(await store.find(id, now), rest)
  t.is(await store.find(randomUUID(), now), undefined)

  t.deepEqual(
    await Promise.all([1, 2, 3].map((each) => store.bind(id, { ...key, jkt: `${each}` }))).then(
      (all) => all.filter(Boolean).length,
    ),
    1,
  )
  const { key: first } = (await store.find(id, now)) ?? {}
  t.false(await store.bind(id, key))
  t.false(await store.bind(randomUUID(), key))

  const ofPage = sessionWith()
  await store.insert(ofPage, 10, now)
  const pageKey = { ...key, method: 'page-key' } as const
  t.true(await store.bind(ofPage.id, pageKey))
  t.false(await store.bind(ofPage.id, { ...pageKey, jkt: 'l' }), 'the first key of a page stays')
  t.deepEqual((await store.find(ofPage.id, now))?.key, pageKey)
  const upgrades = await Promise.all([1, 2].map(() => store.bind(ofPage.id, key)))
  t.is(upgrades.filter(Boolean).length, 1, 'one of the browser replaces it, once')
  t.false(await store.bind(ofPage.id, pageKey))
  t.deepEqual((await store.find(ofPage.id, now))?.key, key)
  await store.end(ofPage.id)

  // Of two changes at once, one counts; the key stays what it was.
  const next = { ...session, version: 2, sealed: 't', key }
  const replaced = await Promise.all([store.replace(next), store.replace({ ...next, sealed: 'u' })])
  t.is(replaced.filter(Boolean).length, 1)
  t.false(await store.replace({ ...next, version: 9 }))
  t.like(await store.find(id, now), { version: 2, key: first })

  const locks = await Promise.all([1, 2, 3].map(() => store.lock(id, now, now + 5000)))
  t.is(locks.filter(Boolean).length, 1)
  await store.unlock(id)
  t.true(await store.lock(id, now, now + 5000))
  await store.unlock(id)

  const same = { subject: session.subject, endsAtMs: now + hourMs + 1 }
  for (let count = 0; count < 3; count += 1) {
    await store.insert(sessionWith({ ...same, endsAtMs: same.endsAtMs + count }), 3, now)
  }
  t.is(await store.find(id, now), undefined, 'the oldest has ended')
  // One that has ended takes no place of the others.
  const [gone, kept] = [sessionWith({ ...same, subject: 'many' }), sessionWith({ subject: 'many' })]
  for (const each of [kept, gone]) await store.insert(each, 2, now)
  await store.end(gone.id)
  await store.insert(sessionWith({ ...same, subject: 'many' }), 2, now)
  t.truthy(await store.find(kept.id, now))
  const { application, issuer } = session
  const other = sessionWith({ ...same, application: 'https://other.example' })
  await store.insert(other, 10, now)
  t.deepEqual(await store.endAll({ application, issuer }), [])
  t.is((await store.endAll({ application, issuer, subject: session.subject })).length, 3)
  t.truthy(await store.find(other.id, now))
  const sid = other.sid ?? ''
  t.deepEqual(await store.endAll({ application, issuer, sid }), [])
  const ended = { application: other.application, issuer, sid }
  t.deepEqual(await store.endAll({ ...ended, issuer: 'https://other.example' }), [])
  const { subject } = other
  const elsewhere = { application: other.application, issuer: 'https://other.example', subject }
  t.deepEqual(await store.endAll(elsewhere), [])
  t.deepEqual(await store.endAll({ ...ended, subject: 'another' }), [])
  t.deepEqual(await store.endAll(ended), [other.id])
  t.false(await store.replace({ ...other, version: 2 }), 'what has ended stays so')

  const short = sessionWith({ idleEndsAtMs: now + 60_000 })
  await store.insert(short, 10, now)
  await store.touch(short.id, now + 120_000, now)
  const touched = await store.find(short.id, now)
  t.true(Math.abs((touched?.idleEndsAtMs ?? 0) - now - 120_000) < 5000)
  await store.end(short.id)
  t.is(await store.find(short.id, now), undefined)
}

test('sessions in memory', async (t) => {
  const store = createMemorySessionStore({ capacity: 100 })
  await checkStore(t, store)
  const session = sessionWith()
  await store.insert(session, 10, Date.now())
  t.is(await store.find(session.id, session.idleEndsAtMs), undefined)
  for (let count = 0; count < 150; count += 1) await store.insert(sessionWith(), 10, Date.now())
  t.is(await store.find(session.id, Date.now()), undefined, 'the oldest make room')
})

test('sessions in PostgreSQL', async (t) => {
  await using database = await openTestDatabase()
  const pool = new pg.Pool({ connectionString: database.url, max: 4 })
  try {
    // Two that start at once both make the table.
    await Promise.all([pool.query(postgresSessionTable), pool.query(postgresSessionTable)])
    const store = createPostgresSessionStore(pool)
    await checkStore(t, store)
    const session = sessionWith()
    await store.insert(session, 10, Date.now())
    t.is(await store.find(session.id, session.idleEndsAtMs), undefined)
    await store.touch(session.id, session.endsAtMs + hourMs, Date.now())
    t.truthy(await store.find(session.id, session.endsAtMs - 1))
    t.is(await store.find(session.id, session.endsAtMs), undefined, 'the absolute end')
    // One that has ended takes no place: idle, or absolutely.
    const nowMs = Date.now()
    const many = { subject: 'ended', endsAtMs: nowMs + 9 * hourMs }
    const kept = sessionWith({ subject: 'ended' })
    for (const each of [kept, sessionWith({ ...many, idleEndsAtMs: nowMs - 1 })]) {
      await store.insert(each, 2, nowMs)
    }
    await store.insert(sessionWith({ ...many, idleEndsAtMs: nowMs + hourMs }), 2, nowMs)
    t.truthy(await store.find(kept.id, nowMs))
    await store.endAll({ application: kept.application, issuer: kept.issuer, subject: 'ended' })
    await store.sweep(session.endsAtMs)
    t.is((await pool.query('select 1 from gate_sessions')).rowCount, 0)
  } finally {
    await pool.end()
  }
})

withRedis(test)('sessions in Redis', async (t) => {
  await using redis = await startRedis()
  const [client] = redis.clients
  const store = createRedisSessionStore((args) => client.sendCommand(args))
  await checkStore(t, store)
  const short = sessionWith({ idleEndsAtMs: Date.now() + 50 })
  await store.insert(short, 10, Date.now())
  await until(async () => (await store.find(short.id, Date.now())) === undefined)
})

test('two gates with one store: a session of one is one of the other, and its end too', async (t) => {
  await using database = await openTestDatabase()
  const pool = new pg.Pool({ connectionString: database.url, max: 4 })
  await pool.query(postgresSessionTable)
  const options = { sessions: createPostgresSessionStore(pool) }
  await using opened = new AsyncDisposableStack()
  opened.defer(() => pool.end())
  const first = opened.use(await startBrowserGate(server, { options }))
  const openid = { clientId: first.clientId }
  const second = opened.use(await startBrowserGate(server, { options, openid }))
  const browser = first.newBrowser()
  await browser.signIn()
  await browser.register()
  const cookie = await browser.jar.getCookieString(app)
  const statusAt = async (gate: typeof first) =>
    (await gate.fetch(`${app}/a`, { headers: { cookie } })).status
  t.is(await statusAt(second), 200)
  t.deepEqual(second.application.received.at(-1)?.assertion?.identity?.methods, ['dbsc'])
  const out = {
    'content-type': 'application/x-www-form-urlencoded',
    'sec-fetch-site': 'same-origin',
  }
  await browser.send('/.gate/sign-out', { method: 'POST', headers: out, body: '' })
  t.is(await statusAt(first), 401)
  // The other one notices when it asks the store again.
  second.advance(5000)
  t.is(await statusAt(second), 401)
})
