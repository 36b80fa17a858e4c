import { setTimeout } from 'node:timers/promises'
import test from 'ava'
import { artifactKey } from '../../src/storage/artifact-table.ts'
import type { Database } from '../../src/storage/database.ts'
import { createStandby, type StandbyChange } from '../../src/storage/standby.ts'
import { until } from '../support/until.ts'

const mostBehindMs = 40

/** A standby that shows the writes a test chooses, with a clock that only the test moves. */
function watched() {
  const state = {
    now: 1000,
    /** The last write to the primary, in seconds, and the one that the standby shows. */
    written: 0,
    shown: undefined as string | undefined,
    /** Seconds by which the standby is ahead. */
    ahead: 0,
    /** Milliseconds that a write takes. */
    writeMs: 0,
    fails: false,
  }
  const changes: StandbyChange[] = []
  const answer = (row: object) => ({ rows: [row], rowCount: 1 }) as never
  const standby = createStandby({
    url: 'postgresql://nowhere',
    mostBehindMs,
    now: () => state.now,
    primary: {
      async query() {
        state.written += 1
        state.now += state.writeMs
        return answer({ at: String(state.written) })
      },
    },
    open: async () =>
      ({
        async query({ name }) {
          if (name === 'standby-shows') {
            return answer({
              at: state.shown ?? String(state.written),
              now: state.written + state.ahead,
            })
          }
          if (state.fails) throw new Error('canceling statement due to conflict with recovery')
          return { rows: [], rowCount: 0 } as never
        },
        poolUse: () => ({ open: 0, idle: 0, waiting: 0, waitMs: 0 }),
        async [Symbol.asyncDispose]() {},
      }) as Database,
  })
  standby.watch((change) => changes.push(change))
  return { state, changes, standby }
}

test('counts as behind from the beginning of the write that the standby shows', async (t) => {
  const { state, standby } = watched()
  await using _ = standby
  state.writeMs = 7
  await until(async () => standby.behindMs() === 7)
  state.shown = String(state.written)
  state.now += 10
  t.true((standby.behindMs() ?? 0) >= 17)
})

test('is read until the limit has passed since the last write that it shows', async (t) => {
  const { state, changes, standby } = watched()
  await using _ = standby
  await until(async () => standby.behindMs() === 0)
  state.shown = String(state.written)
  state.now += mostBehindMs
  t.truthy(standby.credentials())
  state.now += 1
  t.is(standby.credentials(), undefined)
  await until(async () => changes.length === 2)
  t.deepEqual(
    changes.map(({ isRead }) => isRead),
    [true, false],
  )
  state.shown = undefined
  await until(async () => standby.credentials() !== undefined)
})

test('is not read where it shows a write of someone else', async (t) => {
  const { state, standby } = watched()
  await using _ = standby
  state.shown = '999999'
  await setTimeout(mostBehindMs)
  t.is(standby.credentials(), undefined)
})

test('is not read where its clock differs by more than the limit', async (t) => {
  for (const ahead of [-1, 1]) {
    const { state, changes, standby } = watched()
    await using _ = standby
    state.ahead = ahead
    await until(async () => state.written > 4)
    t.is(standby.credentials(), undefined)
    state.now += mostBehindMs
    await until(async () => changes.length === 1)
    const [change] = changes
    t.is(
      String(change && !change.isRead && change.error),
      'Error: its clock differs from that of the primary',
    )
  }
})

test('is not asked again after an error until a look has succeeded', async (t) => {
  const { state, standby } = watched()
  await using _ = standby
  await until(async () => standby.credentials() !== undefined)
  state.fails = true
  const lookup = standby.credentials()
  await t.throwsAsync(lookup?.find(artifactKey('AccessToken', 'one')) ?? Promise.resolve())
  t.is(standby.credentials(), undefined)
  t.is(standby.reads(), 1)
  await until(async () => standby.credentials() !== undefined)
})
