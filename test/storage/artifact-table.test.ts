import { randomBytes, randomUUID } from 'node:crypto'
import test, { type ExecutionContext } from 'ava'
import type { Adapter } from 'oidc-provider'
import pg from 'pg'
import { AlreadyConsumedError } from '../../src/storage/already-consumed.ts'
import {
  type Artifact,
  type ArtifactKey,
  type ArtifactTable,
  artifactKey,
  createArtifactTable,
} from '../../src/storage/artifact-table.ts'
import { createCredentialLookup } from '../../src/storage/credential-lookup.ts'
import { type Database, openDatabase } from '../../src/storage/database.ts'
import { createEngineAdapter } from '../../src/storage/engine-adapter.ts'
import { createEngineTimes } from '../../src/storage/engine-times.ts'
import { replayEntry } from '../../src/storage/replay-table.ts'
import { openTestDatabase, useTestDatabase } from '../support/database.ts'
import { basic, createPerson, newKey, obtainCode, post } from '../support/flow.ts'
import { race, raceFor } from '../support/lock.ts'
import { api, email, password, useTestServer } from '../support/server.ts'

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
) => (await artifacts.commit({ consumed, written })) === 'committed'

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

const newEntry = () => replayEntry('client', randomUUID(), now() + 60)

test('with a mark that is there, a unit consumes and writes nothing', async (t) => {
  const used = newEntry()
  const code = await written()
  const [first, second, third] = [artifact(), artifact(), artifact()]
  t.is(
    await table.commit({ replayEntries: [used], consumed: undefined, written: [first] }),
    'committed',
  )
  t.deepEqual(await table.commit({ replayEntries: [used], consumed: code, written: [second] }), {
    replayed: 0,
  })
  t.deepEqual(
    await table.commit({ replayEntries: [used], consumed: undefined, written: [third] }),
    {
      replayed: 0,
    },
  )
  t.is((await table.find(code))?.consumedAt, null)
  t.truthy(await table.find(first))
  t.is(await table.find(second), undefined)
  t.is(await table.find(third), undefined)
})

test('the mark of a unit that could not consume stays', async (t) => {
  const used = newEntry()
  const nothing = artifact()
  const close = () =>
    table.commit({ replayEntries: [used], consumed: nothing, written: [artifact()] })
  t.is(await close(), 'already consumed')
  t.deepEqual(await close(), { replayed: 0 })
})

test('a unit needs all of its marks, and says which one was there', async (t) => {
  const [old, first, second] = [newEntry(), newEntry(), newEntry()] as const
  await table.commit({ replayEntries: [old], consumed: undefined, written: [] })
  const code = await written()
  const token = artifact()
  t.deepEqual(
    await table.commit({ replayEntries: [first, old], consumed: code, written: [token] }),
    {
      replayed: 1,
    },
  )
  t.is((await table.find(code))?.consumedAt, null)
  t.is(await table.find(token), undefined)
  // What the refused request has shown besides is used all the same.
  t.deepEqual(await table.commit({ replayEntries: [second, first], consumed: code, written: [] }), {
    replayed: 1,
  })
})

test('of units that go together and share one of their marks one is done', async (t) => {
  const [shared, one, another] = [newEntry(), newEntry(), newEntry()] as const
  const tokens = [artifact(), artifact(), artifact()] as const
  const outcomes = await Promise.all([
    table.commit({ replayEntries: [shared, one], consumed: undefined, written: [tokens[0]] }),
    table.commit({ replayEntries: [shared, another], consumed: undefined, written: [tokens[1]] }),
    table.commit({ replayEntries: [another], consumed: undefined, written: [tokens[2]] }),
  ])
  t.deepEqual(outcomes, ['committed', { replayed: 0 }, { replayed: 0 }])
  const found = await Promise.all(tokens.map((token) => table.find(token)))
  t.deepEqual(
    found.map((token) => token !== undefined),
    [true, false, false],
  )
})

test('units that go together do not share what they consume and write', async (t) => {
  const used = newEntry()
  await table.commit({ replayEntries: [used], consumed: undefined, written: [] })
  const [refused, free] = [await written(), await written()]
  const tokens = [artifact(), artifact(), artifact()] as const
  const outcomes = await Promise.all([
    table.commit({ replayEntries: [used], consumed: refused, written: [tokens[0]] }),
    table.commit({ replayEntries: [newEntry()], consumed: free, written: [tokens[1]] }),
    table.commit({ replayEntries: [newEntry()], consumed: artifact(), written: [tokens[2]] }),
  ])
  t.deepEqual(outcomes, [{ replayed: 0 }, 'committed', 'already consumed'])
  const found = await Promise.all([refused, free, ...tokens].map((key) => table.find(key)))
  t.deepEqual(
    found.map((artifact) => artifact && artifact.consumedAt !== null),
    [false, true, undefined, false, undefined],
  )
})

test('of 16 concurrent units with one mark one consumes its own', async (t) => {
  const used = newEntry()
  const codes = await Promise.all(Array.from({ length: 16 }, () => written()))
  const outcomes = await Promise.all(
    codes.map((code) => table.commit({ replayEntries: [used], consumed: code, written: [] })),
  )
  t.is(outcomes.filter((outcome) => outcome === 'committed').length, 1)
  t.is(outcomes.filter((outcome) => typeof outcome === 'object').length, 15)
  const found = await Promise.all(codes.map((code) => table.find(code)))
  t.deepEqual(
    found.map((code) => code?.consumedAt !== null),
    outcomes.map((outcome) => outcome === 'committed'),
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
  const [artifacts, credentials] = [createArtifactTable(alone), createCredentialLookup(alone)]
  await alone.query({ text: 'alter table artifacts set (autovacuum_enabled = false)' })
  const familyId = 'family'
  const token = () => artifact({ grantId: 'grant', familyId })
  const use = async (consumed: Artifact) => {
    const successor = token()
    const found = await credentials.find<object, object>(consumed)
    t.truthy(found?.grant)
    t.is(await artifacts.commit({ consumed, written: [successor] }), 'committed')
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

const server = useTestServer(test)
const callback = 'http://127.0.0.1/callback'

const times = createEngineTimes({ now: Date.now })
const adapterOf = (kind: string) => createEngineAdapter({ ...server.storage, times })(kind)

/** Every row of every table, as text. */
async function dump(): Promise<string> {
  const client = new pg.Client({ connectionString: server.databaseUrl })
  await client.connect()
  try {
    const { rows: tables } = await client.query<{ name: string }>(
      "select tablename as name from pg_tables where schemaname = 'public'",
    )
    const texts: string[] = []
    for (const { name } of tables) {
      const { rows } = await client.query<{ row: string }>(`select t::text as row from ${name} t`)
      texts.push(...rows.map(({ row }) => row))
    }
    return texts.join('\n')
  } finally {
    await client.end()
  }
}

/** Notes everything that answers give to a client or browser, while `work` runs. */
async function givenOut<T>(work: () => Promise<T>) {
  const values = new Map<string, string>()
  const original = globalThis.fetch
  globalThis.fetch = async (...request) => {
    const response = await original(...request)
    for (const cookie of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie) ?? []
      if (name && value && !name.endsWith('.sig')) values.set(value, `cookie ${name}`)
    }
    const location = response.headers.get('location')
    if (location) {
      const url = new URL(location, response.url)
      const [, , uid] = url.pathname.split('/')
      if (uid && url.origin === server.issuer) values.set(uid, url.pathname)
      const code = url.searchParams.get('code')
      if (code) values.set(code, 'code')
    }
    if (response.headers.get('content-type')?.startsWith('application/json')) {
      const body = (await response.clone().json()) as Record<string, string>
      for (const [name, value] of Object.entries(body)) {
        if (/token$/.test(name)) values.set(value, name)
        if (name === 'request_uri') values.set(value.split(':').at(-1) ?? '', name)
      }
    }
    return response
  }
  try {
    return { result: await work(), values }
  } finally {
    globalThis.fetch = original
  }
}

function standsNowhere(t: ExecutionContext, values: Map<string, string>, text: string) {
  for (const [value, name] of values) t.false(text.includes(value), `${name} stands in a table`)
}

test.serial('keeps no identifier and no secret in clear', async (t) => {
  const client = await server.addClient({
    redirect_uris: ['https://app.example.com/callback', callback],
    token_endpoint_auth_method: 'client_secret_basic',
  })
  const key = await newKey()
  const headers = basic(client)
  const person = createPerson(server)

  const waiting = await givenOut(async () => {
    const pushed = await post(
      server,
      '/par',
      {
        client_id: client.client_id,
        response_type: 'code',
        redirect_uri: callback,
        scope: 'openid',
        code_challenge: 'x'.repeat(43),
        code_challenge_method: 'S256',
      },
      { headers },
    )
    t.is(pushed.status, 201, JSON.stringify(pushed.body))
    const { request_uri } = pushed.body
    const query = new URLSearchParams({ client_id: client.client_id, request_uri })
    return person.browser.visit(`${server.issuer}/authorize?${query}`)
  })
  t.true(waiting.result.html.includes('>Sign in<'), waiting.result.html)
  const names = (values: Map<string, string>) => [...values.values()].join('\n')
  t.regex(names(waiting.values), /request_uri/)
  t.regex(names(waiting.values), /\/interaction\//)
  standsNowhere(t, waiting.values, await dump())

  const finished = await givenOut(async () => {
    const { exchange } = await obtainCode(person, client, {
      scope: 'openid offline_access',
      prompt: 'consent',
    })
    const first = await post(server, '/token', exchange, { key, headers })
    t.is(first.status, 200)
    const { refresh_token } = first.body
    const again = { grant_type: 'refresh_token', refresh_token }
    const second = await post(server, '/token', again, { key, headers })
    t.is(second.status, 200)
    const { exchange: other } = await obtainCode(person, client, { resource: api, scope: 'read' })
    return post(server, '/token', other, { key, headers })
  })
  t.is(finished.result.status, 200)
  for (const name of ['cookie _session', 'code', 'access_token', 'refresh_token', 'id_token']) {
    t.true(names(finished.values).includes(name), name)
  }
  // An interaction of somebody who is signed in knows the session.
  const asked = await givenOut(() => {
    const query = new URLSearchParams({
      client_id: client.client_id,
      response_type: 'code',
      redirect_uri: callback,
      scope: 'openid',
      prompt: 'consent',
      code_challenge: 'x'.repeat(43),
      code_challenge_method: 'S256',
    })
    return person.browser.visit(`${server.issuer}/authorize?${query}`)
  })
  t.true(asked.result.html.includes('>Allow<'), asked.result.html)
  const text = await dump()
  for (const { values } of [waiting, finished, asked]) standsNowhere(t, values, text)
  t.false(text.includes(String(client.client_secret)))
  t.false(text.includes(password))
  t.true(text.includes(email))
})

const soon = 60
const payload = () => ({ kind: 'RefreshToken', grantId: randomUUID(), jti: 'x' })

test('finds by identifier, with the identifier put back', async (t) => {
  const adapter = adapterOf('RefreshToken')
  const id = randomUUID()
  await adapter.upsert(id, { ...payload(), jti: id, scope: 'openid' }, soon)
  const found = await adapter.find(id)
  t.is(found?.jti, id)
  t.is(found?.scope, 'openid')
  t.is(found?.consumed, undefined)
})

test('restores what an interaction needs to continue', async (t) => {
  const adapter = adapterOf('Interaction')
  const id = randomUUID()
  const interaction = {
    kind: 'Interaction',
    jti: id,
    returnTo: `https://id.example.com/authorize/${id}`,
    parJti: randomUUID(),
    session: { accountId: 'ada', uid: 'u', cookie: randomUUID() },
  }
  await adapter.upsert(id, interaction as never, soon)
  const found = await adapter.find(id)
  t.is(found?.returnTo, interaction.returnTo)
  t.is(found?.parJti, interaction.parJti)
  t.is(found?.session?.accountId, 'ada')
})

test('tells that something was consumed, in seconds', async (t) => {
  const adapter = adapterOf('RefreshToken')
  const id = randomUUID()
  await adapter.upsert(id, { ...payload(), jti: id }, soon)
  await adapter.consume(id)
  const { consumed } = (await adapter.find(id)) ?? {}
  t.true(Number.isInteger(consumed))
})

test('an upsert does not clear consumption', async (t) => {
  const adapter = adapterOf('RefreshToken')
  const id = randomUUID()
  const first = { ...payload(), jti: id }
  await adapter.upsert(id, first, soon)
  await adapter.consume(id)
  await adapter.upsert(id, first, soon)
  t.truthy((await adapter.find(id))?.consumed)
})

test('consumes for one of 16 concurrent uses, and rejects the others', async (t) => {
  const adapter = adapterOf('PushedAuthorizationRequest')
  const id = randomUUID()
  await adapter.upsert(id, { kind: 'PushedAuthorizationRequest', jti: id }, soon)
  const results = await Promise.allSettled(Array.from({ length: 16 }, () => adapter.consume(id)))
  const refused = results.filter((result) => result.status === 'rejected')
  t.is(refused.length, 15)
  t.true(refused.every(({ reason }) => reason instanceof AlreadyConsumedError))
})

test('of 16 codes for one pushed request one is written, and it alone', async (t) => {
  const [codes, requests] = [
    adapterOf('AuthorizationCode'),
    adapterOf('PushedAuthorizationRequest'),
  ]
  const consumes = randomUUID()
  await requests.upsert(consumes, { kind: 'PushedAuthorizationRequest', jti: consumes }, soon)
  const ids = Array.from({ length: 16 }, () => randomUUID())
  const results = await Promise.allSettled(
    ids.map((id) => codes.upsert(id, { ...payload(), jti: id, consumes }, soon)),
  )
  const found = await Promise.all(ids.map((id) => codes.find(id)))
  t.is(found.filter(Boolean).length, 1)
  t.deepEqual(
    results.map(({ status }) => status === 'fulfilled'),
    found.map((code) => code !== undefined),
  )
  t.truthy((await requests.find(consumes))?.consumed)
})

test('finds a session by its uid', async (t) => {
  const adapter = adapterOf('Session')
  const [id, uid] = [randomUUID(), randomUUID()]
  await adapter.upsert(id, { kind: 'Session', jti: id, uid, accountId: 'ada' }, soon)
  t.is((await adapter.findByUid(uid))?.accountId, 'ada')
})

test('destroys, and revokes by grant', async (t) => {
  const adapter = adapterOf('RefreshToken')
  const [one, two] = [randomUUID(), randomUUID()]
  const grant = payload()
  for (const id of [one, two]) await adapter.upsert(id, { ...grant, jti: id }, soon)
  await adapter.destroy(one)
  t.is(await adapter.find(one), undefined)
  t.truthy(await adapter.find(two))
  await adapter.revokeByGrantId(grant.grantId)
  t.is(await adapter.find(two), undefined)
})

const odd = ['', '\0', 'a\0b', '\ud800', 'x'.repeat(20_000)]

for (const kind of ['AccessToken', 'Session', 'Client', 'Grant', 'Interaction']) {
  test(`finds no ${kind} by an odd identifier`, async (t) => {
    for (const id of odd) t.is(await adapterOf(kind).find(id), undefined)
  })
}

test('finds no session by an odd uid', async (t) => {
  for (const uid of odd) t.is(await adapterOf('Session').findByUid(uid), undefined)
})

test('finds a client, and leaves the table of clients to the command line', async (t) => {
  const { client_id } = await server.addClient()
  const adapter = adapterOf('Client')
  t.is((await adapter.find(client_id))?.client_id, client_id)
  const writes: (keyof Adapter)[] = ['upsert', 'destroy', 'consume', 'revokeByGrantId']
  for (const write of writes) {
    await t.throwsAsync(async () => adapter[write](client_id, {}, soon))
  }
  t.truthy(await adapter.find(client_id))
})

const batchDatabase = useTestDatabase(test)

async function openNode({ options = '' } = {}) {
  const url = new URL(batchDatabase.url)
  url.searchParams.set('options', options)
  const pool = await openDatabase(url.href, { onError: () => {} })
  return { pool, artifacts: createArtifactTable(pool) }
}

function newArtifact(kind: string) {
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

const units = async (artifacts: ArtifactTable, kinds: readonly string[]) => {
  const used = kinds.map(newArtifact)
  for (const one of used) await artifacts.write(one)
  return used.map((consumed) => ({ consumed, written: [newArtifact('Successor')] }))
}

const isThere = async (artifacts: ArtifactTable, key: Parameters<ArtifactTable['find']>[0]) =>
  (await artifacts.find(key)) !== undefined

test('of units that consume the same and go together, one is done', async (t) => {
  const { pool, artifacts } = await openNode()
  const [first, second, one, other] = await units(artifacts, ['Token', 'Token', 'Token', 'Token'])
  if (!first || !second || !one || !other) return t.fail()
  const again = { ...one, written: [newArtifact('Successor')] }
  const free = { consumed: undefined, written: [newArtifact('Successor')] }
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
        consumeAndWrite(table, consumed, [newArtifact('Successor')]),
      )
      return (await Promise.all(asked)).slice(before.length)
    }
    const [forth, back] = await race(
      batchDatabase.url,
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
    const entries = ['a', 'b', 'c', 'held', 'e', 'f'].map((value) =>
      replayEntry('client', value, Date.now() / 1000 + 60),
    )
    const closeAll =
      ({ artifacts }: (typeof nodes)[number], order: typeof entries) =>
      () =>
        Promise.all(
          order.map((entry) =>
            artifacts.commit({
              replayEntries: [entry],
              consumed: undefined,
              written: [newArtifact('Token')],
            }),
          ),
        )
    const [forth, back] = await raceFor(
      batchDatabase.url,
      {
        text: `insert into replay_marks (id, expires_at) values ('\\x${entries[3]?.id}', now())`,
        andThen: 'rollback',
      },
      nodes.map((node, at) => closeAll(node, at ? entries.toReversed() : entries)),
    )
    t.deepEqual(
      forth?.map(
        (outcome, at) => (outcome === 'committed') !== (back?.toReversed()[at] === 'committed'),
      ),
      entries.map(() => true),
    )
    for (const { pool } of nodes) await pool[Symbol.asyncDispose]()
  },
)
