import test from 'ava'
import { createEventCounts } from '../../src/observability/event-counts.ts'
import type { CountedEvent } from '../../src/storage/counted-event-table.ts'

function counting(options: { rowsPerMinute?: number; tickMs?: number } = {}) {
  const { tickMs = 0, ...others } = options
  const written: CountedEvent[][] = []
  const clock = { now: 60_000 }
  const counts = createEventCounts({
    add: async (rows) => void written.push([...rows]),
    onError: () => {},
    now: () => {
      clock.now += tickMs
      return clock.now
    },
    ...others,
  })
  const refuse = (address: string) =>
    counts.record({ event: 'edge.refused', reason: 'untrusted_peer', address })
  return { counts, clock, written, refuse }
}

test('ten thousand requests of one network in a minute are one row', async (t) => {
  const { counts, written, refuse } = counting()
  for (let count = 0; count < 10_000; count += 1) refuse(`2001:db8::${(count + 1).toString(16)}`)
  await counts.flush()
  t.is(written.length, 1)
  t.like(written[0], [{ network: '2001:db8:0:0::/64', count: 10_000, minute: new Date(60_000) }])
  t.is(written[0]?.length, 1)
})

test('ten thousand networks in a minute are a bounded number of rows, and none is lost', async (t) => {
  const { counts, written, refuse } = counting()
  for (let count = 0; count < 10_000; count += 1) {
    refuse(`10.9.${count >> 8}.${count & 255}`)
    if (count === 5000) await counts.flush()
  }
  await counts.flush()
  const rows = written.flat()
  t.is(new Set(rows.map(({ network }) => network)).size, 201)
  t.is(
    rows.reduce((sum, { count }) => sum + count, 0),
    10_000,
  )
  t.true(rows.some(({ network, reason }) => network === '*' && reason === '*'))
})

test('a minute is one row, whenever in it the clock is read', async (t) => {
  const { counts, written, refuse } = counting({ tickMs: 1 })
  for (let count = 0; count < 100; count += 1) refuse('192.0.2.1')
  await counts.flush()
  t.deepEqual(
    written.flat().map(({ minute, count }) => [minute.getTime(), count]),
    [[60_000, 100]],
  )
})

test('another minute is another row, with room for networks again', async (t) => {
  const { counts, clock, written, refuse } = counting({ rowsPerMinute: 1 })
  refuse('192.0.2.1')
  clock.now = 120_001
  refuse('192.0.2.2')
  await counts.flush()
  t.deepEqual(
    written.flat().map(({ minute, network }) => [minute.getTime(), network]),
    [
      [60_000, '192.0.2.1'],
      [120_000, '192.0.2.2'],
    ],
  )
})
