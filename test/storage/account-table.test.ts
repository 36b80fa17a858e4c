import { randomUUID } from 'node:crypto'
import test from 'ava'
import type { Account, AccountStore } from '../../src/storage/account-store.ts'
import { createAccountTable } from '../../src/storage/account-table.ts'
import { type Database, openDatabase } from '../../src/storage/database.ts'
import { useTestDatabase } from '../support/database.ts'

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
