import { pbkdf2Sync } from 'node:crypto'
import test from 'ava'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { createBoundedQueue, QueueFullError } from '../../src/accounts/bounded-queue.ts'
import { accountClaims, createFindAccount, mappedClaims } from '../../src/accounts/claims.ts'
import { normalizeEmail, readEmail } from '../../src/accounts/email.ts'
import {
  checkPasswordLength,
  decoyHash,
  defaultPasswordCost,
  generatePassword,
  hashingOnSharedThreads,
  hashPassword,
  maxPasswordBytes,
  needsRehash,
  verifyPassword,
} from '../../src/accounts/password.ts'
import { readPasswordHash } from '../../src/accounts/password-hash.ts'
import { checkedChange } from '../../src/accounts/profile.ts'
import { readUsername } from '../../src/accounts/username.ts'
import { authenticated, cheapCost, testPassword } from '../support/accounts.ts'
import { createMemoryAccountStore } from '../support/memory-account-store.ts'
import { until } from '../support/until.ts'

async function withAda(options = {}) {
  const store = createMemoryAccountStore()
  const accounts = createAccounts({ store, cost: cheapCost, ...options })
  const ada = await accounts.add({ email: 'ada@example.com', name: 'Ada', password: testPassword })
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
  t.deepEqual(await authenticated(accounts, ' ADA@example.com', testPassword), ada)
})

test('checks passwords in turn, and refuses those that are too many', async (t) => {
  const queue = createBoundedQueue({ atOnce: 1, waiting: 1, patienceMs: 60_000 })
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const { accounts, ada } = await withAda({
    queue,
    hashing: { ...hashingOnSharedThreads, verify: () => promise },
  })
  const signIn = () => authenticated(accounts, 'ada@example.com', testPassword)
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
  t.is(await authenticated(accounts, 'eve@example.com', testPassword), undefined)
})

test('refuses what is no email at all', async (t) => {
  const { accounts } = await withAda()
  t.is(await authenticated(accounts, 'ada', testPassword), undefined)
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
  t.is(await authenticated(accounts, 'ada@example.com', testPassword), undefined)
  t.is(await accounts.findActive(ada.id), undefined)
  await accounts.enable('ada@example.com')
  t.deepEqual(await authenticated(accounts, 'ada@example.com', testPassword), ada)
})

test('verifies one hash of the same cost for a wrong password, an unknown and a disabled account', async (t) => {
  const verified: string[] = []
  const { accounts } = await withAda({
    hashing: {
      ...hashingOnSharedThreads,
      verify(hash: string, password: string) {
        verified.push(hash.slice(0, hash.indexOf('$', '$argon2id$v=19$'.length)))
        return verifyPassword(hash, password)
      },
    },
  })
  await authenticated(accounts, 'ada@example.com', 'another password')
  await authenticated(accounts, 'eve@example.com', testPassword)
  await authenticated(accounts, 'no email', testPassword)
  await accounts.disable('ada@example.com')
  await authenticated(accounts, 'ada@example.com', testPassword)
  t.deepEqual(verified, Array(4).fill('$argon2id$v=19$m=8,t=1,p=1'))
})

test('hashes nothing longer than a password may be', async (t) => {
  const { accounts } = await withAda({
    hashing: { ...hashingOnSharedThreads, verify: () => t.fail('verified') },
  })
  t.is(await authenticated(accounts, 'ada@example.com', 'a'.repeat(1025)), undefined)
})

test('a failing store is an error, not a refusal', async (t) => {
  const { accounts, store } = await withAda()
  store.findByEmail = () => Promise.reject(new Error('connection lost'))
  await t.throwsAsync(authenticated(accounts, 'ada@example.com', testPassword), {
    message: 'connection lost',
  })
})

test('rehashes on sign-in when the cost grew', async (t) => {
  const { store } = await withAda()
  const grown = createAccounts({ store, cost: { ...cheapCost, timeCost: 2 } })
  t.truthy(await authenticated(grown, 'ada@example.com', testPassword))
  t.regex((await store.findByEmail('ada@example.com'))?.passwordHash ?? '', /t=2/)
  t.truthy(await authenticated(grown, 'ada@example.com', testPassword))
})

test('a wrong password rehashes nothing', async (t) => {
  const { store } = await withAda()
  const grown = createAccounts({ store, cost: { ...cheapCost, timeCost: 2 } })
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
  const grown = createAccounts({ store, cost: { ...cheapCost, timeCost: 2 } })
  await authenticated(grown, 'ada@example.com', testPassword)
  t.is(await authenticated(accounts, 'ada@example.com', testPassword), undefined)
  t.truthy(await authenticated(accounts, 'ada@example.com', 'set while signing in'))
})

test('sets a password', async (t) => {
  const { accounts } = await withAda()
  await accounts.setPassword('Ada@example.com', 'a quite different one')
  t.is(await authenticated(accounts, 'ada@example.com', testPassword), undefined)
  t.truthy(await authenticated(accounts, 'ada@example.com', 'a quite different one'))
})

test('rejects a second account for one email, however it is written', async (t) => {
  const { accounts } = await withAda()
  const again = accounts.add({ email: 'ADA@Example.com', password: testPassword })
  t.like(await t.throwsAsync(again), { code: 'email_taken' })
})

test('of many who add one email at once, one succeeds', async (t) => {
  const { accounts } = await withAda()
  const added = await Promise.allSettled(
    Array.from({ length: 8 }, () =>
      accounts.add({ email: 'eve@example.com', password: testPassword }),
    ),
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
    const add = accounts.add({ email: 'eve@example.com', password: testPassword, ...change })
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
  const set = accounts.setPassword('eve@example.com', testPassword)
  t.like(await t.throwsAsync(set), { code: 'account_not_found' })
})

test('keeps the old password when the new one is too short', async (t) => {
  const { accounts } = await withAda()
  t.like(await t.throwsAsync(accounts.setPassword('ada@example.com', 'short')), {
    code: 'password_too_short',
  })
  t.truthy(await authenticated(accounts, 'ada@example.com', testPassword))
})

const options = { atOnce: 2, waiting: 3, patienceMs: 60_000 }

/** Work that ends on request. */
function held() {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  return { work: () => promise, resolve, reject }
}

test('does so much at once, and the rest in its order', async (t) => {
  const queue = createBoundedQueue(options)
  const begun: number[] = []
  const works = Array.from({ length: 5 }, held)
  const results = works.map(({ work }, at) =>
    queue.run(() => {
      begun.push(at)
      return work()
    }),
  )
  await Promise.resolve()
  t.deepEqual(begun, [0, 1])
  works[1]?.reject(new Error('failed'))
  await t.throwsAsync(results[1] as Promise<string>, { message: 'failed' })
  t.deepEqual(begun, [0, 1, 2])
  for (const { resolve } of works) resolve('done')
  t.deepEqual(await Promise.all(results.toSpliced(1, 1)), Array(4).fill('done'))
  t.deepEqual(begun, [0, 1, 2, 3, 4])
})

test('refuses at once what is more than may wait', async (t) => {
  const queue = createBoundedQueue(options)
  const { work, resolve } = held()
  const accepted = Array.from({ length: 5 }, () => queue.run(work))
  t.true(queue.isFull())
  await t.throwsAsync(queue.run(work), { instanceOf: QueueFullError })
  resolve('done')
  await Promise.all(accepted)
  t.false(queue.isFull())
})

test('refuses what has waited for too long, and never begins it', async (t) => {
  const queue = createBoundedQueue({ ...options, atOnce: 1, patienceMs: 1 })
  const { work, resolve } = held()
  const first = queue.run(work)
  await t.throwsAsync(
    queue.run(async () => t.fail()),
    { instanceOf: QueueFullError },
  )
  resolve('done')
  t.is(await first, 'done')
  t.is(await queue.run(async () => 'next'), 'next')
})

const ada = {
  id: 'id-1',
  email: 'ada@example.com',
  name: 'Ada',
  disabled: false,
  createdAt: new Date(0),
}

type Context = Parameters<ReturnType<typeof createFindAccount>>[0]

test('an account becomes the standard claims, with an email nobody has verified', (t) => {
  t.deepEqual(accountClaims(ada), {
    sub: 'id-1',
    email: 'ada@example.com',
    email_verified: false,
    name: 'Ada',
    updated_at: 0,
  })
})

test('an email that an operator has verified says so', (t) => {
  t.true(accountClaims({ ...ada, emailVerified: true }).email_verified)
})

test('an account without a name claims none', (t) => {
  const { name: _, ...nameless } = ada
  t.false('name' in accountClaims(nameless))
})

test('an account becomes all claims of its profile, as of its last change', (t) => {
  const account = {
    ...ada,
    givenName: 'Augusta',
    familyName: 'King',
    preferredUsername: 'ada',
    locale: 'en-GB',
    zoneinfo: 'Europe/London',
    picture: 'https://example.com/ada.png',
    phone: '+4930123456',
    streetAddress: '12 St James’s Square',
    locality: 'London',
    groups: ['staff'],
    attributes: { department: 'engines' },
    updatedAt: new Date(5999),
  }
  t.like(accountClaims(account), {
    given_name: 'Augusta',
    family_name: 'King',
    preferred_username: 'ada',
    locale: 'en-GB',
    zoneinfo: 'Europe/London',
    picture: 'https://example.com/ada.png',
    groups: ['staff'],
    updated_at: 5,
    phone_number: '+4930123456',
    phone_number_verified: false,
    address: { street_address: '12 St James’s Square', locality: 'London' },
  })
  t.true(accountClaims({ ...account, phoneVerified: true }).phone_number_verified)
  const none = accountClaims({ ...ada, phoneVerified: true })
  for (const claim of ['address', 'phone_number', 'phone_number_verified']) t.false(claim in none)
  t.false('department' in accountClaims(account))
})

test('a mapping adds a claim for its scope and client, and the narrower one wins', (t) => {
  const account = { ...ada, attributes: { department: 'engines' } }
  const mappings = [
    { claim: 'tier', scope: 'read', client: 'app', value: 2 },
    { claim: 'tier', scope: 'read', value: 1 },
    { claim: 'unit', scope: 'openid', attribute: 'department' },
    { claim: 'mail', scope: 'openid', attribute: 'email' },
    { claim: 'none', scope: 'openid', attribute: 'constructor' },
  ]
  const of = (clientId: string, ...scopes: string[]) =>
    mappedClaims(account, mappings, { clientId, scopes })
  t.deepEqual(of('app', 'read'), { tier: 2 })
  t.deepEqual(of('other', 'read'), { tier: 1 })
  t.deepEqual(of('app', 'openid'), { unit: 'engines', mail: 'ada@example.com' })
  t.deepEqual(of('app', 'write'), {})
})

test('brings what is said of a person into one form, and rejects other things', (t) => {
  const profile = (change: object) => checkedChange({ profile: change }).profile
  t.deepEqual(profile({ locale: 'EN-gb', zoneinfo: 'Europe/London' }), {
    locale: 'en-GB',
    zoneinfo: 'Europe/London',
  })
  t.deepEqual(profile({ phone: '+49 (30) 123-456' }), { phone: '+4930123456' })
  t.deepEqual(profile({ givenName: ' Ada ', picture: null }), { givenName: 'Ada', picture: null })
  t.deepEqual(checkedChange({ groups: ['a', 'a'] }).groups, ['a'])
  for (const change of [
    { profile: { locale: 'not a language' } },
    { profile: { zoneinfo: '+01:00' } },
    { profile: { zoneinfo: 'Europe/Nowhere' } },
    { profile: { picture: 'http://example.com/a.png' } },
    { profile: { picture: 'https://ada@example.com/a.png' } },
    { profile: { givenName: 'a\u202e' } },
    { profile: { phone: '030 123456' } },
    { profile: { phone: `+${'1'.repeat(16)}` } },
    { profile: { streetAddress: 'one\ntwo' } },
    { groups: ['a\nb'] },
    { groups: Array.from({ length: 101 }, (_, at) => `g${at}`) },
    { attributes: { email: 'other@example.com' } },
    { attributes: { 'no-name': '' } },
    { attributes: { x: 'x'.repeat(1001) } },
  ]) {
    t.throws(() => checkedChange(change), { code: 'invalid_profile' }, JSON.stringify(change))
  }
})

test('finds an active account', async (t) => {
  const findAccount = createFindAccount(async () => ada)
  t.like(await findAccount({} as Context, 'id-1'), { accountId: 'id-1' })
})

test('finds no disabled account', async (t) => {
  const findAccount = createFindAccount(async () => undefined)
  t.is(await findAccount({} as Context, 'id-1'), undefined)
})

test('gives one spelling to one mailbox', (t) => {
  for (const typed of ['ada@example.com', ' Ada@Example.COM ', 'ADA@EXAMPLE.COM\n']) {
    t.is<string, string>(normalizeEmail(typed), 'ada@example.com')
  }
})

test('writes an international domain in ASCII', (t) => {
  t.is<string, string>(normalizeEmail('ada@Bücher.example'), 'ada@xn--bcher-kva.example')
})

test('composes decomposed letters', (t) => {
  t.is(normalizeEmail('zoe\u0308@example.com'), normalizeEmail('zo\u00eb@example.com'))
})

test('gives what it has made the same form again', (t) => {
  for (const typed of [
    '\u03ab\u0301@example.com',
    'ada@B\u00fccher.example',
    '\u212b@example.com',
  ]) {
    const once = normalizeEmail(typed)
    t.is(normalizeEmail(once), once)
    t.is(once.normalize('NFC'), once)
  }
})

for (const [title, email] of [
  ['no at sign', 'ada.example.com'],
  ['nothing before the at sign', '@example.com'],
  ['nothing after the at sign', 'ada@'],
  ['two at signs', 'ada@evil@example.com'],
  ['a space inside', 'ada lovelace@example.com'],
  ['a control character', 'ada\u0000@example.com'],
  ['angle brackets', '<ada@example.com'],
  ['a malformed domain', 'ada@exa mple.com'],
  ['a path behind its domain', 'ada@example.com/1'],
  ['a query behind its domain', 'ada@example.com?1'],
  ['a fragment behind its domain', 'ada@example.com#1'],
  ['a backslash in its domain', 'ada@example.com\\1'],
  ['an escape in its domain', 'ada@ex%61mple.com'],
  ['a tab in its domain', 'ada@exam\tple.com'],
  ['more than 254 bytes', `${'a'.repeat(250)}@example.com`],
] as const) {
  test(`rejects an email with ${title}`, (t) => {
    t.like(
      t.throws(() => normalizeEmail(email)),
      { name: 'AccountError', code: 'invalid_email' },
    )
  })
}

test('hashes by argon2id into a PHC string that carries its parameters', async (t) => {
  const hash = await hashPassword('correct horse battery', cheapCost)
  t.regex(hash, /^\$argon2id\$v=19\$m=8,t=1,p=1\$/)
})

test('salts: one password, two hashes', async (t) => {
  t.not(
    await hashPassword('correct horse battery', cheapCost),
    await hashPassword('correct horse battery', cheapCost),
  )
})

test('the default cost is the first that OWASP recommends, or more', (t) => {
  t.true(defaultPasswordCost.memoryCost >= 19 * 1024)
  t.true(defaultPasswordCost.timeCost >= 2)
})

test('verifies a password however its letters were composed', async (t) => {
  const hash = await hashPassword('cafe\u0301 au lait noir', cheapCost)
  t.true(await verifyPassword(hash, 'caf\u00e9 au lait noir'))
  t.false(await verifyPassword(hash, 'cafe au lait noir'))
})

test('a decoy is verified at full cost and never matches', async (t) => {
  const decoy = decoyHash(defaultPasswordCost)
  t.false(needsRehash(decoy, defaultPasswordCost))
  t.is(decoy.length, (await hashPassword('correct horse battery', defaultPasswordCost)).length)
  t.false(await verifyPassword(decoy, 'correct horse battery'))
})

test('asks for a new hash when memory or passes grew, not when they shrank', async (t) => {
  const hash = await hashPassword('correct horse battery', {
    ...cheapCost,
    timeCost: 2,
    memoryCost: 16,
  })
  t.true(needsRehash(hash, { ...cheapCost, timeCost: 3, memoryCost: 16 }))
  t.true(needsRehash(hash, { ...cheapCost, timeCost: 2, memoryCost: 32 }))
  t.false(needsRehash(hash, { ...cheapCost, timeCost: 2, memoryCost: 16 }))
  t.false(needsRehash(hash, cheapCost))
})

test('accepts a new password of 15 characters and of 1024 bytes', (t) => {
  t.notThrows(() => checkPasswordLength('a'.repeat(15)))
  t.notThrows(() => checkPasswordLength('a'.repeat(maxPasswordBytes)))
})

test('counts characters, not UTF-16 units', (t) => {
  t.like(
    t.throws(() => checkPasswordLength('🪢'.repeat(14))),
    { code: 'password_too_short' },
  )
})

test('rejects a new password of 14 characters', (t) => {
  t.like(
    t.throws(() => checkPasswordLength('a'.repeat(14))),
    { code: 'password_too_short' },
  )
})

test('rejects a new password of 1025 bytes', (t) => {
  t.like(
    t.throws(() => checkPasswordLength('a'.repeat(1025))),
    { code: 'password_too_long' },
  )
})

test('generates passwords that can be read out, pass the check and differ', (t) => {
  const password = generatePassword()
  t.regex(password, /^([0-9a-hjkmnp-tv-z]{5}-){3}[0-9a-hjkmnp-tv-z]{5}$/)
  t.notThrows(() => checkPasswordLength(password))
  t.not(password, generatePassword())
})

test('a generated password uses every random byte', (t) => {
  const bytes = Uint8Array.from({ length: 20 }, (_, index) => index)
  t.is(
    generatePassword(() => bytes),
    '01234-56789-abcde-fghjk',
  )
})

test('has one form of a username, which is no email', (t) => {
  t.is(String(readUsername(' Ada.L-1_x ')), 'ada.l-1_x')
  // The Kelvin sign becomes a k in lower case, and is no k.
  for (const typed of [
    '',
    'a@b',
    'ada lovelace',
    '.ada',
    'ada-',
    '\u212Aelvin',
    'ad\u0430',
    'x'.repeat(65),
  ]) {
    t.is(readUsername(typed), undefined, typed)
  }
})

test('claims the username before a name that the person goes by', async (t) => {
  const { accounts, ada } = await withAda()
  const named = await accounts.change(ada.email, {
    username: 'Ada',
    profile: { preferredUsername: 'root' },
  })
  t.is(accountClaims(named).preferred_username, 'ada')
  const unnamed = await accounts.change(ada.email, { username: null })
  t.is(accountClaims(unnamed).preferred_username, 'root')
  await t.throwsAsync(accounts.change(ada.email, { username: 'a b' }), { code: 'invalid_username' })
})

const foreignPassword = 'correct horse battery'
const keycloak = {
  type: 'password',
  secretData: JSON.stringify({
    value:
      '7F/Y1rnWXXurLCfFvAmyjyXtbABhgzBTBNcm//wlnvGBOz7OExlgRFs5qwaY5PzB3/WjR7P4yv/ACDQZpDXIfQ==',
    salt: 'MDEyMzQ1Njc4OWFiY2RlZg==',
  }),
  credentialData: JSON.stringify({ hashIterations: 1000, algorithm: 'pbkdf2-sha512' }),
}
const keycloakArgon2 = {
  secretData: {
    value: 'HWW4gUfAn4hTJz9W5HQVl0Yw8eOPoHNxpoMbbnp08vk=',
    salt: 'd7XAHGxzyVxhYscGPT25zg==',
  },
  credentialData: {
    hashIterations: 1,
    algorithm: 'argon2',
    additionalParameters: { type: ['i'], version: ['1.3'], memory: ['16'], parallelism: ['2'] },
  },
}
const argon2i =
  '$argon2i$v=19$m=16,t=1,p=2$d7XAHGxzyVxhYscGPT25zg$HWW4gUfAn4hTJz9W5HQVl0Yw8eOPoHNxpoMbbnp08vk'
const bcrypt = '$2b$04$YdYY9Nvwv9P5ZK99jZDgZul9lPdI/lFgkg4L8aHBoWP5RpRtNr6XC'
const ofDjango = 'pbkdf2_sha256$1000$seasalt$DrdiWD40lyBuydnjvZiDrdQMx1S1mOA9O0QYex0R6ww='

// Made by hashlib of Python, the reference code of bcrypt in Rust, and libargon2.
for (const [title, given] of [
  ['Argon2i', argon2i],
  ['Argon2 in Keycloak', keycloakArgon2],
  ['Argon2 in Django', `argon2${argon2i}`],
  ['bcrypt', bcrypt],
  ['bcrypt of PHP', bcrypt.replace('$2b', '$2y')],
  ['bcrypt in Django', `bcrypt$${bcrypt}`],
  [
    'PBKDF2 as a PHC string',
    '$pbkdf2-sha256$i=1000$MDEyMzQ1Njc4OWFiY2RlZg$BVALGMmC/K/8ELErc5VgJxyPFApArIZRCQsqjEgZWJ4',
  ],
  [
    'PBKDF2 in passlib',
    '$pbkdf2-sha512$1000$MDEyMzQ1Njc4OWFiY2RlZg$7F/Y1rnWXXurLCfFvAmyjyXtbABhgzBTBNcm//wlnvGBOz7OExlgRFs5qwaY5PzB3/WjR7P4yv/ACDQZpDXIfQ',
  ],
  ['PBKDF2 in Django', ofDjango],
  ['PBKDF2 with SHA-1 in Django', 'pbkdf2_sha1$1000$seasalt$LPTbYn9/9ALjztx0Dtq5V+DLYLg='],
  ['PBKDF2 in Keycloak', keycloak],
  [
    'scrypt as a PHC string',
    '$scrypt$ln=4,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$LYtM8Mh+uD5qDLQWvjcUOTNEVL2STXzMHwI4lieKYvI',
  ],
  [
    'scrypt in Django',
    'scrypt$seasalt$16384$8$1$SeFqIcfVoCQ85h5NbG3EpG8ZJwwKWu1+rKv1XMRmc3UIyHKqDpR7rR98Hm7A1fBSl9U5maL45wsoJFnVK2bpuQ==',
  ],
] as const) {
  test(`takes over a hash of ${title}, and renews it at the next sign-in`, async (t) => {
    const { store, accounts, ada } = await withAda()
    const passwordHash = readPasswordHash(given)
    await store.setPasswordHash(ada.id, passwordHash)
    t.is(await authenticated(accounts, ada.email, `${foreignPassword}!`), undefined)
    t.is((await store.findByEmail(ada.email))?.passwordHash, passwordHash)
    t.truthy(await authenticated(accounts, ada.email, foreignPassword))
    t.regex((await store.findByEmail(ada.email))?.passwordHash ?? '', /^\$argon2id\$v=19\$m=8,/)
    t.truthy(await authenticated(accounts, ada.email, foreignPassword))
  })
}

test('verifies an imported hash by the form of the password that was typed', async (t) => {
  // Another system has hashed "cafe" with a combining accent, as some keyboards send it.
  const typed = 'cafe\u0301 au lait noir'
  const salt = Buffer.from('seasalt').toString('base64').replace('=', '')
  const key = pbkdf2Sync(typed, 'seasalt', 10, 32, 'sha256').toString('base64').replace('=', '')
  const hash = readPasswordHash(`$pbkdf2-sha256$i=10$${salt}$${key}`)
  t.true(await verifyPassword(hash, typed))
  t.false(await verifyPassword(hash, 'cafe au lait noir'))
})

const costly = (iterations: number) => ({
  ...keycloak,
  credentialData: { hashIterations: iterations, algorithm: 'pbkdf2-sha512' },
})

test('rejects a hash that takes 2^31 rounds to check', (t) => {
  const django = ofDjango.replace('1000', String(2 ** 31))
  for (const given of [bcrypt.replace('$04', '$31'), django, costly(2 ** 31)]) {
    t.throws(() => readPasswordHash(given), { code: 'invalid_password_hash' })
  }
})

for (const [title, given] of [
  ['bcrypt with 2^15 rounds', bcrypt.replace('$04', '$15')],
  ['PBKDF2 with 2000001 iterations', ofDjango.replace('1000', '2000001')],
  ['PBKDF2 with no iterations', costly(0)],
  [
    'PBKDF2 whose key takes all iterations twice',
    `$pbkdf2-sha256$i=1500000$MDEyMzQ1Njc4OWFiY2RlZg$${'A'.repeat(86)}`,
  ],
  ['Argon2 with 4 TiB', argon2i.replace('m=16', 'm=4294967295')],
  ['Argon2 with 129 MiB', argon2i.replace('m=16', 'm=132096')],
  ['Argon2 with 1000 passes', argon2i.replace('t=1', 't=1000')],
  ['Argon2 with 128 MiB and 12 passes', argon2i.replace('m=16,t=1', 'm=131072,t=12')],
  ['Argon2 with 17 lanes', argon2i.replace('m=16,t=1,p=2', 'm=1024,t=1,p=17')],
  ['Argon2 with a salt of six bytes', argon2i.replace('d7XAHGxzyVxhYscGPT25zg', 'd7XAHGxz')],
  ['Argon2 without memory', argon2i.replace('m=16', 'm=0')],
  ['Argon2 whose text is cut', argon2i.slice(0, -4)],
  ['scrypt with 16 GiB', `$scrypt$ln=24,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$${'A'.repeat(43)}`],
  ['scrypt with 1000 lanes', `$scrypt$ln=10,r=8,p=1000$MDEyMzQ1Njc4OWFiY2RlZg$${'A'.repeat(43)}`],
  ['scrypt of Django whose N is no power of two', 'scrypt$seasalt$1000$8$1$AAAA'],
  ['an unknown kind', '$md5$abc'],
  ['an unknown kind of Keycloak', { ...keycloak, credentialData: '{"algorithm":"md5"}' }],
  ['no JSON of Keycloak', { ...keycloak, credentialData: '{' }],
  ['a password', foreignPassword],
] as const) {
  test(`rejects a hash of ${title}`, (t) => {
    const error = t.throws(() => readPasswordHash(given), { code: 'invalid_password_hash' })
    t.regex(error?.message ?? '', /^passwordHash must be a hash of/)
  })
}

test('checks no password by a hash that costs more than may be imported', async (t) => {
  // As a database has it that something else has written.
  const error = await t.throwsAsync(verifyPassword(bcrypt.replace('$04', '$31'), foreignPassword))
  t.true(error instanceof TypeError)
})
