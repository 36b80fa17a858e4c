import test from 'ava'
import pg from 'pg'
import { createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { useTestServer } from '../support/server.ts'

const server = useTestServer(test, { HOLDFAST_REFRESH_REUSE_SECONDS: '60' })

async function refreshTwice(binding_method: string) {
  const client = await server.addClient({ binding_method })
  const key = binding_method === 'dpop' ? await newKey() : undefined
  const proven = key ? { key } : {}
  const { exchange } = await obtainCode(createPerson(server), client)
  const { body: first } = await post(server, '/token', exchange, proven)
  const refresh = (token: string, by = proven) =>
    post(server, '/token', refreshing(client, token), by)
  const { body: second } = await refresh(first.refresh_token)
  return { client, refresh, first, second }
}

/** Moves every use of a refresh token into the past. */
async function age(seconds: number): Promise<void> {
  const database = new pg.Client({ connectionString: server.databaseUrl })
  await database.connect()
  await database.query(
    `update artifacts set consumed_at = consumed_at - make_interval(secs => $1)
      where kind = 'RefreshToken' and consumed_at is not null`,
    [seconds],
  )
  await database.end()
}

test.serial(
  'within the window a token that comes back is refused, and its family goes on',
  async (t) => {
    const { refresh, first, second } = await refreshTwice('dpop')
    const again = await refresh(first.refresh_token)
    t.is(again.status, 400)
    t.is(again.body.error, 'invalid_grant')
    t.is((await refresh(second.refresh_token)).status, 200)
  },
)

test.serial('after the window it ends its family', async (t) => {
  const { refresh, first, second } = await refreshTwice('dpop')
  await age(61)
  t.is((await refresh(first.refresh_token)).body.error, 'invalid_grant')
  t.is((await refresh(second.refresh_token)).body.error, 'invalid_grant')
})

test.serial('another key gets nothing and changes nothing', async (t) => {
  const { refresh, first, second } = await refreshTwice('dpop')
  const stolen = await refresh(first.refresh_token, { key: await newKey() })
  t.is(stolen.body.error, 'invalid_grant')
  t.is((await refresh(second.refresh_token)).status, 200)
})

test.serial('a bearer token that comes back ends its family, window or not', async (t) => {
  const { refresh, first, second } = await refreshTwice('bearer')
  t.is((await refresh(first.refresh_token)).body.error, 'invalid_grant')
  t.is((await refresh(second.refresh_token)).body.error, 'invalid_grant')
})

test.serial('a used token is inactive all the same', async (t) => {
  const { client, first } = await refreshTwice('dpop')
  const asked = { client_id: client.client_id, token: first.refresh_token }
  t.deepEqual((await post(server, '/introspect', asked)).body, { active: false })
})
