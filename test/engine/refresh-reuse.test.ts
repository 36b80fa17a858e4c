import test from 'ava'
import { type KeyPair, makeProof } from '../../src/doctor/proof.ts'
import {
  createPerson,
  newKey,
  obtainCode,
  type PostOptions,
  post,
  refreshing,
} from '../support/flow.ts'
import { race, raceFor } from '../support/lock.ts'
import { query } from '../support/query.ts'
import { type Node, startSecondNode } from '../support/second-node.ts'
import { useTestServer } from '../support/server.ts'

const environment = {
  HOLDFAST_SECRET: 'a secret of two nodes, which is long enough',
  HOLDFAST_REFRESH_REUSE_SECONDS: '60',
  HOLDFAST_KEY_OVERLAP_HOURS: '1',
}
const server = useTestServer(test, environment)
let other: Node
test.before(async () => {
  other = await startSecondNode(server, environment)
})
test.after.always('closes the other node', () => other?.[Symbol.asyncDispose]())

async function refreshTwice(binding_method: 'dpop' | 'bearer', { namesNext = false } = {}) {
  const client = await server.addClient({ binding_method })
  const [key, next] = [await newKey(), await newKey()]
  const proven: PostOptions = binding_method === 'dpop' ? { key } : {}
  const { exchange } = await obtainCode(createPerson(server), client)
  const { body: first } = await post(server, '/token', exchange, proven)
  const refresh = (token: string, by = proven) =>
    post(server, '/token', refreshing(client, token), by)
  const { body: second } = await post(
    server,
    '/token',
    {
      ...refreshing(client, first.refresh_token),
      ...(namesNext && { successor: await proofOf(next, first.refresh_token) }),
    },
    proven,
  )
  return { client, refresh, key, next, first, second }
}

function proofOf(key: KeyPair, accessToken: string): Promise<string> {
  return makeProof(key, { method: 'POST', url: `${server.issuer}/token`, accessToken })
}

async function userinfo(accessToken: string, key: KeyPair): Promise<number> {
  const url = `${server.issuer}/userinfo`
  const dpop = await makeProof(key, { method: 'GET', url, accessToken })
  const headers = { authorization: `DPoP ${accessToken}`, dpop }
  return (await fetch(url, { headers })).status
}

/** Moves every use of a refresh token into the past. */
async function age(seconds: number): Promise<void> {
  const text = `update artifacts set consumed_at = consumed_at - make_interval(secs => $1)
                 where kind = 'RefreshToken' and consumed_at is not null`
  await query(server.databaseUrl, text, [seconds])
}

test.serial(
  'within the window a token that comes back is answered with the same successor',
  async (t) => {
    const { refresh, key, first, second } = await refreshTwice('dpop')
    const again = await refresh(first.refresh_token)
    t.is(again.status, 200)
    t.is(again.body.refresh_token, second.refresh_token)
    t.not(again.body.access_token, second.access_token)
    t.is(await userinfo(again.body.access_token, key), 200)
    t.is((await refresh(second.refresh_token)).status, 200)
  },
)

test.serial('a refresh is repeated with a new proof only', async (t) => {
  const { refresh, key, first, second } = await refreshTwice('dpop')
  const proof = await makeProof(key, { method: 'POST', url: `${server.issuer}/token` })
  t.is((await refresh(first.refresh_token, { proof })).body.refresh_token, second.refresh_token)
  t.is((await refresh(first.refresh_token, { proof })).body.error, 'invalid_grant')
  t.is((await refresh(second.refresh_token)).status, 200)
})

test.serial('uses at the same moment with one proof are one use', async (t) => {
  const { refresh, key, second } = await refreshTwice('dpop')
  const proof = await makeProof(key, { method: 'POST', url: `${server.issuer}/token` })
  const uses = [globalThis, other].map(
    ({ fetch }) =>
      () =>
        refresh(second.refresh_token, { proof, fetch }),
  )
  const answers = await race(server.databaseUrl, 'RefreshToken', uses)
  t.deepEqual(answers.map(({ status }) => status).sort(), [200, 400])
})

test.serial('once the successor was used it is refused, and its family goes on', async (t) => {
  const { refresh, first, second } = await refreshTwice('dpop')
  const { body: third } = await refresh(second.refresh_token)
  const again = await refresh(first.refresh_token)
  t.is(again.status, 400)
  t.is(again.body.error, 'invalid_grant')
  t.is((await refresh(third.refresh_token)).status, 200)
})

test.serial('uses at the same moment get one successor', async (t) => {
  const { refresh, key, second } = await refreshTwice('dpop')
  const answers = await race(
    server.databaseUrl,
    'RefreshToken',
    [globalThis, other].map(
      ({ fetch }) =>
        () =>
          refresh(second.refresh_token, { key, fetch }),
    ),
  )
  t.deepEqual(
    answers.map(({ status }) => status),
    [200, 200],
  )
  t.is(new Set(answers.map(({ body }) => body.refresh_token)).size, 1)
  t.is(new Set(answers.map(({ body }) => body.access_token)).size, 2)
})

test.serial('a token whose family was ended is not answered', async (t) => {
  const { client, refresh, first, second } = await refreshTwice('dpop')
  await post(server, '/revoke', { client_id: client.client_id, token: second.refresh_token })
  t.is((await refresh(first.refresh_token)).body.error, 'invalid_grant')
})

test.serial('a token whose family ends meanwhile is not answered', async (t) => {
  const { refresh, second } = await refreshTwice('dpop')
  const ending = {
    text: "delete from artifacts where kind <> 'Client'",
    andThen: 'commit',
  } as const
  const [answer] = await raceFor(server.databaseUrl, ending, [() => refresh(second.refresh_token)])
  t.is(answer?.body.error, 'invalid_grant')
})

test.serial('the successor is for the key that it is bound to', async (t) => {
  const { refresh, key, next, second } = await refreshTwice('dpop', { namesNext: true })
  const { body: third } = await refresh(second.refresh_token)
  // It may take over from the token that came before, and gets none of the other key.
  const taken = await refresh(second.refresh_token, { key: next })
  t.is(taken.body.error, 'invalid_grant')
  t.is((await refresh(third.refresh_token, { key })).status, 200)
})

test.serial('the database has no successor, and not what one is made of', async (t) => {
  const { first, second } = await refreshTwice('dpop')
  const rows = JSON.stringify(await query(server.databaseUrl, 'select * from artifacts'))
  t.false(rows.includes(first.refresh_token))
  t.false(rows.includes(second.refresh_token))
})

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
