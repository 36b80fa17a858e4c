import { randomBytes } from 'node:crypto'
import test from 'ava'
import {
  type Artifact,
  type ArtifactKey,
  type ArtifactTable,
  artifactKey,
  createArtifactTable,
} from '../../src/storage/artifact-table.ts'
import { openDatabase } from '../../src/storage/database.ts'
import { replayMark } from '../../src/storage/replay-table.ts'
import { useTestDatabase } from '../support/database.ts'
import { race, raceFor } from '../support/lock.ts'

const database = useTestDatabase(test)

async function openNode({ options = '' } = {}) {
  const url = new URL(database.url)
  url.searchParams.set('options', options)
  const pool = await openDatabase(url.href, { onError: () => {} })
  return { pool, artifacts: createArtifactTable(pool) }
}

function artifact(kind: string) {
  return {
    ...artifactKey(kind, randomBytes(16).toString('hex')),
    grantId: undefined,
    uid: undefined,
    accountId: undefined,
    sessionUid: undefined,
    payload: {},
    expiresAt: Math.floor(Date.now() / 1000) + 60,
  }
}

/** Whether a unit without a mark became true. */
const consumeAndWrite = async (
  artifacts: ArtifactTable,
  consumed: ArtifactKey | undefined,
  written: readonly Artifact[],
) => (await artifacts.close({ consumed, written })) === 'closed'

const units = async (artifacts: ArtifactTable, kinds: readonly string[]) => {
  const used = kinds.map(artifact)
  for (const one of used) await artifacts.write(one)
  return used.map((consumed) => ({ consumed, written: [artifact('Successor')] }))
}

const isThere = async (artifacts: ArtifactTable, key: Parameters<ArtifactTable['find']>[0]) =>
  (await artifacts.find(key)) !== undefined

test('of units that consume the same and go together, one is done', async (t) => {
  const { pool, artifacts } = await openNode()
  const [first, second, one, other] = await units(artifacts, ['Token', 'Token', 'Token', 'Token'])
  if (!first || !second || !one || !other) return t.fail()
  const again = { ...one, written: [artifact('Successor')] }
  const free = { consumed: undefined, written: [artifact('Successor')] }
  // The first goes at once, and the others together after it.
  const asked = [first, second, one, again, other, free]
  const done = await Promise.all(
    asked.map(({ consumed, written }) => consumeAndWrite(artifacts, consumed, written)),
  )
  t.is(done.filter((won) => won).length, 5)
  t.not(done[2], done[3])
  for (const [at, { written }] of asked.entries()) {
    t.is(await isThere(artifacts, written[0] as never), done[at] as boolean)
  }
  t.false(await consumeAndWrite(artifacts, one.consumed, again.written))
  await pool[Symbol.asyncDispose]()
})

test.serial(
  'nodes that consume the same in opposite orders do not wait for each other',
  async (t) => {
    // A table of millions of rows is not read from end to end.
    const options = '-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off'
    const nodes = await Promise.all([openNode({ options }), openNode({ options })])
    const artifacts = nodes[0]?.artifacts as ArtifactTable
    const shared = await units(artifacts, ['A', 'B', 'Held', 'I', 'J'])
    const consumeAll = (table: ArtifactTable, order: typeof shared) => async () => {
      const before = await units(artifacts, ['Token'])
      const asked = [...before, ...order].map(({ consumed }) =>
        consumeAndWrite(table, consumed, [artifact('Successor')]),
      )
      return (await Promise.all(asked)).slice(before.length)
    }
    const [forth, back] = await race(
      database.url,
      'Held',
      nodes.map((node, at) => consumeAll(node.artifacts, at ? shared.toReversed() : shared)),
    )
    t.deepEqual(
      forth?.map((done, at) => done !== back?.toReversed()[at]),
      shared.map(() => true),
    )
    for (const { pool } of nodes) await pool[Symbol.asyncDispose]()
  },
)

test.serial(
  'nodes that show the same marks in opposite orders do not wait for each other',
  async (t) => {
    const nodes = await Promise.all([openNode(), openNode()])
    const marks = ['a', 'b', 'c', 'held', 'e', 'f'].map((value) =>
      replayMark('client', value, Date.now() / 1000 + 60),
    )
    const closeAll =
      ({ artifacts }: (typeof nodes)[number], order: typeof marks) =>
      () =>
        Promise.all(
          order.map((mark) =>
            artifacts.close({ marks: [mark], consumed: undefined, written: [artifact('Token')] }),
          ),
        )
    const [forth, back] = await raceFor(
      database.url,
      {
        text: `insert into replay_marks (id, expires_at) values ('\\x${marks[3]?.id}', now())`,
        andThen: 'rollback',
      },
      nodes.map((node, at) => closeAll(node, at ? marks.toReversed() : marks)),
    )
    t.deepEqual(
      forth?.map((outcome, at) => (outcome === 'closed') !== (back?.toReversed()[at] === 'closed')),
      marks.map(() => true),
    )
    for (const { pool } of nodes) await pool[Symbol.asyncDispose]()
  },
)
