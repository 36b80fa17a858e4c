import test from 'ava'
import { openDatabase } from '../../src/storage/database.ts'
import { createReplayTable } from '../../src/storage/replay-table.ts'
import { useTestDatabase } from '../support/database.ts'

const database = useTestDatabase(test)
const later = Math.floor(Date.now() / 1000) + 300

async function openNode() {
  const pool = await openDatabase(database.url, { onError: () => {} })
  return { pool, replays: createReplayTable(pool) }
}

test('of equal marks that go together one is new', async (t) => {
  const { pool, replays } = await openNode()
  const marks = ['before', 'same', 'same', 'other', 'same'].map((value) =>
    replays.markOnce('client', value, later),
  )
  t.deepEqual(await Promise.all(marks), [true, true, false, true, false])
  await pool[Symbol.asyncDispose]()
})

test('nodes that mark the same values in opposite orders neither wait for ever nor agree twice', async (t) => {
  const nodes = await Promise.all([openNode(), openNode()])
  const values = Array.from({ length: 200 }, (_, index) => `value ${index}`)
  const answers = await Promise.all(
    nodes.map(({ replays }, node) =>
      Promise.all(
        (node ? values.toReversed() : values).map(async (value) => ({
          value,
          fresh: await replays.markOnce('client', value, later),
        })),
      ),
    ),
  )
  const fresh = answers.flat().filter((answer) => answer.fresh)
  t.deepEqual(fresh.map(({ value }) => value).sort(), values.toSorted())
  for (const { pool } of nodes) await pool[Symbol.asyncDispose]()
})

test('the issuer and the value of a mark are two things', async (t) => {
  const { pool, replays } = await openNode()
  t.true(await replays.markOnce('ab', 'c', later))
  t.true(await replays.markOnce('a', 'bc', later))
  await pool[Symbol.asyncDispose]()
})
