import { isDeepStrictEqual } from 'node:util'
import test from 'ava'
import fc from 'fast-check'
import { createCatchUp } from '../../src/keys/catch-up.ts'
import { createKeyObserver } from '../../src/keys/key-metrics.ts'
import type { KeyRing, KeySchedule } from '../../src/keys/key-ring.ts'
import { startKeyRotation } from '../../src/keys/key-rotation.ts'
import { dueIn, nextChange, type ScheduledKey, scheduleKeys } from '../../src/keys/key-schedule.ts'
import type { KeyTimes } from '../../src/storage/signing-key-table.ts'
import { recordingEvents } from '../support/events.ts'

const policy = { rotation: 1000, publish: 100, keep: 50 }

const key = (generation: number, times: Partial<KeyTimes> = {}): KeyTimes => ({
  kid: `k${generation}`,
  generation,
  createdAt: 0,
  signsFrom: 0,
  retiredAt: undefined,
  ...times,
})

const states = (keys: readonly KeyTimes[], now: number) =>
  Object.fromEntries(
    scheduleKeys(keys, now, policy).map((each) => [each.key.kid, each.state] as const),
  )

const two = [key(1), key(2, { createdAt: 900, signsFrom: 1000 })]

test('no key at all: one is due at once', (t) => {
  t.deepEqual(scheduleKeys([], 0, policy), [])
  t.is(dueIn([], 0, policy), 0)
})

for (const [title, now, expected] of [
  ['signs before the next one does', 999, { k1: 'signing', k2: 'published' }],
  ['verifies from the moment the next one signs', 1000, { k1: 'verifying', k2: 'signing' }],
  ['verifies until what it signed has ended', 1049, { k1: 'verifying', k2: 'signing' }],
  ['is retired then', 1050, { k1: 'retired', k2: 'signing' }],
] as const) {
  test(`a key ${title}`, (t) => t.deepEqual(states(two, now), expected))
}

test('tells until when a key signs and when it ends', (t) => {
  const [first, second] = scheduleKeys(two, 950, policy)
  t.like(first, { signsUntil: 1000, endsAt: 1050 })
  t.is(second?.signsUntil, undefined)
  t.is(second?.endsAt, undefined)
})

test('the order of rows is of no matter', (t) => {
  t.deepEqual(scheduleKeys([...two].reverse(), 1010, policy), scheduleKeys(two, 1010, policy))
})

test('a key that is retired now is refused now, and the next one signs early', (t) => {
  const [first, second] = two as [KeyTimes, KeyTimes]
  t.deepEqual(states([{ ...first, retiredAt: 950 }, second], 950), { k1: 'retired', k2: 'signing' })
  t.deepEqual(states([{ ...first, retiredAt: 950 }, second], 949), {
    k1: 'signing',
    k2: 'published',
  })
})

test('a retired key does not bring the one before it back', (t) => {
  const keys = [key(1), key(2, { signsFrom: 1000, retiredAt: 1020 }), key(3, { signsFrom: 1020 })]
  t.deepEqual(states(keys, 1020), { k1: 'verifying', k2: 'retired', k3: 'signing' })
  // What k1 signed last it signed before k2 began.
  t.is(scheduleKeys(keys, 1020, policy)[0]?.endsAt, 1050)
})

test('rather an old key than none', (t) => {
  t.deepEqual(states([key(1), key(2, { signsFrom: 1000, retiredAt: 1020 })], 1020), {
    k1: 'signing',
    k2: 'retired',
  })
})

test('a key that was withdrawn before it signed changes nothing for the one before it', (t) => {
  const withdrawn = [key(1), key(2, { createdAt: 900, signsFrom: 1000, retiredAt: 950 })]
  t.deepEqual(states(withdrawn, 2000), { k1: 'signing', k2: 'retired' })
  t.is(scheduleKeys(withdrawn, 2000, policy)[0]?.signsUntil, undefined)
})

test('a next key is due early enough to be published for the whole window', (t) => {
  const due = (now: number) => dueIn(scheduleKeys([key(1)], now, policy), now, policy)
  t.is(due(899), undefined)
  t.is(due(900), 100)
  // Nobody was there in time: it is published for the whole window all the same.
  t.is(due(5000), 100)
})

test('no key is due while one is published, or where keys do not rotate by themselves', (t) => {
  t.is(dueIn(scheduleKeys(two, 950, policy), 950, policy), undefined)
  const never = { ...policy, rotation: Number.POSITIVE_INFINITY }
  t.is(dueIn(scheduleKeys([key(1)], 1e12, never), 1e12, never), undefined)
})

test('tells when something changes next', (t) => {
  const next = (now: number) => nextChange(scheduleKeys(two, now, policy), now)
  t.deepEqual([0, 999, 1000, 1049].map(next), [1000, 1000, 1050, 1050])
  t.is(next(1050), Number.POSITIVE_INFINITY)
})

/** Rows as they may stand at a moment: what was retired was retired before it. */
const moment = fc.integer({ min: 0, max: 4000 }).chain((now) =>
  fc.record({
    now: fc.constant(now),
    keys: fc
      .array(
        fc.record({
          signsFrom: fc.integer({ min: 0, max: 4000 }),
          retiredAt: fc.option(fc.integer({ min: 0, max: now }), { nil: undefined }),
        }),
        { minLength: 1, maxLength: 6 },
      )
      .map((all) => all.map((times, at) => key(at + 1, times))),
  }),
)

const isSigning = ({ state }: ScheduledKey) => state === 'signing'

test('whatever the rows are, one key signs at every moment unless all are retired', (t) => {
  fc.assert(
    fc.property(moment, ({ keys, now }) => {
      const live = keys.filter(({ retiredAt }) => retiredAt === undefined)
      const signing = scheduleKeys(keys, now, policy).filter(isSigning)
      const isLive = signing.every(({ key }) => live.includes(key))
      return isLive && signing.length === Math.min(1, live.length)
    }),
    { numRuns: 1000 },
  )
  t.pass()
})

test('nothing changes before the time of the next change', (t) => {
  fc.assert(
    fc.property(moment, ({ keys, now }) => {
      const until = Math.min(9000, nextChange(scheduleKeys(keys, now, policy), now))
      const before = states(keys, now)
      return [now, Math.floor((now + until) / 2), until - 1].every(
        (at) => at < now || isDeepStrictEqual(states(keys, at), before),
      )
    }),
    { numRuns: 1000 },
  )
  t.pass()
})

/** Seconds. A rotation that is as short as it may be, so that every window is at its limit. */
const limits = { poll: 20, cache: 100, lives: 60, clocks: 3 }
const tight = {
  rotation: 400,
  publish: limits.cache + limits.poll + 2 * limits.clocks,
  keep: limits.lives + limits.poll + 2 * limits.clocks,
}

interface Step {
  readonly wait: number
  readonly node: number
  readonly act: 'poll' | 'rotate' | 'sign'
}

const nodes = 3
const life = fc.record({
  errors: fc.tuple(...Array.from({ length: nodes }, () => fc.integer({ min: -3, max: 3 }))),
  steps: fc.array(
    fc.record<Step>({
      wait: fc.integer({ min: 0, max: 15 }),
      node: fc.integer({ min: 0, max: nodes - 1 }),
      act: fc.constantFrom('poll', 'sign', 'sign', 'sign', 'rotate'),
    }),
    { minLength: 100, maxLength: 300 },
  ),
})

/** Nodes that poll when they like, but within the interval, and all else at random. */
function live({ errors, steps }: { errors: readonly number[]; steps: readonly Step[] }): string[] {
  const problems: string[] = []
  let table: KeyTimes[] = [key(1)]
  let now = 0
  // What each node knew at which time.
  const known = errors.map(() => [{ at: 0, rows: table }])
  const knownAt = (node: number, at: number) =>
    known[node]?.findLast((entry) => entry.at <= at)?.rows ?? []
  const scheduledBy = (node: number, at: number) =>
    scheduleKeys(knownAt(node, at), at + (errors[node] ?? 0), tight)
  const accepts = (node: number, at: number, kid: string) =>
    scheduledBy(node, at).some((each) => each.key.kid === kid && each.state !== 'retired')

  function insert(generation: number) {
    // The constraint of the table.
    if (table.some((row) => row.generation === generation)) return
    table = [...table, key(generation, { createdAt: now, signsFrom: now + tight.publish })]
  }

  function poll(node: number) {
    known[node]?.push({ at: now, rows: table })
    const scheduled = scheduledBy(node, now)
    const due = dueIn(scheduled, now + (errors[node] ?? 0), tight)
    if (due !== undefined) insert(scheduled.length + 1)
  }

  const signed: { kid: string; until: number }[] = []
  const look = () => {
    for (const { kid, until } of signed) {
      if (until < now) continue
      for (const node of errors.keys()) {
        if (!accepts(node, now, kid)) problems.push(`${now}: node ${node} refuses ${kid}`)
      }
    }
  }
  for (const { wait, node, act } of steps) {
    for (let second = 0; second < wait; second += 1) {
      now += 1
      for (const each of errors.keys()) {
        if (now - (known[each]?.at(-1)?.at ?? 0) >= limits.poll) poll(each)
      }
      look()
    }
    if (act === 'poll') poll(node)
    if (act === 'rotate') insert(table.length + 1)
    if (act !== 'sign') continue
    const kid = scheduledBy(node, now).find(isSigning)?.key.kid ?? 'none'
    signed.push({ kid, until: now + limits.lives })
    // An API that fetched the key set from any node, and will not ask again before its time.
    for (const other of errors.keys()) {
      if (!accepts(other, Math.max(0, now - limits.cache), kid)) {
        problems.push(`${now}: the key set that node ${other} gave had no ${kid} yet`)
      }
    }
    look()
  }
  return problems
}

test('what any node signs is accepted by every node and every cache until it has ended', (t) => {
  fc.assert(
    fc.property(life, (lived) => {
      const [problem] = live(lived)
      if (problem) throw new Error(problem)
    }),
    { numRuns: 60 },
  )
  t.pass()
})

const signing = (kid: string, signsFrom: number): KeySchedule => ({
  key: {
    kid,
    purpose: 'ES256',
    generation: 1,
    createdAt: 0,
    signsFrom,
    retiredAt: undefined,
    jwe: '',
  },
  state: 'signing',
  signsUntil: undefined,
  endsAt: undefined,
})

function observed() {
  const { events, metrics, logged } = recordingEvents()
  const ring = { keys: [signing('k1', 1000)], unreadable: [] as string[] }
  const observe = createKeyObserver(
    {
      now: () => 61_000,
      scheduled: () => ring.keys,
      unreadable: () => ring.unreadable,
    } satisfies Partial<KeyRing>,
    { events, metrics },
  )
  return { ring, observe, logged, metrics }
}

test('tells the age of the key that signs', async (t) => {
  const { observe, metrics } = observed()
  observe()
  t.regex(
    await metrics.registry.metrics(),
    /^holdfast_signing_key_age_seconds\{purpose="ES256"\} 60$/m,
  )
})

test('says once that another key signs, or that one cannot be opened', async (t) => {
  const { observe, ring, logged, metrics } = observed()
  observe()
  t.deepEqual(logged, [])
  ring.keys = [signing('k2', 60_000)]
  ring.unreadable = ['k3']
  observe()
  observe()
  t.deepEqual(
    logged.map((line) => (line as { event: string }).event),
    ['key.signs', 'keys.unreadable'],
  )
  t.regex(await metrics.registry.metrics(), /^holdfast_keys_unreadable 1$/m)
})

test('continues after an error, and ends when it is disposed', async (t) => {
  const errors: unknown[] = []
  const failure = new Error('the database is away')
  const { promise: refreshed, resolve: onRefreshed } = Promise.withResolvers<void>()
  let reads = 0
  let upkeeps = 0
  const rotation = startKeyRotation({
    ring: {
      async refresh() {
        reads += 1
        if (reads < 3) throw failure
      },
      async upkeep() {
        upkeeps += 1
      },
    },
    interval: 1,
    onRefreshed,
    onError: (error) => errors.push(error),
  })
  // Its timer keeps no process alive.
  const alive = setInterval(() => {}, 1000)
  await refreshed
  clearInterval(alive)
  await rotation[Symbol.asyncDispose]()
  t.deepEqual(errors, [failure, failure])
  const before = [reads, upkeeps]
  t.is(reads - upkeeps, 2)
  await new Promise(setImmediate)
  t.deepEqual([reads, upkeeps], before)
})

test('ends a round that has begun, and no later one', async (t) => {
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>()
  const { promise: answered, resolve: answer } = Promise.withResolvers<void>()
  let upkeeps = 0
  const rotation = startKeyRotation({
    ring: {
      refresh() {
        begin()
        return answered
      },
      async upkeep() {
        upkeeps += 1
      },
    },
    interval: 3_600_000,
    onRefreshed() {},
    onError: (error) => t.fail(String(error)),
  })
  await begun
  const ended = rotation[Symbol.asyncDispose]()
  answer()
  await ended
  t.is(upkeeps, 1)
})

test('reads the keys for requests once a second, and answers while the database is away', async (t) => {
  let time = 0
  let readings = 0
  let answer = Promise.resolve()
  const refresh = () => {
    readings += 1
    return answer
  }
  const catchUp = createCatchUp({ refresh }, { now: () => time, patienceMs: 1 })
  await Promise.all([catchUp(), catchUp()])
  time = 999
  await catchUp()
  t.is(readings, 1)
  time = 1000
  answer = Promise.reject(new Error('away'))
  await catchUp()
  t.is(readings, 2)
  time = 2000
  answer = new Promise(() => {})
  await catchUp()
  time = 9000
  await catchUp()
  t.is(readings, 3)
})
