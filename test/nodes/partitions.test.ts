// The tables that grow are partitioned by the SQL of docs/operations.md, and everything still works.
import { readFile } from 'node:fs/promises'
import test from 'ava'
import { makeProof } from '../../src/doctor/proof.ts'
import { basic, createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { query } from '../support/query.ts'
import { useTestServer } from '../support/server.ts'

const server = useTestServer(test)
const guide = new URL('../../docs/operations.md', import.meta.url)

async function partition(): Promise<void> {
  const [, section = ''] = (await readFile(guide, 'utf8')).split('### Partitions\n')
  const [, sql = ''] = /```sql\n(.*?)```/s.exec(section) ?? []
  await query(server.databaseUrl, sql)
}

test('tables that were partitioned by hash serve as before', async (t) => {
  const app = await server.addClient()
  const service = await server.addClient({
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    token_endpoint_auth_method: 'client_secret_basic',
  })
  const key = await newKey()
  const signIn = async () => {
    const { exchange } = await obtainCode(createPerson(server), app)
    return { exchange, body: (await post(server, '/token', exchange, { key })).body }
  }
  const before = await signIn()
  await partition()
  const [rows] = await query(
    server.databaseUrl,
    `select count(*)::int as parts from pg_inherits
      where inhparent in ('artifacts'::regclass, 'replay_marks'::regclass)`,
  )
  t.deepEqual(rows, { parts: 32 })

  const refreshed = await post(server, '/token', refreshing(app, before.body.refresh_token), {
    key,
  })
  t.is(refreshed.status, 200)
  const after = await signIn()
  t.is((await post(server, '/token', after.exchange, { key })).body.error, 'invalid_grant')
  const ask = async (token: string) =>
    (await post(server, '/introspect', { token }, { headers: basic(service) })).body.active
  t.true(await ask(refreshed.body.refresh_token))
  await post(server, '/revoke', {
    token: refreshed.body.refresh_token,
    client_id: String(app.client_id),
  })
  t.false(await ask(refreshed.body.refresh_token))

  const proof = await makeProof(key, { method: 'POST', url: `${server.issuer}/token` })
  const asking = { proof, headers: basic(service) }
  const uses = await Promise.all(
    Array.from({ length: 8 }, () =>
      post(server, '/token', { grant_type: 'client_credentials' }, asking),
    ),
  )
  t.is(uses.filter(({ status }) => status === 200).length, 1)

  const { replays } = server.storage
  await query(
    server.databaseUrl,
    `insert into replay_marks (id, expires_at)
     select sha256(n::text::bytea), now() - interval '1 day' from generate_series(1, 3000) as n`,
  )
  const left = () => query(server.databaseUrl, 'select count(*)::int as rows from replay_marks')
  const [all] = await left()
  for (let removed = 1000; removed === 1000; ) removed = (await replays.removeExpired(1000)).rows
  const [live] = await left()
  t.is(Number(all?.rows) - Number(live?.rows), 3000)
})
