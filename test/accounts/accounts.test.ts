import test from 'ava'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { createBoundedQueue, QueueFullError } from '../../src/accounts/bounded-queue.ts'
import { readEmail } from '../../src/accounts/email.ts'
import { verifyPassword } from '../../src/accounts/password.ts'
import { authenticated, CHEAP, PASSWORD } from '../support/accounts.ts'
import { createMemoryAccountStore } from '../support/memory-account-store.ts'
import { until } from '../support/until.ts'

async function withAda(options = {}) {
  const store = createMemoryAccountStore()
  const accounts = createAccounts({ store, cost: CHEAP, ...options })
  const ada = await accounts.add({ email: 'ada@example.com', name: 'Ada', password: PASSWORD })
  return { store, accounts, ada }
}

test('adds an account from plain data', async (t) => {
  const { accounts, ada } = await withAda({ randomUUID: () => 'id-1', now: () => 0 })
  t.deepEqual(ada, {
    id: 'id-1',
    email: 'ada@example.com',
    name: 'Ada',
    disabled: false,
    createdAt: new Date(0),
  })
  t.deepEqual(await accounts.list(), [ada])
})

test('authenticates by email and password', async (t) => {
  const { accounts, ada } = await withAda()
  t.deepEqual(await authenticated(accounts, ' ADA@example.com', PASSWORD), ada)
})

test('checks passwords in turn, and refuses those that are too many', async (t) => {
  const queue = createBoundedQueue({ atOnce: 1, waiting: 1, patienceMs: 60_000 })
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const { accounts, ada } = await withAda({ queue, verify: () => promise })
  const signIn = () => authenticated(accounts, 'ada@example.com', PASSWORD)
  const accepted = [signIn(), signIn()]
  await until(async () => accounts.isBusy())
  await t.throwsAsync(signIn(), { instanceOf: QueueFullError })
  resolve(true)
  t.deepEqual(await Promise.all(accepted), [ada, ada])
  t.false(accounts.isBusy())
})

test('refuses a wrong password', async (t) => {
  const { accounts } = await withAda()
  t.is(await authenticated(accounts, 'ada@example.com', 'another password'), undefined)
})

test('refuses an unknown email', async (t) => {
  const { accounts } = await withAda()
  t.is(await authenticated(accounts, 'eve@example.com', PASSWORD), undefined)
})

test('refuses what is no email at all', async (t) => {
  const { accounts } = await withAda()
  t.is(await authenticated(accounts, 'ada', PASSWORD), undefined)
})

test('names the account of a failed sign-in where there is one', async (t) => {
  const { accounts, ada } = await withAda()
  const attempt = (typed: string) => accounts.authenticate(readEmail(typed), 'another password')
  t.deepEqual(await attempt('ADA@example.com'), { account: undefined, of: ada.id })
  t.deepEqual(await attempt('eve@example.com'), { account: undefined, of: undefined })
})

test('refuses a disabled account, and takes it back when enabled', async (t) => {
  const { accounts, ada } = await withAda()
  await accounts.disable('ada@example.com')
  t.is(await authenticated(accounts, 'ada@example.com', PASSWORD), undefined)
  t.is(await accounts.findActive(ada.id), undefined)
  await accounts.enable('ada@example.com')
  t.deepEqual(await authenticated(accounts, 'ada@example.com', PASSWORD), ada)
})

test('verifies one hash of the same cost for a wrong password, an unknown and a disabled account', async (t) => {
  const verified: string[] = []
  const { accounts } = await withAda({
    verify: (hash: string, password: string) => {
      verified.push(hash.slice(0, hash.indexOf('$', '$argon2id$v=19$'.length)))
      return verifyPassword(hash, password)
    },
  })
  await authenticated(accounts, 'ada@example.com', 'another password')
  await authenticated(accounts, 'eve@example.com', PASSWORD)
  await authenticated(accounts, 'no email', PASSWORD)
  await accounts.disable('ada@example.com')
  await authenticated(accounts, 'ada@example.com', PASSWORD)
  t.deepEqual(verified, Array(4).fill('$argon2id$v=19$m=8,t=1,p=1'))
})

test('hashes nothing longer than a password may be', async (t) => {
  const { accounts } = await withAda({ verify: () => t.fail('verified') })
  t.is(await authenticated(accounts, 'ada@example.com', 'a'.repeat(1025)), undefined)
})

test('a failing store is an error, not a refusal', async (t) => {
  const { accounts, store } = await withAda()
  store.findByEmail = () => Promise.reject(new Error('connection lost'))
  await t.throwsAsync(authenticated(accounts, 'ada@example.com', PASSWORD), {
    message: 'connection lost',
  })
})

test('rehashes on sign-in when the cost grew', async (t) => {
  const { store } = await withAda()
  const grown = createAccounts({ store, cost: { ...CHEAP, timeCost: 2 } })
  t.truthy(await authenticated(grown, 'ada@example.com', PASSWORD))
  t.regex((await store.findByEmail('ada@example.com'))?.passwordHash ?? '', /t=2/)
  t.truthy(await authenticated(grown, 'ada@example.com', PASSWORD))
})

test('a wrong password rehashes nothing', async (t) => {
  const { store } = await withAda()
  const grown = createAccounts({ store, cost: { ...CHEAP, timeCost: 2 } })
  await authenticated(grown, 'ada@example.com', 'another password')
  t.regex((await store.findByEmail('ada@example.com'))?.passwordHash ?? '', /t=1/)
})

test('a rehash does not undo a password set meanwhile', async (t) => {
  const { store, accounts } = await withAda()
  const replace = store.replacePasswordHash
  store.replacePasswordHash = async (...swap) => {
    await accounts.setPassword('ada@example.com', 'set while signing in')
    await replace(...swap)
  }
  const grown = createAccounts({ store, cost: { ...CHEAP, timeCost: 2 } })
  await authenticated(grown, 'ada@example.com', PASSWORD)
  t.is(await authenticated(accounts, 'ada@example.com', PASSWORD), undefined)
  t.truthy(await authenticated(accounts, 'ada@example.com', 'set while signing in'))
})

test('sets a password', async (t) => {
  const { accounts } = await withAda()
  await accounts.setPassword('Ada@example.com', 'a quite different one')
  t.is(await authenticated(accounts, 'ada@example.com', PASSWORD), undefined)
  t.truthy(await authenticated(accounts, 'ada@example.com', 'a quite different one'))
})

test('rejects a second account for one email, however it is written', async (t) => {
  const { accounts } = await withAda()
  const again = accounts.add({ email: 'ADA@Example.com', password: PASSWORD })
  t.like(await t.throwsAsync(again), { code: 'email_taken' })
})

test('of many who add one email at once, one succeeds', async (t) => {
  const { accounts } = await withAda()
  const added = await Promise.allSettled(
    Array.from({ length: 8 }, () => accounts.add({ email: 'eve@example.com', password: PASSWORD })),
  )
  t.is(added.filter(({ status }) => status === 'fulfilled').length, 1)
})

for (const [title, change, code] of [
  ['a short password', { password: 'too short' }, 'password_too_short'],
  ['a bad email', { email: 'eve' }, 'invalid_email'],
  ['an empty name', { name: ' ' }, 'invalid_name'],
  ['a name of two lines', { name: 'Eve\nEvil' }, 'invalid_name'],
  ['a very long name', { name: 'e'.repeat(201) }, 'invalid_name'],
  ['a name of 10 KB', { name: 'e'.repeat(10_240) }, 'invalid_name'],
  ['a name that turns the text', { name: 'Eve\u202e' }, 'invalid_name'],
  ['a name that nobody sees', { name: '\u200b' }, 'invalid_name'],
  ['a name with tags', { name: 'Eve\u{e0041}' }, 'invalid_name'],
  ['half a surrogate pair', { name: 'Eve\ud800' }, 'invalid_name'],
] as const) {
  test(`adds nobody with ${title}`, async (t) => {
    const { accounts } = await withAda()
    const add = accounts.add({ email: 'eve@example.com', password: PASSWORD, ...change })
    t.like(await t.throwsAsync(add), { name: 'AccountError', code })
    t.is((await accounts.list()).length, 1)
  })
}

for (const [title, act] of [
  ['disable', 'disable'],
  ['enable', 'enable'],
] as const) {
  test(`cannot ${title} an account that does not exist`, async (t) => {
    const { accounts } = await withAda()
    t.like(await t.throwsAsync(accounts[act]('eve@example.com')), { code: 'account_not_found' })
  })
}

test('cannot set the password of an account that does not exist', async (t) => {
  const { accounts } = await withAda()
  const set = accounts.setPassword('eve@example.com', PASSWORD)
  t.like(await t.throwsAsync(set), { code: 'account_not_found' })
})

test('keeps the old password when the new one is too short', async (t) => {
  const { accounts } = await withAda()
  t.like(await t.throwsAsync(accounts.setPassword('ada@example.com', 'short')), {
    code: 'password_too_short',
  })
  t.truthy(await authenticated(accounts, 'ada@example.com', PASSWORD))
})
