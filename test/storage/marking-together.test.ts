import test from 'ava'
import { openDatabase } from '../../src/storage/database.ts'
import { createReplayTable, type ReplayTable } from '../../src/storage/replay-table.ts'
import { useTestDatabase } from '../support/database.ts'
import { raceFor } from '../support/lock.ts'

const database = useTestDatabase(test)
const later = Math.floor(Date.now() / 1000) + 300

async function openNode() {
  const pool = await openDatabase(database.url, { onError: () => {} })
  return { pool, replays: createReplayTable(pool) }
}

test('of equal marks that go together one is new', async (t) => {
  const { pool, replays } = await openNode()
  // The first goes at once, and the others together after it.
  const marks = ['first', 'second', 'same', 'same', 'other', 'same'].map((value) =>
    replays.markOnce('client', value, later),
  )
  t.deepEqual(await Promise.all(marks), [true, true, true, false, true, false])
  await pool[Symbol.asyncDispose]()
})

test('nodes that mark the same values in opposite orders do not wait for each other', async (t) => {
  const nodes = await Promise.all([openNode(), openNode()])
  const values = ['a', 'b', 'c', 'd', 'e', 'f', 'g']
  const markAll = (replays: ReplayTable, order: readonly string[]) => async () => {
    // The first goes at once, and the others together after it.
    const marks = [`before ${order}`, ...order].map((value) =>
      replays.markOnce('client', value, later),
    )
    return (await Promise.all(marks)).slice(1)
  }
  const [forth, back] = await raceFor(
    database.url,
    {
      text: `insert into replay_marks (id, expires_at)
             values (sha256(convert_to('6:clientd', 'UTF8')), now())`,
      andThen: 'rollback',
    },
    nodes.map(({ replays }, node) => markAll(replays, node ? values.toReversed() : values)),
  )
  t.deepEqual(
    forth?.map((fresh, at) => fresh !== back?.toReversed()[at]),
    values.map(() => true),
  )
  for (const { pool } of nodes) await pool[Symbol.asyncDispose]()
})

test('the issuer and the value of a mark are two things', async (t) => {
  const { pool, replays } = await openNode()
  t.true(await replays.markOnce('ab', 'c', later))
  t.true(await replays.markOnce('a', 'bc', later))
  await pool[Symbol.asyncDispose]()
})
