import { randomBytes, randomUUID } from 'node:crypto'
import test from 'ava'
import pg from 'pg'
import { defaultPolicy } from '../../src/clients/registration-policy.ts'
import type { Account, AccountStore } from '../../src/storage/account-store.ts'
import { createAccountTable } from '../../src/storage/account-table.ts'
import {
  createAuditTable,
  detailsLimitBytes,
  type StoredAuditRow,
} from '../../src/storage/audit-table.ts'
import { type ClientTable, createClientTable } from '../../src/storage/client-table.ts'
import { type Database, openDatabase } from '../../src/storage/database.ts'
import { createDevicePollTable, type DevicePollTable } from '../../src/storage/device-poll-table.ts'
import {
  createRegistrationTable,
  type RegistrationTable,
} from '../../src/storage/registration-table.ts'
import { createReplayTable, type ReplayTable } from '../../src/storage/replay-table.ts'
import {
  createResourceServerTable,
  type ResourceServerTable,
} from '../../src/storage/resource-server-table.ts'
import { seal, unseal } from '../../src/storage/sealed.ts'
import { StorageError } from '../../src/storage/storage-error.ts'
import { openTestDatabase, useTestDatabase } from '../support/database.ts'
import { raceFor } from '../support/lock.ts'

const url = useTestDatabase(test)

let database: Database
let table: AccountStore
test.serial.before(async () => {
  database = await openDatabase(url.url, { onError: () => {}, poolSize: 16 })
  table = createAccountTable(database)
})
test.after.always('closes the pool', () => database?.[Symbol.asyncDispose]())

function account(changes: Partial<Account> = {}): Account {
  const id = randomUUID()
  const email = `${id}@example.com`
  return { id, email, name: 'Ada Lovelace', disabled: false, createdAt: new Date(), ...changes }
}

async function inserted(changes: Partial<Account> = {}): Promise<Account> {
  const made = account(changes)
  await table.insert(made, 'a hash')
  return made
}

test('finds an account by id, and by email with its hash', async (t) => {
  const made = await inserted()
  t.deepEqual(await table.findById(made.id), made)
  t.deepEqual(await table.findByEmail(made.email), { account: made, passwordHash: 'a hash' })
})

test('has one account for a username', async (t) => {
  const username = `name-${randomUUID()}`
  const made = await inserted({ username })
  t.is(await table.emailOfUsername(username), made.email)
  t.false(await table.insert(account({ username }), 'a hash'))
  const other = await inserted()
  t.is(await table.change(other.id, { username }), 'username taken')
  t.like(await table.change(made.id, { username: null }), { username: undefined })
  t.like(await table.change(other.id, { username }), { username })
  t.is(await table.emailOfUsername(username), other.email)
})

test('has no name for an account that was given none', async (t) => {
  const { name: _, ...nameless } = account()
  await table.insert(nameless, 'a hash')
  t.deepEqual(await table.findById(nameless.id), nameless)
})

test('finds nobody by what nobody has', async (t) => {
  t.is(await table.findById(randomUUID()), undefined)
  t.is(await table.findByEmail('nobody@example.com'), undefined)
})

test('finds nobody by U+0000 or half a surrogate pair', async (t) => {
  await inserted({ id: 'id\ufffd', email: 'mail\ufffd@example.com' })
  for (const odd of ['\0', '\ud800']) {
    t.is(await table.findById(`id${odd}`), undefined)
    t.is(await table.findByEmail(`mail${odd}@example.com`), undefined)
  }
})

test('takes an email once of 16 concurrent times', async (t) => {
  const { email } = account()
  const results = await Promise.all(
    Array.from({ length: 16 }, () => table.insert(account({ email }), 'a hash')),
  )
  t.is(results.filter(Boolean).length, 1)
})

test('lists accounts in the order they were made', async (t) => {
  const second = await inserted({ createdAt: new Date(2000) })
  const first = await inserted({ createdAt: new Date(1000) })
  t.deepEqual((await table.list()).slice(0, 2), [first, second])
})

test('sets a password, of an account that is there', async (t) => {
  const { id, email } = await inserted()
  t.true(await table.setPasswordHash(id, 'another hash'))
  t.is((await table.findByEmail(email))?.passwordHash, 'another hash')
  t.false(await table.setPasswordHash(randomUUID(), 'another hash'))
})

test('replaces a hash by a stronger one only while it is the same', async (t) => {
  const { id, email } = await inserted()
  await table.replacePasswordHash(id, 'an older hash', 'a stronger hash')
  t.is((await table.findByEmail(email))?.passwordHash, 'a hash')
  await table.replacePasswordHash(id, 'a hash', 'a stronger hash')
  t.is((await table.findByEmail(email))?.passwordHash, 'a stronger hash')
})

test('disables and enables an account that is there', async (t) => {
  const { id } = await inserted()
  for (const disabled of [true, true, false, false]) {
    t.true(await table.setDisabled(id, disabled))
    t.is((await table.findById(id))?.disabled, disabled)
  }
  t.false(await table.setDisabled(randomUUID(), true))
})

let clientsDatabase: Database
let clients: ClientTable
let resourceServers: ResourceServerTable
test.serial.before(async () => {
  clientsDatabase = await openDatabase(url.url, { onError: () => {}, poolSize: 16 })
  clients = createClientTable(clientsDatabase)
  resourceServers = createResourceServerTable(clientsDatabase)
})
test.after.always('closes the pool', () => clientsDatabase?.[Symbol.asyncDispose]())

const client = () => ({ client_id: randomUUID(), redirect_uris: ['https://app.example.com/cb'] })
const api = () => ({ identifier: `https://${randomUUID()}.example`, name: 'Orders', scopes: ['a'] })

test('finds, lists and removes a client', async (t) => {
  const made = client()
  t.true(await clients.insert(made))
  t.deepEqual(await clients.find(made.client_id), made)
  const listed = (await clients.list()).find(
    ({ metadata }) => metadata.client_id === made.client_id,
  )
  t.deepEqual(listed?.metadata, made)
  t.true(listed?.createdAt instanceof Date)
  t.true(await clients.remove(made.client_id))
  t.is(await clients.find(made.client_id), undefined)
  t.false(await clients.remove(made.client_id))
})

test('takes a client_id once of 16 concurrent times, and keeps what was first', async (t) => {
  const { client_id } = client()
  const results = await Promise.all(
    Array.from({ length: 16 }, (_, number) =>
      clients.insert({ client_id, client_name: String(number) }),
    ),
  )
  t.is(results.filter(Boolean).length, 1)
  t.is((await clients.find(client_id))?.client_name, String(results.indexOf(true)))
})

test('finds and removes no client by U+0000 or half a surrogate pair', async (t) => {
  await clients.insert({ client_id: 'odd\ufffd' })
  for (const odd of ['odd\0', 'odd\ud800']) {
    t.is(await clients.find(odd), undefined)
    t.false(await clients.remove(odd))
  }
})

test('finds, lists and removes an API', async (t) => {
  const made = api()
  t.true(await resourceServers.insert(made))
  t.false(await resourceServers.insert({ ...made, scopes: ['b'] }))
  const defaults = {
    openScopes: [],
    scopeLabels: {},
    signingAlg: 'ES256',
    authorizationDetailsTypes: {},
  }
  const stored = { ...made, ...defaults }
  t.deepEqual(await resourceServers.find(made.identifier), stored)
  t.true((await resourceServers.list()).some(({ identifier }) => identifier === made.identifier))
  t.true(await resourceServers.remove(made.identifier))
  t.is(await resourceServers.find(made.identifier), undefined)
  t.false(await resourceServers.remove(made.identifier))
})

test('finds and removes no API by U+0000 or half a surrogate pair', async (t) => {
  await resourceServers.insert({ ...api(), identifier: 'https://odd.example/\ufffd' })
  for (const odd of ['\0', '\ud800']) {
    t.is(await resourceServers.find(`https://odd.example/${odd}`), undefined)
    t.false(await resourceServers.remove(`https://odd.example/${odd}`))
  }
})

let registrationDatabase: Database
let registrationClients: ClientTable
let registrationTable: RegistrationTable
test.serial.before(async () => {
  registrationDatabase = await openDatabase(url.url, { onError: () => {}, poolSize: 16 })
  registrationClients = createClientTable(registrationDatabase)
  registrationTable = createRegistrationTable(registrationDatabase)
})
test.after.always('closes the pool', () => registrationDatabase?.[Symbol.asyncDispose]())

const day = 24 * 60 * 60

async function initialToken({ uses = 1, expiresIn = day } = {}) {
  const token = randomUUID()
  const stored = await registrationTable.insertInitialToken(token, {
    name: token,
    policy: defaultPolicy,
    bearer: false,
    jkt: null,
    uses,
    lifetimeS: expiresIn,
  })
  return { token, stored }
}

async function register(initialToken: string, changes = {}) {
  const metadata = { client_id: randomUUID(), client_name: 'Shop', ...changes }
  const registrationToken = randomUUID()
  const done = await registrationTable.register({
    initialToken,
    registrationToken,
    jkt: 'key',
    metadata,
  })
  return { done, metadata, registrationToken }
}

test('of 16 concurrent uses as many succeed as there are uses', async (t) => {
  const { token } = await initialToken({ uses: 3 })
  const results = await Promise.all(Array.from({ length: 16 }, () => register(token)))
  t.is(results.filter(({ done }) => done).length, 3)
  for (const { done, metadata } of results) {
    t.is((await registrationClients.find(metadata.client_id)) !== undefined, done)
  }
  t.is(await registrationTable.findInitialToken(token), undefined)
})

test('a client_id that is taken uses nothing up', async (t) => {
  const { token } = await initialToken()
  const { metadata } = await register((await initialToken()).token)
  await t.throwsAsync(register(token, { client_id: metadata.client_id }))
  t.is((await registrationTable.findInitialToken(token))?.usesLeft, 1)
})

test('a registration is found by its own token, and has the policy it came with', async (t) => {
  const { token, stored } = await initialToken()
  const { metadata, registrationToken } = await register(token)
  t.is(await registrationTable.removeInitialToken(stored.id), stored.name)
  t.deepEqual(await registrationTable.find(metadata.client_id, registrationToken), {
    metadata,
    policy: defaultPolicy,
    jkt: 'key',
  })
  t.is(await registrationTable.find(metadata.client_id, randomUUID()), undefined)
  t.is(await registrationTable.find(randomUUID(), registrationToken), undefined)
})

test('a change is made once, and only to what was read', async (t) => {
  const { metadata } = await register((await initialToken()).token)
  const changed = { ...metadata, client_name: 'New' }
  t.true(await registrationClients.replace(metadata, changed))
  t.false(await registrationClients.replace(metadata, { ...metadata, client_name: 'Late' }))
  t.deepEqual(await registrationClients.find(metadata.client_id), changed)
})

test('a removed client takes its registration with it', async (t) => {
  const { metadata, registrationToken } = await register((await initialToken()).token)
  t.true(await registrationClients.remove(metadata.client_id))
  t.is(await registrationTable.find(metadata.client_id, registrationToken), undefined)
  t.false(await registrationClients.replace(metadata, metadata))
})

test.serial('removes tokens that expired a month ago, and no others', async (t) => {
  const old = [-31, -40].map((days) => initialToken({ expiresIn: days * day }))
  const kept = [-29, 1].map((days) => initialToken({ expiresIn: days * day }))
  const [, oldIds, keptIds] = [
    await Promise.all([...old, ...kept]),
    (await Promise.all(old)).map(({ stored }) => stored.id),
    (await Promise.all(kept)).map(({ stored }) => stored.id),
  ]
  t.is((await registrationTable.removeExpired(1)).rows, 1)
  t.is((await registrationTable.removeExpired(100)).rows, 1)
  t.is((await registrationTable.removeExpired(100)).rows, 0)
  const left = (await registrationTable.listInitialTokens()).map(({ id }) => id)
  t.true(keptIds.every((id) => left.includes(id)))
  t.false(oldIds.some((id) => left.includes(id)))
})

const settings = useTestDatabase(test)
let auditDatabase: Database

test.before(async () => {
  auditDatabase = await openDatabase(settings.url, { onError: () => {} })
})
test.after.always(() => auditDatabase?.[Symbol.asyncDispose]())

const row = (event: string, changes = {}) => ({ at: new Date(), event, details: {}, ...changes })

const age = (days: number) => new Date(Date.now() - days * 24 * 60 * 60 * 1000)

test('rows come back in their order, with everything that was said', async (t) => {
  const table = createAuditTable(auditDatabase)
  // Younger than what the test below removes.
  const at = age(1)
  const said = {
    at,
    event: 'order',
    actor: 'cli',
    account: 'a',
    client: 'c',
    address: '192.0.2.7',
    requestId: 'r',
    details: { state: 'with U+0000: \u0000', list: [1] },
  }
  await table.append([said, row('order')])
  const [first, second] = await table.list({ event: 'order', limit: 10 })
  t.like(first, said)
  t.like(second, { event: 'order', actor: null, account: null, details: {} })
  t.true((first?.id ?? 0) < (second?.id ?? 0))
})

test('a list can be narrowed and gone on with', async (t) => {
  const table = createAuditTable(auditDatabase)
  await table.append([
    row('narrow', { account: 'ada', at: age(2) }),
    row('narrow', { account: 'ada', client: 'app' }),
    row('narrow', { account: 'bob' }),
  ])
  const count = async (query: object) =>
    (await table.list({ event: 'narrow', limit: 10, ...query })).length
  t.is(await count({}), 3)
  t.is(await count({ account: 'ada' }), 2)
  t.is(await count({ client: 'app' }), 1)
  t.is(await count({ since: age(1) }), 2)
  t.is(await count({ limit: 1 }), 1)
  t.is(await table.count({ event: 'narrow' }), 3)
  t.is(await table.count({ event: 'narrow', account: 'ada', since: age(1) }), 1)
  t.is(await table.count({ event: 'narrow', client: 'nobody' }), 0)
  const [first] = await table.list({ event: 'narrow', limit: 1 })
  t.is(await count({ after: first?.id }), 2)
})

for (const [title, text] of [
  ['changed', "update audit_events set event = 'nothing happened'"],
  ['removed', 'delete from audit_events'],
  ['emptied', 'truncate audit_events'],
] as const) {
  test(`what was written cannot be ${title}`, async (t) => {
    await createAuditTable(auditDatabase).append([row('kept')])
    await t.throwsAsync(auditDatabase.query({ text }), { message: /append-only/ })
  })
}

test('what is older than 90 days can be removed', async (t) => {
  const table = createAuditTable(auditDatabase)
  await auditDatabase.query({
    text: `insert into audit_events (at, event, details) values ($1, 'old', '{}'), ($2, 'young', '{}')`,
    values: [age(91), age(89)],
  })
  await auditDatabase.query({ text: 'delete from audit_events where at < $1', values: [age(90)] })
  t.deepEqual(await table.list({ event: 'old', limit: 10 }), [])
  t.is((await table.list({ event: 'young', limit: 10 })).length, 1)
})

test('takes rows by the statement of the release before', async (t) => {
  await auditDatabase.query({
    text: `with turn as materialized (select pg_advisory_xact_lock($1))
           insert into audit_events
                  (at, event, actor, account, client, address, request_id, details)
           select new.* from turn, unnest($2::timestamptz[], $3::text[], $4::text[], $5::text[],
                  $6::text[], $7::text[], $8::text[], $9::json[]) as new`,
    values: [1, [new Date()], ['before'], ['cli'], [null], [null], [null], [null], ['{}']],
  })
  const [stored] = await createAuditTable(auditDatabase).list({ event: 'before', limit: 1 })
  t.like(stored, { event: 'before', actor: 'cli', account: null })
})

test('moves a time that only a wrong clock can show to the nearest possible one', async (t) => {
  const table = createAuditTable(auditDatabase)
  await table.append([row('clock', { at: age(4000) }), row('clock', { at: age(-4000) })])
  const days = (await table.list({ event: 'clock', limit: 10 })).map(({ at }) =>
    Math.round((Date.now() - at.getTime()) / 86_400_000),
  )
  t.deepEqual(days, [28, -28])
})

test('drops whole months that are out of retention, never one younger than 90 days', async (t) => {
  await using own = await openTestDatabase()
  await using database = await openDatabase(own.url, { onError: () => {} })
  const query = async (text: string) => (await database.query({ text })).rows
  const table = createAuditTable(database)
  const dropped: string[] = []
  const keep = (retentionDays: number | undefined) =>
    table
      .months({ retentionDays, onDropped: (months) => dropped.push(...months) })
      .removeExpired(1000)
  await keep(90)
  t.deepEqual(dropped, [], 'the first part holds the present')
  await query(`do $$ declare part text := (select relname from pg_class where relkind = 'r'
      and relname ~ '^audit_events_until_[0-9_]+$'); begin execute 'drop table ' || part; end $$`)
  const months = [9, 5, 2].map((ago) => monthBefore(ago))
  for (const { name, from, to } of months) {
    await query(
      `create table ${name} partition of audit_events for values from ('${from}') to ('${to}')`,
    )
    await query(`insert into audit_events (at, event, details) values ('${from}', '${name}', '{}')`)
  }
  await keep(undefined)
  t.deepEqual(dropped, [])
  await keep(210)
  t.deepEqual(dropped, [months[0]?.name])
  // Less than 90 is 90: the month before the last has not ended for that long.
  await keep(1)
  t.deepEqual(dropped, [months[0]?.name, months[1]?.name])
  t.is((await query('select from audit_events')).length, 1)
})

test('makes the month of an event where no server has made it', async (t) => {
  await using own = await openTestDatabase()
  await using database = await openDatabase(own.url, { onError: () => {} })
  await database.query({
    text: `do $$ declare part text; begin for part in select inhrelid::regclass::text from pg_inherits
             where inhparent = 'audit_events'::regclass
           loop execute 'drop table ' || part; end loop; end $$`,
  })
  const table = createAuditTable(database)
  await table.append([row('late')])
  t.is((await table.list({ limit: 2 })).length, 1)
})

// Alone: another test removes what is older than 90 days.
test.serial('reads the events of a time in the order of their times, each once', async (t) => {
  const table = createAuditTable(auditDatabase)
  await auditDatabase.query({
    text: `insert into audit_events (at, event, details)
           select '2001-02-03'::timestamptz + n / 4 * interval '300 microseconds', 'between', '{}'
             from generate_series(0, 2499) as n`,
  })
  const read: StoredAuditRow[] = []
  const [from, to] = [new Date('2001-02-03'), new Date('2001-02-04')]
  for await (const each of table.between(from, to)) read.push(each)
  t.is(new Set(read.map(({ id }) => id)).size, 2500)
  t.is(read.length, 2500)
  t.deepEqual(
    read.map(({ at }) => at.getTime()),
    read.map(({ at }) => at.getTime()).sort((a, b) => a - b),
  )
})

/** A month of UTC, and the name of its part of the table. */
function monthBefore(ago: number) {
  const now = new Date()
  const first = (back: number) => new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - back))
  const [from, to] = [first(ago).toISOString(), first(ago - 1).toISOString()]
  return { name: `audit_events_${from.slice(0, 7).replace('-', '_')}`, from, to }
}

test.serial('continues after an id beyond 2^31', async (t) => {
  const table = createAuditTable(auditDatabase)
  await auditDatabase.query({ text: 'alter table audit_events alter id restart with 2147483646' })
  await table.append(Array.from({ length: 4 }, () => row('far')))
  let after = 0
  for (let count = 0; count < 4; count += 1) {
    const [next] = await table.list({ event: 'far', after, limit: 1 })
    after = next?.id ?? 0
  }
  t.is(after, 2 ** 31 + 1)
})

test.serial('rejects an id that JavaScript would round', async (t) => {
  const table = createAuditTable(auditDatabase)
  await auditDatabase.query({
    text: `insert into audit_events (id, at, event, details) overriding system value
           values (9007199254740993, now(), 'rounded', '{}')`,
  })
  const error = await t.throwsAsync(table.list({ event: 'rounded', limit: 1 }), {
    instanceOf: StorageError,
  })
  t.is(error?.code, 'audit_id_unsafe')
  t.regex(error?.message ?? '', /9007199254740993/)
})

for (const [title, details, kept] of [
  ['one long string', { reason: 'mismatch', detail: 'x'.repeat(1e5) }, 'reason detail'],
  ['many members', Object.fromEntries([...Array(1e4).keys()].map((n) => [`n${n}`, n])), 'cut'],
  ['strings that JSON escapes', { list: Array(500).fill('\u0001'.repeat(200)) }, 'cut'],
  ['strings of four bytes a character', { a: '😀'.repeat(1e4) }, 'a'],
] as const) {
  test(`cuts details with ${title}`, async (t) => {
    const event = `cut: ${title}`
    await createAuditTable(auditDatabase).append([row(event, { details })])
    const { rows } = await auditDatabase.query<{ bytes: number; details: object }>({
      text: 'select octet_length(details::text) as bytes, details from audit_events where event = $1',
      values: [event],
    })
    t.true((rows[0]?.bytes ?? Infinity) <= detailsLimitBytes)
    t.is(Object.keys(rows[0]?.details ?? {}).join(' '), kept)
  })
}

test('cuts names and replaces what no text column can hold', async (t) => {
  const table = createAuditTable(auditDatabase)
  await table.append([row('names', { client: `a\0${'x'.repeat(1e5)}`, account: '\ud800' })])
  const [stored] = await table.list({ event: 'names', limit: 1 })
  t.is(stored?.client, `a\ufffd${'x'.repeat(254)}`)
  t.is(stored?.account, '\ufffd')
})

// It holds the lock of every writer: alone, so that the pool has a connection to look with.
test.serial('no row becomes visible after one with a greater id', async (t) => {
  const table = createAuditTable(auditDatabase)
  const slow = new pg.Client({ connectionString: settings.url })
  await slow.connect()
  try {
    await slow.query('begin')
    await slow.query('select pg_advisory_xact_lock($1)', [4_815_162_343])
    let written = false
    const second = table.append([row('turn', { actor: 'second' })]).then(() => {
      written = true
    })
    while (!written && !(await someoneWaits(auditDatabase)));
    await slow.query(
      "insert into audit_events (at, event, actor, details) values (now(), 'turn', 'first', '{}')",
    )
    await slow.query('commit')
    await second
    t.deepEqual(
      (await table.list({ event: 'turn', limit: 10 })).map(({ actor }) => actor),
      ['first', 'second'],
    )
  } finally {
    await slow.end()
  }
})

async function someoneWaits(database: Database): Promise<boolean> {
  const { rowCount } = await database.query({
    text: `select from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'`,
  })
  return rowCount > 0
}
let pollsDatabase: Database
let pollsTable: DevicePollTable

test.before(async () => {
  pollsDatabase = await openDatabase(settings.url, { onError: () => {} })
  pollsTable = createDevicePollTable(pollsDatabase)
})
test.after.always(() => pollsDatabase?.[Symbol.asyncDispose]())

const until = () => Date.now() / 1000 + 60
const take = (id: Buffer) => pollsTable.take(id, { pause: 5, expiresAt: until() })

/** Puts the last request of a device into the past. */
const wait = (id: Buffer, seconds: number) =>
  pollsDatabase.query({
    text: 'update device_polls set due = due - make_interval(secs => $2) where id = $1',
    values: [id, seconds],
  })

test('the first one has waited long enough', async (t) => {
  t.true(await take(randomBytes(32)))
})

test('of sixteen at once one has', async (t) => {
  const id = randomBytes(32)
  const answers = await Promise.all(Array.from({ length: 16 }, () => take(id)))
  t.is(answers.filter(Boolean).length, 1)
})

test('who waits as told is never early', async (t) => {
  const id = randomBytes(32)
  for (let count = 0; count < 3; count += 1) {
    t.true(await take(id))
    await wait(id, 5)
  }
})

test('each early one makes the wait longer, for good', async (t) => {
  const id = randomBytes(32)
  await take(id)
  await wait(id, -60)
  t.false(await take(id))
  await wait(id, 4)
  t.false(await take(id))
  await wait(id, 14)
  t.true(await take(id))
  await wait(id, 4)
  t.false(await take(id))
})

test('another device is not affected', async (t) => {
  const id = randomBytes(32)
  await take(id)
  t.false(await take(id))
  t.true(await take(randomBytes(32)))
})

test('what has ended is removed', async (t) => {
  await pollsTable.take(randomBytes(32), { pause: 5, expiresAt: 0 })
  t.true((await pollsTable.removeExpired(10)).rows >= 1)
  t.is(await pollsTable.countExpired(10), 0)
})

let replaysDatabase: Database
let replaysTable: ReplayTable
test.serial.before(async () => {
  replaysDatabase = await openDatabase(url.url, { onError: () => {}, poolSize: 16 })
  replaysTable = createReplayTable(replaysDatabase)
})
test.after.always('closes the pool', () => replaysDatabase?.[Symbol.asyncDispose]())

const soon = () => Date.now() / 1000 + 60

test('takes a value once', async (t) => {
  const value = randomUUID()
  t.true(await replaysTable.recordReplay('client', value, soon()))
  t.false(await replaysTable.recordReplay('client', value, soon()))
})

test('takes the same value of another issuer', async (t) => {
  const value = randomUUID()
  t.true(await replaysTable.recordReplay('client', value, soon()))
  t.true(await replaysTable.recordReplay('another client', value, soon()))
})

test('takes a value once of 16 concurrent times', async (t) => {
  const value = randomUUID()
  const recorded = await Promise.all(
    Array.from({ length: 16 }, () => replaysTable.recordReplay('client', value, soon())),
  )
  t.is(recorded.filter(Boolean).length, 1)
})

test('no two pairs of issuer and value are one', async (t) => {
  const pairs = [
    ['ab', 'c'],
    ['a', 'bc'],
    ['', 'abc'],
    ['abc', ''],
    ['1:a', 'b'],
    ['1', ':ab'],
    ['2:ab', 'c'],
    ['a\0', 'b'],
    ['a', '\0b'],
    ['aa', '3:b'],
  ] as const
  for (const [issuer, value] of pairs)
    t.true(await replaysTable.recordReplay(issuer, value, soon()))
  for (const [issuer, value] of pairs)
    t.false(await replaysTable.recordReplay(issuer, value, soon()))
})

test('takes values that are no text for PostgreSQL, and any length of them', async (t) => {
  for (const value of ['\0', '\ud800', 'x'.repeat(100_000)]) {
    t.true(await replaysTable.recordReplay('odd client', value, soon()))
    t.false(await replaysTable.recordReplay('odd client', value, soon()))
  }
})

test('keeps neither issuer nor value', async (t) => {
  await replaysTable.recordReplay('a telling issuer', 'a telling value', soon())
  const { rows } = await replaysDatabase.query<{ row: string }>({
    text: 'select replay_marks::text as row from replay_marks',
  })
  t.true(rows.length > 0)
  for (const { row } of rows) t.notRegex(row, /telling/)
})

test('does not take a value again whose mark has ended and was not removed yet', async (t) => {
  const value = randomUUID()
  const past = Date.now() / 1000 - 60
  t.true(await replaysTable.recordReplay('client', value, past))
  t.false(await replaysTable.recordReplay('client', value, soon()))
})

const replayDatabase = useTestDatabase(test)
const later = Math.floor(Date.now() / 1000) + 300

async function openNode() {
  const pool = await openDatabase(replayDatabase.url, { onError: () => {} })
  return { pool, replays: createReplayTable(pool) }
}

test('of equal marks that go together one is new', async (t) => {
  const { pool, replays } = await openNode()
  // The first goes at once, and the others together after it.
  const recorded = ['first', 'second', 'same', 'same', 'other', 'same'].map((value) =>
    replays.recordReplay('client', value, later),
  )
  t.deepEqual(await Promise.all(recorded), [true, true, true, false, true, false])
  await pool[Symbol.asyncDispose]()
})

test('nodes that mark the same values in opposite orders do not wait for each other', async (t) => {
  const nodes = await Promise.all([openNode(), openNode()])
  const values = ['a', 'b', 'c', 'd', 'e', 'f', 'g']
  const recordAll = (replays: ReplayTable, order: readonly string[]) => async () => {
    // The first goes at once, and the others together after it.
    const recorded = [`before ${order}`, ...order].map((value) =>
      replays.recordReplay('client', value, later),
    )
    return (await Promise.all(recorded)).slice(1)
  }
  const [forth, back] = await raceFor(
    replayDatabase.url,
    {
      text: `insert into replay_marks (id, expires_at)
             values (sha256(convert_to('6:clientd', 'UTF8')), now())`,
      andThen: 'rollback',
    },
    nodes.map(({ replays }, node) => recordAll(replays, node ? values.toReversed() : values)),
  )
  t.deepEqual(
    forth?.map((fresh, at) => fresh !== back?.toReversed()[at]),
    values.map(() => true),
  )
  for (const { pool } of nodes) await pool[Symbol.asyncDispose]()
})

test('the issuer and the value of a mark are two things', async (t) => {
  const { pool, replays } = await openNode()
  t.true(await replays.recordReplay('ab', 'c', later))
  t.true(await replays.recordReplay('a', 'bc', later))
  await pool[Symbol.asyncDispose]()
})

const text = 'https://id.example.com/authorize/💧'

test('opens under the same identifier', (t) => {
  t.is(unseal('an identifier', seal('an identifier', text)), text)
  t.is(unseal('an identifier', seal('an identifier', '')), '')
})

test('does not open under another identifier', (t) => {
  t.throws(() => unseal('another identifier', seal('an identifier', text)))
})

test('does not open when a byte was changed or cut off', (t) => {
  const sealed = Buffer.from(seal('an identifier', text), 'base64url')
  for (const at of [0, 12, sealed.length - 1]) {
    const changed = Buffer.from(sealed)
    changed[at] = (changed[at] ?? 0) ^ 1
    t.throws(() => unseal('an identifier', changed.toString('base64url')))
  }
  t.throws(() => unseal('an identifier', sealed.subarray(0, -1).toString('base64url')))
  t.throws(() => unseal('an identifier', ''))
})

test('looks different each time', (t) => {
  t.not(seal('an identifier', text), seal('an identifier', text))
})
