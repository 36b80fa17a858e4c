import { randomUUID } from 'node:crypto'
import test from 'ava'
import {
  type Artifact,
  type ArtifactKey,
  type ArtifactTable,
  artifactKey,
  createArtifactTable,
} from '../../src/storage/artifact-table.ts'
import { createCredentialTable } from '../../src/storage/credential-table.ts'
import { type Database, openDatabase } from '../../src/storage/database.ts'
import { replayMark } from '../../src/storage/replay-table.ts'
import { openTestDatabase, useTestDatabase } from '../support/database.ts'

const url = useTestDatabase(test)

let database: Database
let table: ArtifactTable
test.serial.before(async () => {
  database = await openDatabase(url.url, {
    onError: () => {},
    poolSize: 16,
  })
  table = createArtifactTable(database)
})
test.after.always('closes the pool', () => database?.[Symbol.asyncDispose]())

const now = () => Date.now() / 1000

function artifact(changes: Partial<Artifact> = {}): Artifact {
  return {
    ...artifactKey('AuthorizationCode', randomUUID()),
    grantId: undefined,
    uid: undefined,
    accountId: undefined,
    sessionUid: undefined,
    payload: { kind: 'AuthorizationCode', nested: { list: [1, 'two', null] } },
    expiresAt: now() + 60,
    ...changes,
  }
}

async function written(changes: Partial<Artifact> = {}): Promise<Artifact> {
  const made = artifact(changes)
  await table.write(made)
  return made
}

const sixteen = <T>(work: () => Promise<T>) => Promise.all(Array.from({ length: 16 }, work))

/** Whether a unit without a mark became true. */
const consumeAndWrite = async (
  artifacts: ArtifactTable,
  consumed: ArtifactKey | undefined,
  written: readonly Artifact[],
) => (await artifacts.close({ consumed, written })) === 'closed'

test('finds what was written', async (t) => {
  const made = await written()
  t.deepEqual(await table.find(made), { payload: made.payload, consumedAt: null })
})

test('hashes the identifier', (t) => {
  const { id } = artifactKey('AccessToken', 'abc')
  t.is(id.toString('hex'), 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad')
})

test('finds nothing by another identifier', async (t) => {
  await written()
  t.is(await table.find(artifact()), undefined)
})

test('finds nothing of another kind by the same identifier', async (t) => {
  const made = await written()
  t.is(await table.find({ ...made, kind: 'RefreshToken' }), undefined)
})

test('does not find what has expired', async (t) => {
  t.is(await table.find(await written({ expiresAt: now() - 1 })), undefined)
})

test('finds the newest by uid, unless it has expired', async (t) => {
  const uid = randomUUID()
  await written({ kind: 'Session', uid, payload: { which: 'older' }, expiresAt: now() + 60 })
  await written({ kind: 'Session', uid, payload: { which: 'newer' }, expiresAt: now() + 90 })
  await written({ kind: 'Session', uid: randomUUID(), payload: { which: 'other' } })
  const expired = await written({ kind: 'Session', uid: randomUUID(), expiresAt: now() - 1 })
  t.deepEqual((await table.findByUid('Session', uid))?.payload, { which: 'newer' })
  t.is(await table.findByUid('Interaction', uid), undefined)
  t.is(await table.findByUid('Session', expired.uid ?? ''), undefined)
})

test('replaces what is written twice', async (t) => {
  const made = await written({ grantId: 'first' })
  await table.write({ ...made, grantId: 'second', payload: { second: true } })
  t.deepEqual((await table.find(made))?.payload, { second: true })
  await table.removeByGrantId(made.kind, 'first')
  t.truthy(await table.find(made))
})

test('a write does not clear consumption', async (t) => {
  const made = await written()
  t.true(await table.consume(made))
  await table.write({ ...made, payload: { again: true } })
  const found = await table.find(made)
  t.deepEqual(found?.payload, { again: true })
  t.is(typeof found?.consumedAt, 'number')
  t.false(await table.consume(made))
})

test('tells when something was consumed', async (t) => {
  const made = await written()
  await table.consume(made)
  const { consumedAt } = (await table.find(made)) ?? {}
  t.true(Math.abs((consumedAt ?? 0) - now()) < 600)
})

test('of 16 concurrent uses one consumes', async (t) => {
  const made = await written()
  const results = await sixteen(() => table.consume(made))
  t.is(results.filter(Boolean).length, 1)
})

test('does not consume what has expired, or is not there', async (t) => {
  t.false(await table.consume(await written({ expiresAt: now() - 1 })))
  t.false(await table.consume(artifact()))
})

test('consumes and writes in one step', async (t) => {
  const code = await written()
  const tokens = [
    artifact({ kind: 'AccessToken', grantId: 'g', uid: 'u' }),
    artifact({ kind: 'RefreshToken', payload: { kind: 'RefreshToken' } }),
  ]
  t.true(await consumeAndWrite(table, code, tokens))
  t.truthy((await table.find(code))?.consumedAt)
  for (const token of tokens) {
    t.deepEqual(await table.find(token), { payload: token.payload, consumedAt: null })
  }
})

test('keeps grant, uid and expiry of what it writes in one step', async (t) => {
  const uid = randomUUID()
  const grantId = randomUUID()
  const token = artifact({ kind: 'AccessToken', grantId, uid, expiresAt: now() + 3600.5 })
  const expired = artifact({ kind: 'AccessToken', expiresAt: now() - 1 })
  t.true(await consumeAndWrite(table, undefined, [token, expired]))
  t.truthy(await table.findByUid('AccessToken', uid))
  t.is(await table.find(expired), undefined)
  await table.removeByGrantId('AccessToken', grantId)
  t.is(await table.find(token), undefined)
})

test('consumes without writing anything', async (t) => {
  const code = await written()
  t.true(await consumeAndWrite(table, code, []))
  t.false(await consumeAndWrite(table, code, []))
})

test('writes without consuming anything', async (t) => {
  const token = artifact()
  t.true(await consumeAndWrite(table, undefined, [token]))
  t.truthy(await table.find(token))
})

test('writes nothing when there is nothing left to consume', async (t) => {
  const consumed = await written()
  await table.consume(consumed)
  const expired = await written({ expiresAt: now() - 1 })
  for (const code of [consumed, expired, artifact()]) {
    const token = artifact()
    t.false(await consumeAndWrite(table, code, [token]))
    t.is(await table.find(token), undefined)
  }
})

test('consumes nothing when it cannot write everything', async (t) => {
  const code = await written()
  const token = artifact()
  const there = await written()
  // A statement that fails fails for all that go in it, and other tests go in that of `table`.
  const alone = createArtifactTable(database)
  await t.throwsAsync(consumeAndWrite(alone, code, [token, there]), { code: '23505' })
  t.is((await table.find(code))?.consumedAt, null)
  t.is(await table.find(token), undefined)
})

test('of 16 concurrent uses one consumes, and only its tokens are written', async (t) => {
  const code = await written()
  const tokens = Array.from({ length: 16 }, () => artifact({ kind: 'AccessToken' }))
  const results = await Promise.all(tokens.map((token) => consumeAndWrite(table, code, [token])))
  t.is(results.filter(Boolean).length, 1)
  const found = await Promise.all(tokens.map((token) => table.find(token)))
  t.deepEqual(
    found.map((token) => token !== undefined),
    results,
  )
})

test('of a consumption and a consumption with writes at once one succeeds', async (t) => {
  for (let round = 0; round < 8; round += 1) {
    const code = await written()
    const token = artifact()
    const results = await Promise.all([
      table.consume(code),
      consumeAndWrite(table, code, [token]),
      table.remove(code).then(() => false),
    ])
    t.true(results.filter(Boolean).length <= 1)
    t.is((await table.find(token)) !== undefined, results[1])
  }
})

const mark = () => replayMark('client', randomUUID(), now() + 60)

test('with a mark that is there, a unit consumes and writes nothing', async (t) => {
  const used = mark()
  const code = await written()
  const [first, second, third] = [artifact(), artifact(), artifact()]
  t.is(await table.close({ marks: [used], consumed: undefined, written: [first] }), 'closed')
  t.deepEqual(await table.close({ marks: [used], consumed: code, written: [second] }), {
    replayed: 0,
  })
  t.deepEqual(await table.close({ marks: [used], consumed: undefined, written: [third] }), {
    replayed: 0,
  })
  t.is((await table.find(code))?.consumedAt, null)
  t.truthy(await table.find(first))
  t.is(await table.find(second), undefined)
  t.is(await table.find(third), undefined)
})

test('the mark of a unit that could not consume stays', async (t) => {
  const used = mark()
  const nothing = artifact()
  const close = () => table.close({ marks: [used], consumed: nothing, written: [artifact()] })
  t.is(await close(), 'already consumed')
  t.deepEqual(await close(), { replayed: 0 })
})

test('a unit needs all of its marks, and says which one was there', async (t) => {
  const [old, first, second] = [mark(), mark(), mark()] as const
  await table.close({ marks: [old], consumed: undefined, written: [] })
  const code = await written()
  const token = artifact()
  t.deepEqual(await table.close({ marks: [first, old], consumed: code, written: [token] }), {
    replayed: 1,
  })
  t.is((await table.find(code))?.consumedAt, null)
  t.is(await table.find(token), undefined)
  // What the refused request has shown besides is used all the same.
  t.deepEqual(await table.close({ marks: [second, first], consumed: code, written: [] }), {
    replayed: 1,
  })
})

test('of units that go together and share one of their marks one is done', async (t) => {
  const [shared, one, another] = [mark(), mark(), mark()] as const
  const tokens = [artifact(), artifact(), artifact()] as const
  const outcomes = await Promise.all([
    table.close({ marks: [shared, one], consumed: undefined, written: [tokens[0]] }),
    table.close({ marks: [shared, another], consumed: undefined, written: [tokens[1]] }),
    table.close({ marks: [another], consumed: undefined, written: [tokens[2]] }),
  ])
  t.deepEqual(outcomes, ['closed', { replayed: 0 }, { replayed: 0 }])
  const found = await Promise.all(tokens.map((token) => table.find(token)))
  t.deepEqual(
    found.map((token) => token !== undefined),
    [true, false, false],
  )
})

test('units that go together do not share what they consume and write', async (t) => {
  const used = mark()
  await table.close({ marks: [used], consumed: undefined, written: [] })
  const [refused, free] = [await written(), await written()]
  const tokens = [artifact(), artifact(), artifact()] as const
  const outcomes = await Promise.all([
    table.close({ marks: [used], consumed: refused, written: [tokens[0]] }),
    table.close({ marks: [mark()], consumed: free, written: [tokens[1]] }),
    table.close({ marks: [mark()], consumed: artifact(), written: [tokens[2]] }),
  ])
  t.deepEqual(outcomes, [{ replayed: 0 }, 'closed', 'already consumed'])
  const found = await Promise.all([refused, free, ...tokens].map((key) => table.find(key)))
  t.deepEqual(
    found.map((artifact) => artifact && artifact.consumedAt !== null),
    [false, true, undefined, false, undefined],
  )
})

test('of 16 concurrent units with one mark one consumes its own', async (t) => {
  const used = mark()
  const codes = await Promise.all(Array.from({ length: 16 }, () => written()))
  const outcomes = await Promise.all(
    codes.map((code) => table.close({ marks: [used], consumed: code, written: [] })),
  )
  t.is(outcomes.filter((outcome) => outcome === 'closed').length, 1)
  t.is(outcomes.filter((outcome) => typeof outcome === 'object').length, 15)
  const found = await Promise.all(codes.map((code) => table.find(code)))
  t.deepEqual(
    found.map((code) => code?.consumedAt !== null),
    outcomes.map((outcome) => outcome === 'closed'),
  )
})

test('writes strings that PostgreSQL has no text for', async (t) => {
  const payload = { nonce: 'a\0b', claims: { '\0': ['\ud800', '\udc00\ud800'] }, plain: '\\u0000"' }
  const single = await written({ payload })
  t.deepEqual((await table.find(single))?.payload, payload)
  const code = await written()
  const token = artifact({ payload })
  t.true(await consumeAndWrite(table, code, [token]))
  t.deepEqual((await table.find(token))?.payload, payload)
})

test('writes a payload that is as large as a request may be', async (t) => {
  const payload = { state: 'x'.repeat(60_000), odd: `'"\\{},\n\t💧` }
  const token = artifact({ payload })
  t.true(await consumeAndWrite(table, undefined, [token, artifact({ payload })]))
  t.deepEqual((await table.find(token))?.payload, payload)
})

test('finds nothing by a uid with U+0000 or half a surrogate pair', async (t) => {
  t.is(await table.findByUid('Session', 'a\0'), undefined)
  await written({ kind: 'Session', uid: 'a\ufffd' })
  t.is(await table.findByUid('Session', 'a\ud800'), undefined)
})

test('removes one artifact', async (t) => {
  const [gone, kept] = [await written(), await written()]
  await table.remove(gone)
  t.is(await table.find(gone), undefined)
  t.truthy(await table.find(kept))
})

test('removes by grant what is of one kind', async (t) => {
  const grantId = randomUUID()
  const gone = await written({ kind: 'AccessToken', grantId })
  const otherKind = await written({ kind: 'RefreshToken', grantId })
  const otherGrant = await written({ kind: 'AccessToken', grantId: randomUUID() })
  const none = await written({ kind: 'AccessToken' })
  await table.removeByGrantId('AccessToken', grantId)
  t.is(await table.find(gone), undefined)
  for (const kept of [otherKind, otherGrant, none]) t.truthy(await table.find(kept))
})

test('removes a grant with everything that was issued from it', async (t) => {
  const grantId = randomUUID()
  const grant = await written({ ...artifactKey('Grant', grantId) })
  const issued = [
    await written({ kind: 'AccessToken', grantId }),
    await written({ kind: 'RefreshToken', grantId }),
  ]
  const kept = await written({ kind: 'AccessToken', grantId: randomUUID() })
  await table.removeGrant(grant, grantId)
  for (const gone of [grant, ...issued]) t.is(await table.find(gone), undefined)
  t.truthy(await table.find(kept))
})

test('adds nothing beside a living one of the same kind and uid', async (t) => {
  const uid = randomUUID()
  t.true(await table.add(artifact({ uid, expiresAt: now() - 1 })))
  t.true(await table.add(artifact({ uid })))
  t.false(await table.add(artifact({ uid })))
  t.true(await table.add(artifact({ uid, ...artifactKey('Interaction', uid) })))
})

test('of sixteen that leave one state, one arrives', async (t) => {
  const made = artifact({ uid: randomUUID() })
  await table.add(made)
  const go = (at: number) =>
    table.advance({ ...made, payload: { at } }, { from: null, to: 'in flight' })
  const arrived = await Promise.all(Array.from({ length: 16 }, (_, at) => go(at)))
  t.is(arrived.filter(Boolean).length, 1)
  t.deepEqual((await table.find(made))?.payload, { at: arrived.indexOf(true) })
  t.true(await table.advance(made, { from: 'in flight', to: null }))
})

test('advances nothing that was consumed, has ended, or has another uid', async (t) => {
  const step = { from: null, to: 'decided' }
  const consumed = artifact({ uid: randomUUID() })
  await table.add(consumed)
  await table.consume(consumed)
  t.false(await table.advance(consumed, step))
  const ended = artifact({ uid: randomUUID(), expiresAt: now() - 1 })
  await table.add(ended)
  t.false(await table.advance(ended, step))
  for (const uid of [randomUUID(), 'a\0b']) {
    t.false(await table.advance(artifact({ uid }), step))
  }
})

test('goes by keys in a table that was filled after its statements were planned', async (t) => {
  await using own = await openTestDatabase()
  await using alone = await openDatabase(own.url, { onError: () => {}, poolSize: 1 })
  const [artifacts, credentials] = [createArtifactTable(alone), createCredentialTable(alone)]
  await alone.query({ text: 'alter table artifacts set (autovacuum_enabled = false)' })
  const familyId = 'family'
  const token = () => artifact({ grantId: 'grant', familyId })
  const use = async (consumed: Artifact) => {
    const successor = token()
    const found = await credentials.find<object, object>(consumed)
    t.truthy(found?.grant)
    t.is(await artifacts.close({ consumed, written: [successor] }), 'closed')
    return successor
  }
  await artifacts.write(artifact(artifactKey('Grant', 'grant')))
  const first = token()
  await artifacts.write(first)
  const second = await use(first)
  await alone.query({
    text: `insert into artifacts (kind, id, payload, expires_at)
           select kind, sha256(n::text::bytea), '{}', now() + interval '1 hour'
             from generate_series(1, 1000) n, unnest(array['RefreshToken', 'Grant', 'EndedFamily']) kind`,
  })
  const read = async () => {
    await alone.query({ text: 'select pg_stat_force_next_flush()' })
    const { rows } = await alone.query<{ read: number }>({
      text: `select (seq_tup_read + (select sum(idx_tup_read) from pg_stat_user_indexes
                                      where relname = 'artifacts'))::int as read
               from pg_stat_user_tables where relname = 'artifacts'`,
    })
    return rows[0]?.read ?? 0
  }
  const before = await read()
  await use(second)
  t.true((await read()) - before < 20)
})
