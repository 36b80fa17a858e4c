import { randomUUID } from 'node:crypto'
import test from 'ava'
import { createUserCodeLimits, type UserCodeLimits } from '../../src/limits/user-code-limits.ts'
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
const node = (): UserCodeLimits => createUserCodeLimits(createRateLimitTable(database).makeLimiter)

const guess = (limits: UserCodeLimits, address: string, session: string = randomUUID()) =>
  limits.admit({ address, session })

test('ten wrong codes in one browser, wherever it is, on any number of nodes', async (t) => {
  const session = randomUUID()
  for (let count = 0; count < 10; count += 1) {
    t.is(await guess(node(), `10.1.0.${count}`, session), undefined)
  }
  const refusal = await guess(node(), '10.1.1.1', session)
  t.is(refusal?.limit, 'user_codes_session')
  t.true((refusal?.retryAfter ?? 0) > 0 && (refusal?.retryAfter ?? 0) <= 15 * 60)
})

test('twenty wrong codes in one network, whichever browser', async (t) => {
  for (let count = 0; count < 20; count += 1) {
    t.is(await guess(node(), '10.2.0.1'), undefined)
  }
  t.is((await guess(node(), '10.2.0.1'))?.limit, 'user_codes')
  t.is(await guess(node(), '10.2.0.2'), undefined)
})

test('an IPv6 subscriber has one count, whatever the address', async (t) => {
  for (let count = 0; count < 20; count += 1) {
    t.is(await guess(node(), `2001:db8:2::${count.toString(16)}`), undefined)
  }
  t.is((await guess(node(), '2001:db8:2:0:ffff::1'))?.limit, 'user_codes')
})

test('many at once are counted one by one', async (t) => {
  const limits = node()
  const answers = await Promise.all(Array.from({ length: 50 }, () => guess(limits, '10.3.0.1')))
  t.is(answers.filter((refusal) => refusal === undefined).length, 20)
})

test('codes that there are do not count', async (t) => {
  const limits = node()
  const typed = { address: '10.4.0.1', session: randomUUID() }
  for (let count = 0; count < 40; count += 1) {
    t.is(await limits.admit(typed), undefined)
    await limits.found(typed)
  }
})
