import anyTest, { type TestFn } from 'ava'
import { CompactEncrypt } from 'jose'
import { encryptionKeyOf, firstSecretOf } from '../../src/config/secret.ts'
import { keyPurposes, makeKey, secretPurposes } from '../../src/keys/key-purpose.ts'
import type { KeyRing } from '../../src/keys/key-ring.ts'
import { StorageError } from '../../src/storage/storage-error.ts'
import { limitTestsAtOnce } from '../support/at-once.ts'
import { openTestDatabase } from '../support/database.ts'
import { letDaysPass, openRing, policy, secret, type TestRing } from '../support/keys.ts'
import { query } from '../support/query.ts'
import { until } from '../support/until.ts'

const test = anyTest as TestFn<{ opened: AsyncDisposableStack; url: string }>

limitTestsAtOnce(anyTest)
test.beforeEach(async (t) => {
  const opened = new AsyncDisposableStack()
  t.context = { opened, url: opened.use(await openTestDatabase()).url }
})
test.afterEach.always((t) => t.context.opened.disposeAsync())

const newSecret = 'another secret, which follows the first one'

const names = (ring: KeyRing, purpose: (typeof keyPurposes)[number]) =>
  ring.view()[purpose].map(({ kid }) => kid)

const eight = <T>(make: (at: number) => Promise<T>) =>
  Promise.all(Array.from({ length: 8 }, (_, at) => make(at)))

const openFirst = ({ opened, url }: { opened: AsyncDisposableStack; url: string }) =>
  openRing(opened, url)

test('eight first starts at once come to one key of each purpose', async (t) => {
  const { opened, url } = t.context
  const rings = await eight(() => openRing(opened, url))
  const [first] = rings as [TestRing]
  for (const ring of rings) t.deepEqual(ring.view(), first.view())
  for (const purpose of keyPurposes) t.is(first.view()[purpose].length, 1)
  const made = rings.flatMap(({ changes }) => changes)
  t.deepEqual(
    made.map(({ change }) => change),
    Array(8).fill('made'),
  )
  t.is(new Set(made.map(({ purpose }) => purpose)).size, 8)
})

test('secrets of a new installation cannot be derived from its secret', async (t) => {
  const ring = await openFirst(t.context)
  for (const purpose of secretPurposes) {
    t.not(ring.view()[purpose][0]?.k, firstSecretOf(secret, purpose).toString('base64url'))
  }
})

/** Rows as the first release made them: one key, in an envelope without a purpose. */
async function insertFormerRow(url: string): Promise<string> {
  const jwk = await makeKey('ES256')
  const jwe = await new CompactEncrypt(new TextEncoder().encode(JSON.stringify(jwk)))
    .setProtectedHeader({ alg: 'dir', enc: 'A256GCM', kid: jwk.kid })
    .encrypt(encryptionKeyOf(secret))
  await query(
    url,
    `insert into signing_keys (kid, purpose, generation, jwe) values ('${jwk.kid}', 'ES256', 1, '${jwe}')`,
  )
  return jwk.kid
}

for (const [title, secrets] of [
  ['keeps its signing key, and the secrets that its nodes derive', [secret]],
  ['keeps them when its secret is changed with it', [newSecret, secret]],
] as const) {
  test(`an installation of the first release ${title}`, async (t) => {
    const { opened, url } = t.context
    const kid = await insertFormerRow(url)
    const ring = await openRing(opened, url, { secrets })
    t.deepEqual(names(ring, 'ES256'), [kid])
    for (const purpose of secretPurposes) {
      const derived = firstSecretOf(secret, purpose).toString('base64url')
      t.deepEqual(
        ring.view()[purpose].map(({ k }) => k),
        [derived],
      )
    }
  })
}

test('another secret is told apart from a damaged row', async (t) => {
  const { opened, url } = t.context
  const ring = await openFirst(t.context)
  const wrong = await t.throwsAsync(openRing(opened, url, { secrets: [newSecret] }), {
    instanceOf: StorageError,
  })
  t.is(wrong?.code, 'secret_mismatch')
  t.regex(wrong?.message ?? '', /HOLDFAST_SECRET_PREVIOUS/)
  const [kid] = names(ring, 'ES256')
  await query(
    url,
    `update signing_keys set jwe = overlay(jwe placing 'xxxx' from 150) where kid = '${kid}'`,
  )
  const damaged = await t.throwsAsync(openRing(opened, url), { instanceOf: StorageError })
  t.is(damaged?.code, 'key_unreadable')
  t.true(damaged?.message.includes(`holdfast keys retire ${kid} --now`))
  const tolerant = await openRing(opened, url, { tolerate: 'some' })
  t.deepEqual(tolerant.unreadable(), [kid])
  const all = openRing(opened, url, { tolerate: 'some', secrets: [newSecret] })
  t.is((await t.throwsAsync(all, { instanceOf: StorageError }))?.code, 'secret_mismatch')
})

test('keeps using a key whose row is damaged, in a running node', async (t) => {
  const { url } = t.context
  const ring = await openFirst(t.context)
  const before = ring.view()
  await query(url, "update signing_keys set jwe = 'damaged'")
  await ring.refresh()
  await ring.upkeep()
  t.is(ring.view(), before)
})

test('the key of one row is no key in another', async (t) => {
  const { opened, url } = t.context
  const ring = await openFirst(t.context)
  const [cookie, form] = [names(ring, 'cookie')[0], names(ring, 'form-token')[0]]
  await query(
    url,
    `update signing_keys set jwe = (select jwe from signing_keys where kid = '${cookie}') where kid = '${form}'`,
  )
  const error = await t.throwsAsync(openRing(opened, url), { instanceOf: StorageError })
  t.is(error?.code, 'key_unreadable')
})

test('a row that was given another purpose is not opened', async (t) => {
  const { opened, url } = t.context
  const ring = await openFirst(t.context)
  const [form] = names(ring, 'form-token')
  await query(
    url,
    `update signing_keys set purpose = 'cookie', generation = 2 where kid = '${form}'`,
  )
  await t.throwsAsync(openRing(opened, url), { instanceOf: StorageError })
})

test('a new secret takes over while nodes with the old one run', async (t) => {
  const { opened, url } = t.context
  const old = await openFirst(t.context)
  const keys = old.view()
  const both = await openRing(opened, url, { secrets: [newSecret, secret] })
  t.deepEqual(both.view(), keys)
  await both.upkeep()
  t.deepEqual(
    both.changes.map(({ change }) => change),
    Array(8).fill('resealed'),
  )

  const alone = await openRing(opened, url, { secrets: [newSecret] })
  t.deepEqual(alone.view(), keys)
  const refused = await t.throwsAsync(openRing(opened, url), { instanceOf: StorageError })
  t.is(refused?.code, 'secret_mismatch')

  await old.refresh()
  t.is(old.view(), keys)
  // What it would make, nobody else could read.
  await letDaysPass(url, 90)
  await old.refresh()
  await old.upkeep()
  t.is((await old.table.list()).keys.length, 8)
  await alone.refresh()
  await alone.upkeep()
  t.is((await old.table.list()).keys.length, 16)
})

test('many nodes reseal at once, and once', async (t) => {
  const { opened, url } = t.context
  await openFirst(t.context)
  const rings = await eight(() => openRing(opened, url, { secrets: [newSecret, secret] }))
  await eight(async (at) => rings[at]?.upkeep())
  t.is(rings.flatMap(({ changes }) => changes).length, 8)
  const alone = await openRing(opened, url, { secrets: [newSecret] })
  t.deepEqual(alone.unreadable(), [])
})

test('eight schedules that fire at once make one next key of each purpose', async (t) => {
  const { opened, url } = t.context
  const rings = await eight(() => openRing(opened, url))
  const [first] = rings as [TestRing]
  const [before] = names(first, 'ES256')
  await letDaysPass(url, 89)
  await eight(async (at) => rings[at]?.refresh())
  await eight(async (at) => rings[at]?.upkeep())
  await eight(async (at) => rings[at]?.refresh())
  for (const ring of rings) t.deepEqual(ring.view(), first.view())
  for (const purpose of keyPurposes) t.is(first.view()[purpose].length, 2)
  t.is(names(first, 'ES256')[0], before)

  const next = names(first, 'ES256')[1]
  await letDaysPass(url, 1)
  await first.refresh()
  t.deepEqual(names(first, 'ES256'), [next, before])

  await letDaysPass(url, 14)
  await first.refresh()
  t.deepEqual(names(first, 'ES256'), [next])
  await first.upkeep()
  t.is((await first.table.list()).keys.length, 16)
  await letDaysPass(url, 15)
  await first.refresh()
  await first.upkeep()
  t.deepEqual(
    new Set((await first.table.list()).keys.map(({ generation }) => generation)),
    new Set([2]),
  )
  t.is(first.changes.filter(({ change }) => change === 'removed').length, 8)
})

test('a next key signs at its time, also where the database is away', async (t) => {
  const { opened, url } = t.context
  let now = Date.now()
  let away = false
  const plain = await openFirst(t.context)
  const table = {
    ...plain.table,
    list: () => (away ? Promise.reject(new Error('away')) : plain.table.list()),
  }
  const ring = await openRing(opened, url, { table, now: () => now })
  const [before] = names(ring, 'cookie')
  await ring.publish(['cookie'], policy.publish)
  const next = names(ring, 'cookie')[1]
  away = true
  await t.throwsAsync(ring.refresh(), { message: 'away' })
  t.deepEqual(names(ring, 'cookie'), [before, next])
  now += policy.publish + 1000
  t.deepEqual(names(ring, 'cookie'), [next, before])
})

test('a node whose clock is wrong comes to the same answer', async (t) => {
  const { opened, url } = t.context
  const right = await openFirst(t.context)
  for (const error of [-40 * 86_400_000, 40 * 86_400_000]) {
    const wrong = await openRing(opened, url, { now: () => Date.now() + error })
    t.true(Math.abs(wrong.now() - right.now()) < 60_000)
    await wrong.upkeep()
    t.deepEqual(wrong.view(), right.view())
  }
  t.is((await right.table.list()).keys.length, 8)
})

test('a view is the same object until something is another', async (t) => {
  const ring = await openFirst(t.context)
  const before = ring.view()
  await ring.refresh()
  t.is(ring.view(), before)
  await ring.publish(['cookie'], policy.publish)
  t.not(ring.view(), before)
})

test('where all keys of a purpose were taken away, the next start makes new ones', async (t) => {
  const { opened, url } = t.context
  const before = await openFirst(t.context)
  await query(url, "update signing_keys set retired_at = now() where purpose = 'EdDSA'")
  await query(url, "delete from signing_keys where purpose = 'cookie'")
  const after = await openRing(opened, url)
  t.is(after.view().EdDSA.length, 1)
  t.notDeepEqual(names(after, 'EdDSA'), names(before, 'EdDSA'))
  // Those of the first release are for its installations only.
  t.not(after.view().cookie[0]?.k, firstSecretOf(secret, 'cookie').toString('base64url'))
})

test('a reading that was overtaken by a later one changes nothing', async (t) => {
  const { opened, url } = t.context
  const ring = await openRing(opened, url)
  const { table } = ring
  const held: (() => void)[] = []
  let holds = false
  const slow = await openRing(opened, url, {
    table: {
      ...table,
      async list() {
        const found = await table.list()
        const { promise, resolve } = Promise.withResolvers<void>()
        held.push(resolve)
        if (!holds) resolve()
        await promise
        return found
      },
    },
  })
  holds = true
  const first = slow.refresh()
  await until(async () => held.length === 2)
  await ring.publish(['ES256'], 0)
  holds = false
  await slow.refresh()
  const after = slow.view()
  held[1]?.()
  await first
  t.is(slow.view().ES256[0]?.kid, after.ES256[0]?.kid)
  t.is(slow.view().ES256.length, 2)
})
