import test from 'ava'
import { createBuckets, createNetworkLimit } from '../../src/limits/network-limit.ts'
import type { Limiter } from '../../src/storage/limiter.ts'

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
