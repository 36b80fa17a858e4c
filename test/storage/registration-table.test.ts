import { randomUUID } from 'node:crypto'
import test from 'ava'
import { defaultPolicy } from '../../src/clients/registration-policy.ts'
import { type ClientTable, createClientTable } from '../../src/storage/client-table.ts'
import { type Database, openDatabase } from '../../src/storage/database.ts'
import {
  createRegistrationTable,
  type RegistrationTable,
} from '../../src/storage/registration-table.ts'
import { useTestDatabase } from '../support/database.ts'

const url = useTestDatabase(test)

let database: Database
let clients: ClientTable
let table: RegistrationTable
test.serial.before(async () => {
  database = await openDatabase(url.url, { onError: () => {}, poolSize: 16 })
  clients = createClientTable(database)
  table = createRegistrationTable(database)
})
test.after.always('closes the pool', () => database?.[Symbol.asyncDispose]())

const day = 24 * 60 * 60

async function initialToken({ uses = 1, expiresIn = day } = {}) {
  const token = randomUUID()
  const stored = await table.insertInitialToken(token, {
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
  const done = await table.register({ initialToken, registrationToken, jkt: 'key', metadata })
  return { done, metadata, registrationToken }
}

test('of 16 concurrent uses as many succeed as there are uses', async (t) => {
  const { token } = await initialToken({ uses: 3 })
  const results = await Promise.all(Array.from({ length: 16 }, () => register(token)))
  t.is(results.filter(({ done }) => done).length, 3)
  for (const { done, metadata } of results) {
    t.is((await clients.find(metadata.client_id)) !== undefined, done)
  }
  t.is(await table.findInitialToken(token), undefined)
})

test('a client_id that is taken uses nothing up', async (t) => {
  const { token } = await initialToken()
  const { metadata } = await register((await initialToken()).token)
  await t.throwsAsync(register(token, { client_id: metadata.client_id }))
  t.is((await table.findInitialToken(token))?.usesLeft, 1)
})

test('a registration is found by its own token, and has the policy it came with', async (t) => {
  const { token, stored } = await initialToken()
  const { metadata, registrationToken } = await register(token)
  t.is(await table.removeInitialToken(stored.id), stored.name)
  t.deepEqual(await table.find(metadata.client_id, registrationToken), {
    metadata,
    policy: defaultPolicy,
    jkt: 'key',
  })
  t.is(await table.find(metadata.client_id, randomUUID()), undefined)
  t.is(await table.find(randomUUID(), registrationToken), undefined)
})

test('a change is made once, and only to what was read', async (t) => {
  const { metadata } = await register((await initialToken()).token)
  const changed = { ...metadata, client_name: 'New' }
  t.true(await clients.replace(metadata, changed))
  t.false(await clients.replace(metadata, { ...metadata, client_name: 'Late' }))
  t.deepEqual(await clients.find(metadata.client_id), changed)
})

test('a removed client takes its registration with it', async (t) => {
  const { metadata, registrationToken } = await register((await initialToken()).token)
  t.true(await clients.remove(metadata.client_id))
  t.is(await table.find(metadata.client_id, registrationToken), undefined)
  t.false(await clients.replace(metadata, metadata))
})

test.serial('removes tokens that expired a month ago, and no others', async (t) => {
  const old = [-31, -40].map((days) => initialToken({ expiresIn: days * day }))
  const kept = [-29, 1].map((days) => initialToken({ expiresIn: days * day }))
  const [, oldIds, keptIds] = [
    await Promise.all([...old, ...kept]),
    (await Promise.all(old)).map(({ stored }) => stored.id),
    (await Promise.all(kept)).map(({ stored }) => stored.id),
  ]
  t.is(await table.removeExpired(1), 1)
  t.is(await table.removeExpired(100), 1)
  t.is(await table.removeExpired(100), 0)
  const left = (await table.listInitialTokens()).map(({ id }) => id)
  t.true(keptIds.every((id) => left.includes(id)))
  t.false(oldIds.some((id) => left.includes(id)))
})
