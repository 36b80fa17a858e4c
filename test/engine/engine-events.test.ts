import test from 'ava'
import { version } from '../../src/config/version.ts'
import { makeProof } from '../../src/doctor/proof.ts'
import type { StoredAuditRow } from '../../src/storage/audit-table.ts'
import { basic, createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { email, useTestServer } from '../support/server.ts'

const server = useTestServer(test)

/** What the server has written about a client, oldest first. */
async function audited(client: string): Promise<StoredAuditRow[]> {
  await server.flushAudit()
  return server.storage.audit.list({ client, limit: 100 })
}

const service = () =>
  server.addClient({
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    token_endpoint_auth_method: 'client_secret_basic',
  })

const grant = { grant_type: 'client_credentials' }

test('a sign-in leaves its trace: login, consent, tokens', async (t) => {
  const client = await server.addClient()
  const { exchange } = await obtainCode(createPerson(server), client)
  t.is((await post(server, '/token', exchange, { key: await newKey() })).status, 200)
  const rows = await audited(client.client_id)
  t.deepEqual(
    rows.map(({ event }) => event),
    ['login.succeeded', 'consent.given', 'tokens.issued'],
  )
  t.is(new Set(rows.map(({ account }) => account)).size, 1)
  t.truthy(rows[0]?.account)
  t.true(rows.every(({ address }) => address === '127.0.0.1'))
  t.true(rows.every(({ requestId }) => requestId !== null))
  t.like(rows[2]?.details, { grantType: 'authorization_code', binding: 'dpop' })
})

/** The line of the log about a refused request: what strangers cause is no audit row. */
function refusalOf(headers: Headers): Record<string, unknown> | undefined {
  const lines = server.logged.map((text) => JSON.parse(text) as Record<string, unknown>)
  return lines.find(
    ({ event, requestId }) =>
      event === 'request.refused' && requestId === headers.get('x-request-id'),
  )
}

test('a refusal is logged with its reason, and without the code', async (t) => {
  const client = await server.addClient()
  const { exchange, code } = await obtainCode(createPerson(server), client)
  const wrong = { ...exchange, code_verifier: 'w'.repeat(43) }
  const refused = await post(server, '/token', wrong, { key: await newKey() })
  t.is(refused.body.error, 'invalid_grant')
  const line = refusalOf(refused.headers)
  t.like(line, { endpoint: 'grant', error: 'invalid_grant', reason: 'pkce_mismatch' })
  await server.flushAudit()
  const counted = await server.storage.countedEvents.list({ limit: 1000 })
  const reason = 'grant invalid_grant pkce_mismatch'
  t.like(
    counted.find((each) => each.reason === reason),
    { event: 'request.refused', network: '127.0.0.1', client: client.client_id, count: 1 },
  )
  t.false((await audited(client.client_id)).some(({ event }) => event === 'request.refused'))
  t.false(JSON.stringify([line, counted]).includes(code))
  t.false(server.logged.some((text) => text.includes(code)))
})

const refusals: Record<string, (url: string) => Promise<Record<string, string>>> = {
  dpop_missing: async () => ({}),
  dpop_htu_mismatch: async (url) => ({
    dpop: await makeProof(await newKey(), { method: 'POST', url: url.replace('/token', '/other') }),
  }),
  dpop_htm_mismatch: async (url) => ({
    dpop: await makeProof(await newKey(), { method: 'GET', url }),
  }),
  dpop_invalid: async () => ({ dpop: 'not a proof' }),
  client_authentication: async (url) => ({
    dpop: await makeProof(await newKey(), { method: 'POST', url }),
    authorization: `Basic ${btoa('nobody:nothing')}`,
  }),
}

for (const [reason, headersFor] of Object.entries(refusals)) {
  test(`the engine's words for ${reason} are known`, async (t) => {
    const client = await service()
    const headers = { ...basic(client), ...(await headersFor(`${server.issuer}/token`)) }
    const { status, headers: answered } = await post(server, '/token', grant, { headers })
    t.true([400, 401].includes(status))
    t.is(refusalOf(answered)?.reason, reason)
  })
}

for (const [reason, parameters] of Object.entries({
  resource_unknown: { resource: 'https://unknown.example' },
  resource_malformed: { resource: 'no URI' },
  request_json: { claims: '{"id_token":{"acr":{"values":[7]}}}' },
})) {
  test(`labels a refusal of an authorization request ${reason}`, async (t) => {
    const client = await server.addClient()
    const query = new URLSearchParams({
      client_id: client.client_id,
      redirect_uri: client.redirect_uris?.[0] ?? '',
      response_type: 'code',
      scope: 'openid',
      code_challenge: 'x'.repeat(43),
      code_challenge_method: 'S256',
      ...parameters,
    })
    const url = `${server.issuer}/authorize?${query}`
    const { headers } = await fetch(url, { redirect: 'manual' })
    t.is(refusalOf(headers)?.reason, reason)
  })
}

test('a proof used twice is a replay', async (t) => {
  const client = await service()
  const proof = await makeProof(await newKey(), { method: 'POST', url: `${server.issuer}/token` })
  await post(server, '/token', grant, { proof, headers: basic(client) })
  const { headers } = await post(server, '/token', grant, { proof, headers: basic(client) })
  t.is(refusalOf(headers)?.reason, 'dpop_replayed')
})

test('a refresh token used twice is a replay, and ends its family', async (t) => {
  const client = await server.addClient()
  const key = await newKey()
  const { exchange } = await obtainCode(createPerson(server), client)
  const { body } = await post(server, '/token', exchange, { key })
  await post(server, '/token', refreshing(client, body.refresh_token), { key })
  await post(server, '/token', refreshing(client, body.refresh_token), { key })
  const rows = await audited(client.client_id)
  t.deepEqual(
    rows.slice(-3).map(({ event, details }) => details.reason ?? event),
    ['tokens.issued', 'grant.ended', 'refresh_token_replayed'],
  )
  const ended = rows.at(-2)
  t.is(ended?.account, (await server.storage.accounts.findByEmail(email))?.account.id)
  t.like(ended?.details, { credential: 'refresh_token', cause: 'reused' })
})

test('a code used twice is a replay, and ends what was issued by it', async (t) => {
  const client = await server.addClient()
  const key = await newKey()
  const { exchange } = await obtainCode(createPerson(server), client)
  await post(server, '/token', exchange, { key })
  await post(server, '/token', exchange, { key })
  const rows = await audited(client.client_id)
  t.deepEqual(
    rows.slice(-3).map(({ event, details }) => details.reason ?? event),
    ['tokens.issued', 'grant.ended', 'code_replayed'],
  )
})

test('a failed sign-in names the client and the address, not what was typed', async (t) => {
  const client = await server.addClient()
  const person = createPerson(server, {
    credentials: { email, password: 'a wrong and typed secret' },
  })
  await t.throwsAsync(obtainCode(person, client))
  const row = (await audited(client.client_id)).at(-1)
  t.is(row?.event, 'login.failed')
  t.is(row?.address, '127.0.0.1')
  const owner = await server.storage.accounts.findByEmail(email)
  t.truthy(owner)
  t.is(row?.account, owner?.account.id ?? '')
  t.notRegex(JSON.stringify([row, ...server.logged]), /a wrong and typed secret|ada@example/)
})

test('metrics are served on their own address, with the skew of clocks', async (t) => {
  const client = await service()
  await post(server, '/token', grant, { key: await newKey(), headers: basic(client) })
  const answer = await fetch(`http://${server.operators}/metrics`)
  t.regex(answer.headers.get('content-type') ?? '', /^text\/plain/)
  const exposed = await answer.text()
  t.regex(exposed, /holdfast_grants_total\{grant_type="client_credentials",binding="dpop"\} \d/)
  t.regex(
    exposed,
    /holdfast_http_request_duration_seconds_count\{method="POST",route="token",status="200"\}/,
  )
  t.regex(exposed, /holdfast_dpop_clock_skew_seconds_count [1-9]/)
  t.true(exposed.includes(`holdfast_build_info{version="${version}"} 1`))
  t.is((await fetch(`${server.issuer}/metrics`)).status, 404)
  const live = (origin: string) => fetch(`${origin}/livez`).then((answer) => answer.json())
  t.deepEqual(await live(`http://${server.operators}`), { status: 'ok', version })
  t.deepEqual(await live(server.issuer), { status: 'ok' })
  t.is((await fetch(`http://${server.operators}/readyz`)).status, 200)
})
