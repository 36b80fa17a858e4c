import { randomUUID } from 'node:crypto'
import test, { type ExecutionContext } from 'ava'
import type { Adapter } from 'oidc-provider'
import pg from 'pg'
import { AlreadyConsumedError } from '../../src/storage/already-consumed.ts'
import { createEngineAdapter } from '../../src/storage/engine-adapter.ts'
import { createEngineTimes } from '../../src/storage/engine-times.ts'
import { basic, createPerson, newKey, obtainCode, post } from '../support/flow.ts'
import { api, email, password, useTestServer } from '../support/server.ts'

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

test('puts back what an interaction needs to go on', async (t) => {
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

test('of 16 concurrent uses one consumes, and the others are told', async (t) => {
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
