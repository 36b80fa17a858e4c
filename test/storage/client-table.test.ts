import { randomUUID } from 'node:crypto'
import test from 'ava'
import { type ClientTable, createClientTable } from '../../src/storage/client-table.ts'
import { type Database, openDatabase } from '../../src/storage/database.ts'
import {
  createResourceServerTable,
  type ResourceServerTable,
} from '../../src/storage/resource-server-table.ts'
import { useTestDatabase } from '../support/database.ts'

const url = useTestDatabase(test)

let database: Database
let clients: ClientTable
let resourceServers: ResourceServerTable
test.serial.before(async () => {
  database = await openDatabase(url.url, { onError: () => {}, poolSize: 16 })
  clients = createClientTable(database)
  resourceServers = createResourceServerTable(database)
})
test.after.always('closes the pool', () => database?.[Symbol.asyncDispose]())

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
  t.deepEqual(await resourceServers.find(made.identifier), { ...made, signingAlg: 'ES256' })
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
