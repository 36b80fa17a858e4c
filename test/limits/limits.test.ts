import { randomUUID } from 'node:crypto'
import test from 'ava'
import { type CanonicalEmail, normalizeEmail, readEmail } from '../../src/accounts/email.ts'
import { createBackchannelLimits } from '../../src/limits/backchannel-limits.ts'
import {
  createLoginLimits,
  type LoginAttempt,
  type LoginLimits,
} from '../../src/limits/login-limits.ts'
import { createBuckets, createNetworkLimit } from '../../src/limits/network-limit.ts'
import { accepts, capacity, loopDelay, workAtRest } from '../../src/limits/overload.ts'
import { createSiblings, type TakenTokens } from '../../src/limits/siblings.ts'
import { createUserCodeLimits, type UserCodeLimits } from '../../src/limits/user-code-limits.ts'
import { type Database, openDatabase } from '../../src/storage/database.ts'
import type { Limiter } from '../../src/storage/limiter.ts'
import { createRateLimitTable } from '../../src/storage/rate-limit-table.ts'
import { createSignInAttemptTable } from '../../src/storage/sign-in-attempt-table.ts'
import { useTestDatabase } from '../support/database.ts'

const settings = useTestDatabase(test)
let database: Database

test.before(async () => {
  database = await openDatabase(settings.url, { onError: () => {} })
})
test.after.always(() => database?.[Symbol.asyncDispose]())

/** Another one is another node: they share the table, and nothing else. */
const node = (): LoginLimits => createLoginLimits(createSignInAttemptTable(database))
const person = () => normalizeEmail(`${randomUUID()}@example.com`)

const admit = async (limits: LoginLimits, attempt: LoginAttempt) =>
  (await limits.admit(attempt)).refusal

let networks = 0
/** An address that nobody has used before. */
function address(): string {
  networks += 1
  return `10.${networks >> 16}.${(networks >> 8) & 255}.${networks & 255}`
}

async function fail(limits: LoginLimits, email: CanonicalEmail, times: number, from?: string) {
  for (let count = 0; count < times; count += 1) {
    await admit(limits, { email, address: from ?? address() })
  }
}

test('buckets of two processes count what either of them takes', async (t) => {
  const { promise: sent, resolve: send } = Promise.withResolvers<TakenTokens>()
  const [here, there] = [createSiblings(send), createSiblings(() => {})]
  const options = { name: 'par', perMinute: 2, now: () => 0 }
  const first = createNetworkLimit({ ...options, siblings: here })
  const second = createNetworkLimit({ ...options, siblings: there })
  await first.take('192.0.2.1')
  await first.take('192.0.2.1')
  t.is(second.wait('192.0.2.1'), undefined)
  there.hear(await sent)
  t.is(second.wait('192.0.2.1'), 30)
  t.is(second.wait('192.0.2.2'), undefined)
})

test('ten attempts on one account from one network, on any number of nodes', async (t) => {
  const [email, here] = [person(), address()]
  await fail(node(), email, 5, here)
  await fail(node(), email, 5, here)
  const refusal = await admit(node(), { email, address: here })
  t.is(refusal?.limit, 'login')
  t.true((refusal?.retryAfter ?? 0) > 0 && (refusal?.retryAfter ?? 0) <= 15 * 60)
})

test('many attempts at once are counted one by one', async (t) => {
  const [limits, email, here] = [node(), person(), address()]
  const answers = await Promise.all(
    Array.from({ length: 30 }, () => admit(limits, { email, address: here })),
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
    if (!(await admit(limits, { email: readEmail(typed), address: here }))) admitted += 1
  }
  t.is(spellings.length, 18)
  t.is(admitted, 10)
})

test("what can be nobody's email counts for its network alone", async (t) => {
  const here = address()
  const limits = createLoginLimits(createSignInAttemptTable(database), { perNetwork: 3 })
  for (let count = 0; count < 3; count += 1) {
    t.is(await admit(limits, { email: readEmail(`no email ${count}`), address: here }), undefined)
  }
  t.is((await admit(limits, { email: undefined, address: here }))?.limit, 'login_address')
})

test('a success begins the count anew', async (t) => {
  const [limits, email, here] = [node(), person(), address()]
  await fail(limits, email, 9, here)
  await limits.succeeded({ email, address: here })
  await fail(limits, email, 9, here)
  t.is(await admit(limits, { email, address: here }), undefined)
})

test('one network may fail a hundred times for all accounts', async (t) => {
  const [limits, here] = [node(), address()]
  for (let count = 0; count < 100; count += 1) await fail(limits, person(), 1, here)
  t.is((await admit(limits, { email: person(), address: here }))?.limit, 'login_address')
  t.is(await admit(limits, { email: person(), address: address() }), undefined)
})

test('strangers who fail in a network keep nobody out who has signed in there', async (t) => {
  const [limits, email, here] = [node(), person(), address()]
  await admit(limits, { email, address: here })
  await limits.succeeded({ email, address: here })
  for (let count = 0; count < 101; count += 1) await fail(limits, person(), 1, here)
  t.is((await admit(limits, { email: person(), address: here }))?.limit, 'login_address')
  t.is(await admit(node(), { email, address: here }), undefined)
})

test('whom a network knows has ten attempts there, and uses up none of others', async (t) => {
  const limits = createLoginLimits(createSignInAttemptTable(database), { perNetwork: 3 })
  const [email, here] = [person(), address()]
  await admit(limits, { email, address: here })
  await limits.succeeded({ email, address: here })
  await fail(limits, email, 10, here)
  t.is((await admit(limits, { email, address: here }))?.limit, 'login')
  await fail(limits, person(), 1, here)
  t.is(await admit(limits, { email: person(), address: here }), undefined)
})

test('a blocked network writes no row, whatever emails are tried', async (t) => {
  const texts: string[] = []
  const recording: Pick<Database, 'query'> = {
    query: (statement) => {
      texts.push(statement.text)
      return database.query(statement)
    },
  }
  const table = createSignInAttemptTable(recording as Database)
  const limits = createLoginLimits(table, { perNetwork: 3 })
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
  const limits = createLoginLimits(createSignInAttemptTable(database), { perNetwork: 2 })
  const within = (count: number) => `2001:db8:48:${count.toString(16)}::1`
  for (let count = 0; count < 20; count += 1) {
    t.is(await admit(limits, { email: person(), address: within(count) }), undefined)
  }
  const refusal = await admit(limits, { email: person(), address: within(20) })
  t.is(refusal?.limit, 'login_address')
})

test('one account may fail a hundred times from all networks', async (t) => {
  const [limits, email] = [node(), person()]
  await fail(limits, email, 100)
  t.is((await admit(limits, { email, address: address() }))?.limit, 'login_account')
})

test('an attacker elsewhere cannot lock a person out of where they sign in', async (t) => {
  const [limits, email, home] = [node(), person(), address()]
  await admit(limits, { email, address: home })
  await limits.succeeded({ email, address: home })
  await fail(limits, email, 150)
  t.is((await admit(limits, { email, address: address() }))?.limit, 'login_account')
  t.is(await admit(limits, { email, address: home }), undefined)
})

test('trying on does not lengthen the wait', async (t) => {
  const [email, here] = [person(), address()]
  await fail(node(), email, 10, here)
  const first = await admit(node(), { email, address: here })
  await fail(node(), email, 5, here)
  const later = await admit(node(), { email, address: here })
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
  const limits = createLoginLimits(createSignInAttemptTable(counting as Database))
  const [email, here] = [person(), address()]
  await fail(limits, email, 11, here)
  const before = statements
  await fail(limits, email, 50, here)
  t.is(statements, before)
})

test('the table names nobody', async (t) => {
  const [limits, email] = [node(), person()]
  await admit(limits, { email, address: '203.0.113.9' })
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
let codeDatabase: Database

test.before(async () => {
  codeDatabase = await openDatabase(settings.url, { onError: () => {} })
})
test.after.always(() => codeDatabase?.[Symbol.asyncDispose]())

/** Another one is another node: they share the table, and nothing else. */
const codeNode = (): UserCodeLimits =>
  createUserCodeLimits(createRateLimitTable(codeDatabase).makeLimiter)

const guess = (limits: UserCodeLimits, address: string, session: string = randomUUID()) =>
  limits.admit({ address, session })

test('the backchannel has a limit for each client, which keeps out no other client', async (t) => {
  const limits = createBackchannelLimits(createRateLimitTable(codeDatabase).makeLimiter, {
    perClient: 3,
  })
  const flooding = randomUUID()
  const ask = (clientId: string) => limits.admit({ clientId, person: randomUUID() })
  for (let count = 0; count < 3; count += 1) t.is(await ask(flooding), undefined)
  t.true(((await ask(flooding)) ?? 0) > 0)
  t.is(await ask(randomUUID()), undefined)
})

test('ten wrong codes in one browser, wherever it is, on any number of nodes', async (t) => {
  const session = randomUUID()
  for (let count = 0; count < 10; count += 1) {
    t.is(await guess(codeNode(), `10.1.0.${count}`, session), undefined)
  }
  const refusal = await guess(codeNode(), '10.1.1.1', session)
  t.is(refusal?.limit, 'user_codes_session')
  t.true((refusal?.retryAfter ?? 0) > 0 && (refusal?.retryAfter ?? 0) <= 15 * 60)
})

test('twenty wrong codes in one network, whichever browser', async (t) => {
  for (let count = 0; count < 20; count += 1) {
    t.is(await guess(codeNode(), '10.2.0.1'), undefined)
  }
  t.is((await guess(codeNode(), '10.2.0.1'))?.limit, 'user_codes')
  t.is(await guess(codeNode(), '10.2.0.2'), undefined)
})

test('an IPv6 subscriber has one count, whatever the address', async (t) => {
  for (let count = 0; count < 20; count += 1) {
    t.is(await guess(codeNode(), `2001:db8:2::${count.toString(16)}`), undefined)
  }
  t.is((await guess(codeNode(), '2001:db8:2:0:ffff::1'))?.limit, 'user_codes')
})

test('many at once are counted one by one', async (t) => {
  const limits = codeNode()
  const answers = await Promise.all(Array.from({ length: 50 }, () => guess(limits, '10.3.0.1')))
  t.is(answers.filter((refusal) => refusal === undefined).length, 20)
})

test('codes that there are do not count', async (t) => {
  const limits = codeNode()
  const typed = { address: '10.4.0.1', session: randomUUID() }
  for (let count = 0; count < 40; count += 1) {
    t.is(await limits.admit(typed), undefined)
    await limits.found(typed)
  }
})

/** A limit with a clock that tests move. */
function start(options: Partial<Parameters<typeof createNetworkLimit>[0]> = {}) {
  const clock = { nowMs: 1_000_000 }
  const limit = createNetworkLimit({ perMinute: 6, now: () => clock.nowMs, ...options })
  return { clock, limit }
}

/** Takes until there is nothing left, and says how often that went well. */
async function takeAll({ limit }: ReturnType<typeof start>, address: string): Promise<number> {
  for (let count = 0; ; count += 1) if (await limit.take(address)) return count
}

test('gives a network as many tokens as a minute has, and one after another later', async (t) => {
  const started = start()
  t.is(await takeAll(started, '192.0.2.7'), 6)
  t.is(await started.limit.take('192.0.2.7'), 10)
  started.clock.nowMs += 10_000
  t.is(await takeAll(started, '192.0.2.7'), 1)
  started.clock.nowMs += 3_600_000
  t.is(await takeAll(started, '192.0.2.7'), 6)
})

test('counts every limit exactly, whatever fraction of a second a token takes', async (t) => {
  for (const perMinute of [1, 7, 60, 120, 600, 999]) {
    t.is(await takeAll(start({ perMinute }), '192.0.2.7'), perMinute)
  }
})

test('says the time to wait without taking', async (t) => {
  const { limit } = start({ perMinute: 1 })
  t.is(limit.wait('192.0.2.7'), undefined)
  t.is(await limit.take('192.0.2.7'), undefined)
  t.is(limit.wait('192.0.2.7'), 60)
  t.is(limit.wait('192.0.2.8'), undefined)
})

test('counts an IPv6 /64 as one, and a /48 as one of ten times the size', async (t) => {
  const started = start()
  t.is(await takeAll(started, '2001:db8:0:1::1'), 6)
  t.is(await takeAll(started, '[2001:db8:0:1:ffff::2]:80'), 0)
  let taken = 6
  for (let net = 2; net < 100; net += 1) {
    taken += await takeAll(started, `2001:db8:0:${net.toString(16)}::1`)
  }
  t.is(taken, 60)
  t.is(await takeAll(started, '2001:db8:1::1'), 6)
})

test('counts an address in every spelling as one network', async (t) => {
  const started = start()
  await takeAll(started, '192.0.2.7')
  t.is(await takeAll(started, '::ffff:192.0.2.7'), 0)
  t.is(await takeAll(started, '192.0.2.7:4711'), 0)
})

test('remembers a bounded number of networks, those that were used last', (t) => {
  const buckets = createBuckets({ perMinute: 1, mostKeys: 1000, now: () => 0 })
  buckets.take('flood')
  let forgotten = 0
  for (let count = 0; count < 100_000; count += 1) {
    buckets.take(`10.${count >> 16}.${(count >> 8) & 255}.${count & 255}`)
    if (buckets.waitMs('flood') === 0) forgotten += 1
  }
  t.is(forgotten, 0)
  t.is(buckets.size(), 1000)
  t.is(buckets.waitMs('10.0.0.0'), 0)
})

test('asks the shared count only of networks with tokens that have taken some here', async (t) => {
  const asked: string[] = []
  const shared = {
    take: async (key: string) => {
      asked.push(key)
      return asked.length > 3 ? 42 : undefined
    },
  } as Partial<Limiter> as Limiter
  const { limit, clock } = start({ shared, unshared: 2 })
  for (let count = 0; count < 5000; count += 1) {
    await limit.take(`10.0.${count >> 8}.${count & 255}`)
  }
  t.is(asked.length, 0)
  const answers = []
  for (let count = 0; count < 10; count += 1) answers.push(await limit.take('192.0.2.7'))
  t.deepEqual(answers.slice(0, 6), [undefined, undefined, undefined, undefined, undefined, 42])
  t.is(asked.length, 4)
  t.is(limit.wait('192.0.2.7'), 42)
  clock.nowMs += 42_000
  t.is(limit.wait('192.0.2.7'), undefined)
})

const work = { active: 100, begun: 20, perSecond: 500 }
const idle = { loopDelayMs: 0, poolWaitMs: 0, tokensAreRefused: false }

test('accepts what will wait for less than it may', (t) => {
  t.true(accepts('tokens', work, idle, 400))
})

test('refuses more work than can be finished in time', (t) => {
  t.false(accepts('tokens', { ...work, active: 200 }, idle, 400))
})

test('refuses when a request would wait for too long for the database', (t) => {
  t.true(accepts('tokens', work, { ...idle, poolWaitMs: 399 }, 400))
  t.false(accepts('tokens', work, { ...idle, poolWaitMs: 400 }, 400))
})

test('refuses when the turns of the event loop that a request takes are too long', (t) => {
  t.true(accepts('tokens', work, { ...idle, loopDelayMs: 133 }, 400))
  t.false(accepts('tokens', work, { ...idle, loopDelayMs: 134 }, 400))
})

test('refuses sign-ins before tokens', (t) => {
  const busy = { ...idle, poolWaitMs: 300 }
  t.true(accepts('tokens', work, busy, 400))
  t.false(accepts('sign-ins', work, busy, 400))
})

test('has sign-ins make way while tokens are refused, but for a few', (t) => {
  const making = { ...idle, tokensAreRefused: true }
  t.false(accepts('sign-ins', { active: 1, begun: 0, perSecond: 500 }, making, 400))
  t.true(accepts('sign-ins', { active: 0, begun: 1, perSecond: 500 }, making, 400))
  t.false(accepts('sign-ins', { active: 0, begun: 2, perSecond: 500 }, making, 400))
  t.true(accepts('tokens', work, making, 400))
})

test('accepts a few requests in work and between two measurements, however long the delay', (t) => {
  const stuck = { loopDelayMs: 60_000, poolWaitMs: 60_000, tokensAreRefused: false }
  t.true(accepts('tokens', { active: 15, begun: 31, perSecond: 1 }, stuck, 400))
  t.false(accepts('tokens', { active: 16, begun: 0, perSecond: 1 }, stuck, 400))
  t.false(accepts('tokens', { active: 0, begun: 32, perSecond: 1 }, stuck, 400))
  t.true(accepts('sign-ins', { active: 7, begun: 0, perSecond: 1 }, stuck, 400))
})

test('learns what a busy node finishes, and nothing from an idle one', (t) => {
  const measured = { finished: 100, elapsedMs: 100 }
  t.is(capacity('tokens', { active: 200, perSecond: 200 }, measured), 280)
  t.is(capacity('tokens', { active: 200, perSecond: 200 }, { finished: 100, elapsedMs: 2000 }), 50)
  t.is(capacity('tokens', { active: 1, perSecond: 200 }, { finished: 1, elapsedMs: 100 }), 200)
  t.is(capacity('tokens', { active: 200, perSecond: 1 }, { finished: 0, elapsedMs: 100 }), 1)
  t.is(workAtRest('tokens').active, 0)
})

test('a long delay of the event loop fades', (t) => {
  t.is(loopDelay(0, 900), 800)
  t.is(loopDelay(800, 100), 400)
})
