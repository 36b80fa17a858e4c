import anyTest, { type TestFn } from 'ava'
import { administerKeys } from '../../src/administration/keys.ts'
import type { KeyPurpose } from '../../src/keys/key-purpose.ts'
import { openTestDatabase } from '../support/database.ts'
import { letDaysPass, openRing, policy } from '../support/keys.ts'

const test = anyTest as TestFn<Awaited<ReturnType<typeof open>>>

/** Eight administrators at terminals of their own, and what they did. */
async function open() {
  const opened = new AsyncDisposableStack()
  const { url } = opened.use(await openTestDatabase())
  const changes: string[] = []
  const administrators = []
  for (let count = 0; count < 8; count += 1) {
    const ring = await openRing(opened, url)
    administrators.push(
      administerKeys({
        ring,
        table: ring.table,
        publish: policy.publish,
        changed: (change, { purpose }) => changes.push(`${change} ${purpose}`),
      }),
    )
  }
  const [one] = administrators as [(typeof administrators)[number]]
  const of = async (purpose: KeyPurpose) =>
    (await one.list()).filter((key) => key.purpose === purpose)
  const states = async (purpose: KeyPurpose) => (await of(purpose)).map(({ state }) => state)
  return { opened, url, changes, administrators, one, of, states }
}

test.beforeEach(async (t) => {
  t.context = await open()
})
test.afterEach.always((t) => t.context.opened.disposeAsync())

const first = <T>([item]: readonly T[]) => item as T

test('eight who rotate at once get the same next key', async (t) => {
  const { administrators, changes, states } = t.context
  const rotated = await Promise.all(administrators.map((each) => each.rotate(['ES256', 'cookie'])))
  t.is(new Set(rotated.map(([key]) => key?.kid)).size, 1)
  for (const keys of rotated)
    t.deepEqual(
      keys.map(({ state }) => state),
      ['published', 'published'],
    )
  t.deepEqual(await states('ES256'), ['signing', 'published'])
  t.deepEqual(changes.sort(), ['key.made ES256', 'key.made cookie'])
})

const minutes = (count: number) => count / (24 * 60)

test('each rotation publishes a key, and the keys sign one after the other (oidcc-server-rotate-keys)', async (t) => {
  const { one, url, states } = t.context
  const next = first(await one.rotate(['EdDSA']))
  t.is(next.signsFrom.getTime() - next.createdAt.getTime(), policy.publish)
  t.is(first(await one.rotate(['EdDSA'])).kid, next.kid)
  await letDaysPass(url, minutes(2))
  t.not(first(await one.rotate(['EdDSA'])).kid, next.kid)
  t.deepEqual(await states('EdDSA'), ['signing', 'published', 'published'])
  await letDaysPass(url, 1 - minutes(1))
  t.deepEqual(await states('EdDSA'), ['verifying', 'signing', 'published'])
  await letDaysPass(url, minutes(2))
  t.deepEqual(await states('EdDSA'), ['verifying', 'verifying', 'signing'])
})

test('eight keys of a purpose wait at most', async (t) => {
  const { one, url, states } = t.context
  for (let count = 0; count < 10; count += 1) {
    await one.rotate(['EdDSA'])
    await letDaysPass(url, minutes(2))
  }
  t.deepEqual(await states('EdDSA'), ['signing', ...Array(8).fill('published')])
})

test('of several keys that wait, the first signs when the one before it is retired', async (t) => {
  const { one, of, url, states } = t.context
  await one.rotate(['ES256'])
  await letDaysPass(url, minutes(2))
  await one.rotate(['ES256'])
  const { kid } = first(await of('ES256'))
  t.is((await one.retire(kid, { now: false })).state, 'signing')
  t.deepEqual(await states('ES256'), ['signing', 'published', 'published'])
  await one.retire(kid, { now: true })
  t.deepEqual(await states('ES256'), ['retired', 'signing', 'published'])
})

test('eight who retire a key now have one other key sign', async (t) => {
  const { administrators, changes, of, states } = t.context
  const { kid } = first(await of('ES256'))
  const retired = await Promise.all(administrators.map((each) => each.retire(kid, { now: true })))
  t.deepEqual(new Set(retired.map(({ state }) => state)), new Set(['retired']))
  t.deepEqual(await states('ES256'), ['retired', 'signing'])
  t.deepEqual(changes.sort(), ['key.made ES256', 'key.retired ES256'])
})

test('signs with the next key when one is retired during a rotation', async (t) => {
  const { administrators, of } = t.context
  const { kid } = first(await of('cookie'))
  await Promise.all(
    administrators.map((each, at) =>
      at % 2 === 0 ? each.retire(kid, { now: true }) : each.rotate(['cookie']),
    ),
  )
  const keys = await of('cookie')
  t.is(keys.find((key) => key.kid === kid)?.state, 'retired')
  t.is(keys.filter(({ state }) => state === 'signing').length, 1)
})

test('a published key signs at once when the one before it is retired now', async (t) => {
  const { one, changes, of, states } = t.context
  const next = first(await one.rotate(['form-token']))
  const { successor } = await one.retire(first(await of('form-token')).kid, { now: true })
  t.is(successor, next.kid)
  t.deepEqual(await states('form-token'), ['retired', 'signing'])
  const signsFrom = (await of('form-token'))[1]?.signsFrom.getTime() ?? Infinity
  t.true(signsFrom < next.signsFrom.getTime())
  t.deepEqual(changes, ['key.made form-token', 'key.advanced form-token', 'key.retired form-token'])
})

test('retires the signing key on schedule', async (t) => {
  const { one, of, states, url } = t.context
  const { kid } = first(await of('ES256'))
  const ending = await one.retire(kid, { now: false })
  t.like(ending, { kid, state: 'signing' })
  t.is((ending.endsAt?.getTime() ?? 0) - (ending.signsUntil?.getTime() ?? 0), policy.keep)
  t.deepEqual(await states('ES256'), ['signing', 'published'])
  await letDaysPass(url, 1)
  t.deepEqual(await states('ES256'), ['verifying', 'signing'])
  t.is((await one.retire(kid, { now: false })).state, 'verifying')
  await letDaysPass(url, 14)
  t.deepEqual(await states('ES256'), ['retired', 'signing'])
})

test('a published key that is retired never signs', async (t) => {
  const { one, url, states } = t.context
  const next = first(await one.rotate(['cookie']))
  t.is((await one.retire(next.kid, { now: false })).state, 'retired')
  await letDaysPass(url, 2)
  t.deepEqual(await states('cookie'), ['signing', 'retired'])
})

test('a key that has signed is refused when it is retired now, and the present one stays', async (t) => {
  const { one, of, url, states } = t.context
  const { kid } = first(await of('RS256'))
  await one.rotate(['RS256'])
  await letDaysPass(url, 1)
  t.is((await one.retire(kid, { now: true })).state, 'retired')
  t.deepEqual(await states('RS256'), ['retired', 'signing'])
})

test('an unknown key is not found', async (t) => {
  const error = await t.throwsAsync(t.context.one.retire('unknown', { now: true }))
  t.like(error, { name: 'AdministrationError', code: 'not_found' })
})
