import { randomUUID } from 'node:crypto'
import test from 'ava'
import { type CanonicalEmail, normalizeEmail, readEmail } from '../../src/accounts/email.ts'
import { createLoginLimits, type LoginLimits } from '../../src/limits/login-limits.ts'
import { type Database, openDatabase } from '../../src/storage/database.ts'
import { createRateLimitTable } from '../../src/storage/rate-limit-table.ts'
import { useTestDatabase } from '../support/database.ts'

const settings = useTestDatabase(test)
let database: Database

test.before(async () => {
  database = await openDatabase(settings.url, { onError: () => {} })
})
test.after.always(() => database?.[Symbol.asyncDispose]())

/** Another one is another node: they share the table, and nothing else. */
const node = (): LoginLimits => createLoginLimits(createRateLimitTable(database).makeLimiter)
const person = () => normalizeEmail(`${randomUUID()}@example.com`)

let networks = 0
/** An address that nobody has used before. */
function address(): string {
  networks += 1
  return `10.${networks >> 16}.${(networks >> 8) & 255}.${networks & 255}`
}

async function fail(limits: LoginLimits, email: CanonicalEmail, times: number, from?: string) {
  for (let count = 0; count < times; count += 1) {
    await limits.admit({ email, address: from ?? address() })
  }
}

test('ten attempts on one account from one network, on any number of nodes', async (t) => {
  const [email, here] = [person(), address()]
  await fail(node(), email, 5, here)
  await fail(node(), email, 5, here)
  const refusal = await node().admit({ email, address: here })
  t.is(refusal?.limit, 'login')
  t.true((refusal?.retryAfter ?? 0) > 0 && (refusal?.retryAfter ?? 0) <= 15 * 60)
})

test('many attempts at once are counted one by one', async (t) => {
  const [limits, email, here] = [node(), person(), address()]
  const answers = await Promise.all(
    Array.from({ length: 30 }, () => limits.admit({ email, address: here })),
  )
  t.is(answers.filter((refusal) => refusal === undefined).length, 10)
})

test('an account has ten attempts, whatever spellings of its email are typed', async (t) => {
  const [limits, here] = [node(), address()]
  const name = randomUUID()
  const spellings = ['b\u00fccher.example', 'bu\u0308cher.example', 'xn--bcher-kva.example']
    .flatMap((domain) => [domain, domain.toUpperCase(), domain.replaceAll('.', '\u3002')])
    .flatMap((domain) => [`${name}@${domain}`, ` ${name.toUpperCase()}@${domain}\n`])
  let admitted = 0
  for (const typed of spellings) {
    if (!(await limits.admit({ email: readEmail(typed), address: here }))) admitted += 1
  }
  t.is(spellings.length, 18)
  t.is(admitted, 10)
})

test("what can be nobody's email counts for its network alone", async (t) => {
  const here = address()
  const limits = createLoginLimits(createRateLimitTable(database).makeLimiter, { perNetwork: 3 })
  for (let count = 0; count < 3; count += 1) {
    t.is(await limits.admit({ email: readEmail(`no email ${count}`), address: here }), undefined)
  }
  t.is((await limits.admit({ email: undefined, address: here }))?.limit, 'login_address')
})

test('a success begins the count anew', async (t) => {
  const [limits, email, here] = [node(), person(), address()]
  await fail(limits, email, 9, here)
  await limits.succeeded({ email, address: here })
  await fail(limits, email, 9, here)
  t.is(await limits.admit({ email, address: here }), undefined)
})

test('one network may fail a hundred times for all accounts', async (t) => {
  const [limits, here] = [node(), address()]
  for (let count = 0; count < 100; count += 1) await fail(limits, person(), 1, here)
  t.is((await limits.admit({ email: person(), address: here }))?.limit, 'login_address')
  t.is(await limits.admit({ email: person(), address: address() }), undefined)
})

test('strangers who fail in a network keep nobody out who has signed in there', async (t) => {
  const [limits, email, here] = [node(), person(), address()]
  await limits.admit({ email, address: here })
  await limits.succeeded({ email, address: here })
  for (let count = 0; count < 101; count += 1) await fail(limits, person(), 1, here)
  t.is((await limits.admit({ email: person(), address: here }))?.limit, 'login_address')
  t.is(await node().admit({ email, address: here }), undefined)
})

test('whom a network knows has ten attempts there, and uses up none of others', async (t) => {
  const limits = createLoginLimits(createRateLimitTable(database).makeLimiter, { perNetwork: 3 })
  const [email, here] = [person(), address()]
  await limits.admit({ email, address: here })
  await limits.succeeded({ email, address: here })
  await fail(limits, email, 10, here)
  t.is((await limits.admit({ email, address: here }))?.limit, 'login')
  await fail(limits, person(), 1, here)
  t.is(await limits.admit({ email: person(), address: here }), undefined)
})

test('a blocked network writes no row, whatever emails are tried', async (t) => {
  const texts: string[] = []
  const recording: Pick<Database, 'query'> = {
    query: (statement) => {
      texts.push(statement.text)
      return database.query(statement)
    },
  }
  const { makeLimiter } = createRateLimitTable(recording as Database)
  const limits = createLoginLimits(makeLimiter, { perNetwork: 3 })
  const here = address()
  for (let count = 0; count < 4; count += 1) await fail(limits, person(), 1, here)
  t.true(texts.some((text) => !/^\s*select/i.test(text)))
  texts.length = 0
  for (let count = 0; count < 20; count += 1) await fail(limits, person(), 1, here)
  t.deepEqual(
    texts.filter((text) => !/^\s*select/i.test(text)),
    [],
  )
})

test('one IPv6 /48 may fail ten times as often as a /64 of it', async (t) => {
  const limits = createLoginLimits(createRateLimitTable(database).makeLimiter, { perNetwork: 2 })
  const within = (count: number) => `2001:db8:48:${count.toString(16)}::1`
  for (let count = 0; count < 20; count += 1) {
    t.is(await limits.admit({ email: person(), address: within(count) }), undefined)
  }
  const refusal = await limits.admit({ email: person(), address: within(20) })
  t.is(refusal?.limit, 'login_address')
})

test('one account may fail a hundred times from all networks', async (t) => {
  const [limits, email] = [node(), person()]
  await fail(limits, email, 100)
  t.is((await limits.admit({ email, address: address() }))?.limit, 'login_account')
})

test('an attacker elsewhere cannot lock a person out of where they sign in', async (t) => {
  const [limits, email, home] = [node(), person(), address()]
  await limits.admit({ email, address: home })
  await limits.succeeded({ email, address: home })
  await fail(limits, email, 150)
  t.is((await limits.admit({ email, address: address() }))?.limit, 'login_account')
  t.is(await limits.admit({ email, address: home }), undefined)
})

test('trying on does not lengthen the wait', async (t) => {
  const [email, here] = [person(), address()]
  await fail(node(), email, 10, here)
  const first = await node().admit({ email, address: here })
  await fail(node(), email, 5, here)
  const later = await node().admit({ email, address: here })
  t.true((later?.retryAfter ?? 0) <= (first?.retryAfter ?? 0))
})

test('a flood does not reach the database', async (t) => {
  let statements = 0
  const counting: Pick<Database, 'query'> = {
    query: (statement) => {
      statements += 1
      return database.query(statement)
    },
  }
  const limits = createLoginLimits(createRateLimitTable(counting as Database).makeLimiter)
  const [email, here] = [person(), address()]
  await fail(limits, email, 11, here)
  const before = statements
  await fail(limits, email, 50, here)
  t.is(statements, before)
})

test('the table names nobody', async (t) => {
  const [limits, email] = [node(), person()]
  await limits.admit({ email, address: '203.0.113.9' })
  const { rows } = await database.query({ text: 'select key from rate_limits' })
  t.true(rows.length > 0)
  t.notRegex(JSON.stringify(rows), /example\.com|203\.0\.113\.9/)
})

test('counters that have ended are removed', async (t) => {
  const table = createRateLimitTable(database)
  await database.query({ text: "insert into rate_limits values ('ended', 1, 1)" })
  await table.removeExpired(100)
  const { rowCount } = await database.query({
    text: "select from rate_limits where key = 'ended'",
  })
  t.is(rowCount, 0)
})
