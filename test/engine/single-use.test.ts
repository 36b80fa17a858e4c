import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import test from 'ava'
import { type ClientMetadata, errors } from 'oidc-provider'
import { type KeyPair, makeProof } from '../../src/doctor/proof.ts'
import { engineSentences, refusalReason, refusedFor } from '../../src/engine/refusal-reason.ts'
import { createSealedState } from '../../src/engine/sealed-state.ts'
import {
  basic,
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

const environment = { HOLDFAST_SECRET: 'a secret of two nodes, which is long enough' }
const server = useTestServer(test, environment)
let other: Node
let client: ClientMetadata
let key: KeyPair

test.before(async () => {
  other = await startSecondNode(server, environment)
  client = await server.addClient()
  key = await newKey()
})

test.after.always('closes the other node', () => other?.[Symbol.asyncDispose]())

/** One request to each node: what comes to one node together goes in one statement. */
const atBothNodes = <T>(request: (by: Pick<Node, 'fetch'>) => Promise<T>) => [
  () => request({ fetch: globalThis.fetch }),
  () => request(other),
]

const sixteen = <T>(use: () => Promise<T>) => Promise.all(Array.from({ length: 16 }, use))

function outcomes(answers: { status: number; body: { error?: string } }[]) {
  const losers = answers.filter(({ status }) => status !== 200)
  return {
    won: answers.length - losers.length,
    lost: [...new Set(losers.map(({ status, body }) => `${status} ${body.error}`))],
  }
}

test('sixteen concurrent uses of one code: one success', async (t) => {
  const { exchange } = await obtainCode(createPerson(server), client)
  const answers = await sixteen(() => post(server, '/token', exchange, { key }))
  t.deepEqual(outcomes(answers), { won: 1, lost: ['400 invalid_grant'] })
})

test.serial('a code that was raced for ends everything that was issued from it', async (t) => {
  const { exchange } = await obtainCode(createPerson(server), client)
  const answers = await race(
    server.databaseUrl,
    'AuthorizationCode',
    atBothNodes(({ fetch }) => post(server, '/token', exchange, { key, fetch })),
  )
  t.deepEqual(outcomes(answers), { won: 1, lost: ['400 invalid_grant'] })
  const { refresh_token } = answers.find(({ status }) => status === 200)?.body ?? {}
  const refresh = await post(server, '/token', refreshing(client, refresh_token), { key })
  t.is(refresh.body.error, 'invalid_grant')
})

test('sixteen concurrent uses of one refresh token: one success', async (t) => {
  const { exchange } = await obtainCode(createPerson(server), client)
  const { body } = await post(server, '/token', exchange, { key })
  const answers = await sixteen(() =>
    post(server, '/token', refreshing(client, body.refresh_token), { key }),
  )
  t.deepEqual(outcomes(answers), { won: 1, lost: ['400 invalid_grant'] })
})

test.serial('keeps the tokens of the winner of a race of refreshes by one key', async (t) => {
  const { exchange } = await obtainCode(createPerson(server), client)
  const { body } = await post(server, '/token', exchange, { key })
  const answers = await race(
    server.databaseUrl,
    'RefreshToken',
    atBothNodes(({ fetch }) =>
      post(server, '/token', refreshing(client, body.refresh_token), { key, fetch }),
    ),
  )
  t.deepEqual(outcomes(answers), { won: 1, lost: ['400 invalid_grant'] })
  const winner = answers.find(({ status }) => status === 200)
  const next = await post(server, '/token', refreshing(client, winner?.body.refresh_token), { key })
  t.is(next.status, 200)
})

test.serial('a refresh token that comes back later ends its family', async (t) => {
  const { exchange } = await obtainCode(createPerson(server), client)
  const { body: first } = await post(server, '/token', exchange, { key })
  const refresh = (token: string) => post(server, '/token', refreshing(client, token), { key })
  const { body: second } = await refresh(first.refresh_token)
  t.is((await refresh(first.refresh_token)).body.error, 'invalid_grant')
  t.is((await refresh(second.refresh_token)).body.error, 'invalid_grant')
})

/** Two authorizations of one client in one browser session. */
async function twoChains(of = client, options: PostOptions = { key }) {
  const person = createPerson(server)
  const redeem = async () => {
    const { exchange } = await obtainCode(person, of)
    return { exchange, ...(await post(server, '/token', exchange, options)).body }
  }
  return [await redeem(), await redeem()] as const
}

async function isActive(token: string): Promise<boolean> {
  const asked = { client_id: client.client_id, token }
  return (await post(server, '/introspect', asked)).body.active
}

test.serial('a reused refresh token ends its own chain only', async (t) => {
  const [one, two] = await twoChains()
  const refresh = (token: string) => post(server, '/token', refreshing(client, token), { key })
  const { body: next } = await refresh(one.refresh_token)
  t.true(await isActive(next.access_token))
  t.is((await refresh(one.refresh_token)).body.error, 'invalid_grant')
  t.is((await refresh(next.refresh_token)).body.error, 'invalid_grant')
  t.false(await isActive(one.access_token))
  t.false(await isActive(next.access_token))
  t.true(await isActive(two.access_token))
  t.is((await refresh(two.refresh_token)).status, 200)
})

test.serial('a reused code ends its own chain only', async (t) => {
  const [one, two] = await twoChains()
  t.is((await post(server, '/token', one.exchange, { key })).body.error, 'invalid_grant')
  const refresh = (token: string) => post(server, '/token', refreshing(client, token), { key })
  t.is((await refresh(one.refresh_token)).body.error, 'invalid_grant')
  t.false(await isActive(one.access_token))
  t.is((await refresh(two.refresh_token)).status, 200)
})

test.serial('a bearer refresh token that was raced for ends its own chain only', async (t) => {
  const bearer = await server.addClient({ binding_method: 'bearer' })
  const [one, two] = await twoChains(bearer, {})
  const refresh = (token: string, by = {}) => post(server, '/token', refreshing(bearer, token), by)
  const answers = await race(
    server.databaseUrl,
    'RefreshToken',
    atBothNodes((by) => refresh(one.refresh_token, by)),
  )
  t.deepEqual(outcomes(answers), { won: 1, lost: ['400 invalid_grant'] })
  const winner = answers.find(({ status }) => status === 200)
  t.is((await refresh(winner?.body.refresh_token)).body.error, 'invalid_grant')
  t.is((await refresh(two.refresh_token)).status, 200)
})

test.serial('what is written of a chain after it has ended is dead', async (t) => {
  const [one] = await twoChains()
  const refresh = (token: string) => post(server, '/token', refreshing(client, token), { key })
  const { body: next } = await refresh(one.refresh_token)
  await query(server.databaseUrl, 'create table kept as select * from artifacts')
  await refresh(one.refresh_token)
  // A statement that began before the chain ended cannot see that it did.
  const { length } = await query(
    server.databaseUrl,
    `insert into artifacts select * from kept where kind in ('AccessToken', 'RefreshToken')
     on conflict do nothing returning id`,
  )
  await query(server.databaseUrl, 'drop table kept')
  t.true(length > 0)
  t.is((await refresh(next.refresh_token)).body.error, 'invalid_grant')
  t.false(await isActive(next.access_token))
})

test('sixteen concurrent uses of one DPoP proof: one success', async (t) => {
  const service = await server.addClient({
    redirect_uris: [],
    response_types: [],
    grant_types: ['client_credentials'],
    token_endpoint_auth_method: 'client_secret_basic',
    application_type: 'web',
  })
  const headers = basic(service)
  const proof = await makeProof(key, { method: 'POST', url: `${server.issuer}/token` })
  const answers = await sixteen(() =>
    post(server, '/token', { grant_type: 'client_credentials' }, { proof, headers }),
  )
  t.deepEqual(outcomes(answers), { won: 1, lost: ['400 invalid_grant'] })
})

test('a refresh that is repeated with its proof is refused, and ends nothing', async (t) => {
  const { exchange } = await obtainCode(createPerson(server), client)
  const { body: first } = await post(server, '/token', exchange, { key })
  const proof = await makeProof(key, { method: 'POST', url: `${server.issuer}/token` })
  const refresh = () => post(server, '/token', refreshing(client, first.refresh_token), { proof })
  const { body: second } = await refresh()
  t.is((await refresh()).body.error, 'invalid_grant')
  const next = await post(server, '/token', refreshing(client, second.refresh_token), { key })
  t.is(next.status, 200)
})

test('the proof of a request that fails is used up', async (t) => {
  const { exchange } = await obtainCode(createPerson(server), client)
  const { body } = await post(server, '/token', exchange, { key })
  const proof = await makeProof(key, { method: 'POST', url: `${server.issuer}/token` })
  const refresh = (more: Record<string, string>, by: object) =>
    post(server, '/token', { ...refreshing(client, body.refresh_token), ...more }, by)
  const failed = await refresh({ resource: 'https://unknown.example' }, { proof })
  t.is(failed.body.error, 'invalid_target')
  t.is((await refresh({}, { proof })).body.error, 'invalid_grant')
  t.is((await refresh({}, { key })).status, 200)
})

test('sixteen concurrent uses of one pushed request: one code', async (t) => {
  // A web client: a native one is asked for consent each time.
  const redirect_uri = 'https://app.example/callback'
  const web = await server.addClient({ application_type: 'web', redirect_uris: [redirect_uri] })
  const person = createPerson(server)
  const { code } = await obtainCode(person, web, { redirect_uri })
  t.truthy(code)

  const { body } = await post(
    server,
    '/par',
    {
      client_id: web.client_id,
      response_type: 'code',
      redirect_uri,
      scope: 'openid',
      code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
      code_challenge_method: 'S256',
    },
    { key },
  )
  const query = new URLSearchParams({ client_id: web.client_id, request_uri: body.request_uri })
  const url = `${server.issuer}/authorize?${query}`
  const pages = await sixteen(() => person.browser.visit(url, { until: redirect_uri }))
  const codes = pages.filter((page) => page.url.searchParams.has('code'))
  const refused = pages.filter((page) => `${page.url} ${page.html}`.includes('invalid_request_uri'))
  t.is(codes.length, 1)
  t.is(refused.length, 15)
})

test.after('nothing of this was an error of the server', (t) => {
  t.deepEqual(
    server.logged.filter((line) => line.includes('server_error')),
    [],
  )
})

const reuseEnvironment = {
  HOLDFAST_SECRET: 'a secret of two nodes, which is long enough',
  HOLDFAST_REFRESH_REUSE_SECONDS: '60',
  HOLDFAST_KEY_OVERLAP_HOURS: '1',
}
const reuseServer = useTestServer(test, reuseEnvironment)
let otherReuseNode: Node
test.before(async () => {
  otherReuseNode = await startSecondNode(reuseServer, reuseEnvironment)
})
test.after.always('closes the other node', () => otherReuseNode?.[Symbol.asyncDispose]())

async function refreshTwice(binding_method: 'dpop' | 'bearer', { namesNext = false } = {}) {
  const client = await reuseServer.addClient({ binding_method })
  const [key, next] = [await newKey(), await newKey()]
  const proven: PostOptions = binding_method === 'dpop' ? { key } : {}
  const { exchange } = await obtainCode(createPerson(reuseServer), client)
  const { body: first } = await post(reuseServer, '/token', exchange, proven)
  const refresh = (token: string, by = proven) =>
    post(reuseServer, '/token', refreshing(client, token), by)
  const { body: second } = await post(
    reuseServer,
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
  return makeProof(key, { method: 'POST', url: `${reuseServer.issuer}/token`, accessToken })
}

async function userinfo(accessToken: string, key: KeyPair): Promise<number> {
  const url = `${reuseServer.issuer}/userinfo`
  const dpop = await makeProof(key, { method: 'GET', url, accessToken })
  const headers = { authorization: `DPoP ${accessToken}`, dpop }
  return (await fetch(url, { headers })).status
}

/** Moves every use of a refresh token into the past. */
async function age(seconds: number): Promise<void> {
  const text = `update artifacts set consumed_at = consumed_at - make_interval(secs => $1)
                 where kind = 'RefreshToken' and consumed_at is not null`
  await query(reuseServer.databaseUrl, text, [seconds])
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
  const proof = await makeProof(key, { method: 'POST', url: `${reuseServer.issuer}/token` })
  t.is((await refresh(first.refresh_token, { proof })).body.refresh_token, second.refresh_token)
  t.is((await refresh(first.refresh_token, { proof })).body.error, 'invalid_grant')
  t.is((await refresh(second.refresh_token)).status, 200)
})

test.serial('uses at the same moment with one proof are one use', async (t) => {
  const { refresh, key, second } = await refreshTwice('dpop')
  const proof = await makeProof(key, { method: 'POST', url: `${reuseServer.issuer}/token` })
  const uses = [globalThis, otherReuseNode].map(
    ({ fetch }) =>
      () =>
        refresh(second.refresh_token, { proof, fetch }),
  )
  const answers = await race(reuseServer.databaseUrl, 'RefreshToken', uses)
  t.deepEqual(answers.map(({ status }) => status).sort(), [200, 400])
})

test.serial('rejects it once the successor was used, and keeps the family', async (t) => {
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
    reuseServer.databaseUrl,
    'RefreshToken',
    [globalThis, otherReuseNode].map(
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
  await post(reuseServer, '/revoke', { client_id: client.client_id, token: second.refresh_token })
  t.is((await refresh(first.refresh_token)).body.error, 'invalid_grant')
})

test.serial('a token whose family ends meanwhile is not answered', async (t) => {
  const { refresh, second } = await refreshTwice('dpop')
  const ending = {
    text: "delete from artifacts where kind <> 'Client'",
    andThen: 'commit',
  } as const
  const [answer] = await raceFor(reuseServer.databaseUrl, ending, [
    () => refresh(second.refresh_token),
  ])
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
  const rows = JSON.stringify(await query(reuseServer.databaseUrl, 'select * from artifacts'))
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
  t.deepEqual((await post(reuseServer, '/introspect', asked)).body, { active: false })
})

/** Sentences as they stand in the source of the engine, by the file. */
const sentences = {
  'helpers/oidc_context.js': [['dpop_missing', '`DPoP` header not provided']],
  'helpers/validate_dpop.js': [
    ['dpop_replayed', 'DPoP proof JWT Replay detected'],
    ['dpop_htu_mismatch', 'DPoP proof htu mismatch'],
    ['dpop_htm_mismatch', 'DPoP proof htm mismatch'],
    ['dpop_ath_mismatch', 'DPoP proof ath mismatch'],
    ['dpop_not_recent', 'DPoP proof iat is not recent enough'],
    ['dpop_not_recent', 'DPoP proof iat is not recent enough, use a DPoP nonce instead'],
    ['dpop_nonce', 'nonce is required in the DPoP proof'],
    ['dpop_nonce', 'invalid nonce in DPoP proof'],
  ],
  'shared/access_token.js': [
    ['key_mismatch', 'failed x5t#S256 verification'],
    ['key_mismatch', 'failed jkt verification'],
    ['token_unknown', 'access token not found'],
  ],
  'shared/jwt_client_auth.js': [
    ['assertion_replayed', 'client assertion tokens must only be used once'],
  ],
  'actions/authorization/respond.js': [
    ['request_replayed', 'request_uri is invalid, expired, or was already used'],
  ],
} as const

const inEngine = new URL('../../node_modules/oidc-provider/lib/', import.meta.url)

for (const [file, pinned] of Object.entries(sentences)) {
  test(`finds the reasons behind the sentences in ${file} of the engine`, async (t) => {
    const source = await readFile(new URL(file, inEngine), 'utf8')
    for (const [reason, sentence] of pinned) {
      t.true(source.includes(`('${sentence}'`), sentence)
      t.is(refusalReason(new errors.InvalidRequest(sentence), sentence), reason)
    }
  })
}

test('reads no sentence of the engine that is not pinned above', (t) => {
  const pinned = Object.values(sentences).flatMap((each) => each.map(([reason]) => reason))
  t.deepEqual([...new Set(pinned)].sort(), engineSentences.map(([reason]) => reason).sort())
})

test('takes the reason of an error that this server throws, whatever it says', (t) => {
  const error = refusedFor('key_mismatch', new errors.InvalidToken('DPoP proof htu mismatch'))
  t.is(refusalReason(error, 'DPoP proof htu mismatch'), 'key_mismatch')
})

test('labels a target that the engine itself rejects', (t) => {
  t.is(refusalReason(new errors.InvalidTarget('x'), 'x'), 'resource_malformed')
})

const sealedKey = randomBytes(32)
const until = 1_000
const at = (seconds: number, keys: readonly Uint8Array[] = [sealedKey], purpose = 'interaction') =>
  createSealedState(purpose, { keys: () => keys, now: () => seconds * 1000 })
const sealed = at(0).seal('owner', { state: 'the state' }, until)

test('opens what was sealed, with an older key as well', (t) => {
  t.deepEqual(at(999).open('owner', sealed), { state: 'the state' })
  t.deepEqual(at(999, [randomBytes(32), sealedKey]).open('owner', sealed), { state: 'the state' })
})

for (const [title, open] of [
  ['another owner', () => at(0).open('other', sealed)],
  ['another purpose', () => at(0, [sealedKey], 'session').open('owner', sealed)],
  ['another key', () => at(0, [randomBytes(32)]).open('owner', sealed)],
  ['a time after its end', () => at(1_000).open('owner', sealed)],
  ['a changed salt', () => at(0).open('owner', (sealed[0] === 'A' ? 'B' : 'A') + sealed.slice(1))],
  ['a cut text', () => at(0).open('owner', sealed.slice(0, -4))],
  ['an empty text', () => at(0).open('owner', '')],
] as const) {
  test(`opens nothing for ${title}`, (t) => t.is(open(), undefined))
}

test('seals in no more than the text takes, and never twice alike', (t) => {
  t.not(at(0).seal('owner', { state: 'the state' }, until), sealed)
  t.true(at(0).seal('owner', { state: 'x'.repeat(60_000) }, until).length < 1_000)
})
