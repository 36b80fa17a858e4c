import { hash } from 'node:crypto'
import test, { type ExecutionContext } from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import pg from 'pg'
import type { KeyPair } from '../../src/doctor/proof.ts'
import { createCrash, type Moment } from '../support/crash.ts'
import {
  approve,
  askForCode,
  deviceEnvironment,
  deviceGrant,
  letIn,
  redeem,
  typeCode,
} from '../support/device-flow.ts'
import {
  type Answer,
  basic,
  createPerson,
  newKey,
  obtainCode,
  post,
  refreshing,
} from '../support/flow.ts'
import { email, password, useTestServer } from '../support/server.ts'

const crash = createCrash(() => server.databaseUrl)
// Clients are remembered: no statement comes beside a request, and takes its place.
const server = useTestServer(test, deviceEnvironment, { wrap: crash.wrap, now: () => 0 })
const redirect_uri = 'https://app.example/callback'
const scope = 'openid offline_access'

let client: ClientMetadata
let key: KeyPair

test.before(async () => {
  key = await newKey()
  client = await server.addClient({
    application_type: 'web',
    redirect_uris: [redirect_uri],
    grant_types: ['authorization_code', 'refresh_token', 'client_credentials', deviceGrant],
    token_endpoint_auth_method: 'client_secret_basic',
  })
})

const token = (parameters: Record<string, string>) =>
  post(server, '/token', parameters, { key, headers: basic(client) })

async function newCode() {
  const asked = { redirect_uri, scope, prompt: 'consent' }
  return obtainCode(createPerson(server), client, asked)
}

const push = () =>
  post(
    server,
    '/par',
    {
      client_id: client.client_id,
      response_type: 'code',
      redirect_uri,
      scope: 'openid',
      code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
      code_challenge_method: 'S256',
    },
    { key, headers: basic(client) },
  )

async function ask<Row extends pg.QueryResultRow>(text: string, values: unknown[]) {
  const database = new pg.Client({ connectionString: server.databaseUrl })
  await database.connect()
  const { rows } = await database.query<Row>(text, values)
  await database.end()
  return rows[0]
}

/** Whether a credential was consumed, and whether its successor is stored. */
const look = (kind: string, credential: string, successor: string) =>
  ask<{ consumed: boolean; followed: boolean }>(
    `select used.consumed_at is not null as consumed,
            exists (select from artifacts next
                     where next.kind = $3 and next.consumed_at is null and next.id <> used.id
                       and next.grant_id = used.grant_id) as followed
       from artifacts used where used.kind = $1 and used.id = $2`,
    [kind, hash('sha256', credential, 'buffer'), successor],
  )

/** Whether a pushed request was consumed, and how many codes there are. */
const lookAtRequest = (requestUri: string) =>
  ask<{ consumed: boolean; codes: number }>(
    `select consumed_at is not null as consumed,
            (select count(*)::int from artifacts where kind = 'AuthorizationCode') as codes
       from artifacts where kind = 'PushedAuthorizationRequest' and id = $1`,
    [hash('sha256', requestUri.replace(/^.*:/, ''), 'buffer')],
  )

/** Makes one request for each statement of it, whose connection ends in that statement. */
async function crashEach(
  t: ExecutionContext,
  moment: Moment,
  prepare: () => Promise<{ request(): Promise<Answer>; check(): Promise<unknown> }>,
  { statements = 2 }: { statements?: number } = {},
): Promise<void> {
  let statement = 0
  for (let came = true; came; ) {
    statement += 1
    const { request, check } = await prepare()
    crash.arm(statement, moment)
    const { status, body } = await request()
    came = crash.disarm()
    if (!came) t.true(status < 400)
    else {
      t.is(status, 500, crash.ended)
      t.deepEqual(Object.keys(body), ['error', 'error_description'])
      t.is(body.error, 'server_error')
      await check()
    }
  }
  t.true(statement > statements, 'there are statements to break')
}

for (const moment of ['before', 'after'] as const) {
  test.serial(`a code survives a connection that ends ${moment} any statement`, async (t) => {
    await crashEach(t, moment, async () => {
      const { code, exchange } = await newCode()
      return {
        request: () => token(exchange),
        async check() {
          const seen = await look('AuthorizationCode', code, 'RefreshToken')
          t.is(seen?.consumed, seen?.followed)
          if (!seen?.consumed) t.is((await token(exchange)).status, 200)
        },
      }
    })
  })

  test.serial(`a refresh token survives one that ends ${moment} any statement`, async (t) => {
    await crashEach(t, moment, async () => {
      const { body } = await token((await newCode()).exchange)
      const refresh = refreshing(client, body.refresh_token)
      return {
        request: () => token(refresh),
        async check() {
          const seen = await look('RefreshToken', body.refresh_token, 'RefreshToken')
          t.is(seen?.consumed, seen?.followed)
          if (!seen?.consumed) t.is((await token(refresh)).status, 200)
        },
      }
    })
  })

  test.serial(`a device code survives one that ends ${moment} any statement`, async (t) => {
    await crashEach(t, moment, async () => {
      const options = { key, headers: basic(client) }
      const { body } = await askForCode(server, client, options, { scope, prompt: 'consent' })
      await approve(server, createPerson(server), body.user_code)
      const request = () => redeem(server, client, body.device_code, options)
      return {
        request,
        async check() {
          const seen = await look('DeviceCode', body.device_code, 'RefreshToken')
          t.is(seen?.consumed, seen?.followed)
          if (!seen?.consumed) t.is((await request()).status, 200)
        },
      }
    })
  })

  test.serial(`what a person decides survives one that ends ${moment} any statement`, async (t) => {
    const options = { key, headers: basic(client) }
    const person = createPerson(server)
    // Signed in, and consented: their yes is one request.
    const first = await askForCode(server, client, options)
    await approve(server, person, first.body.user_code)
    let statement = 0
    let retried = 0
    for (let came = true; came; ) {
      statement += 1
      const { body } = await askForCode(server, client, options)
      const confirm = await typeCode(server, person, body.user_code)
      crash.arm(statement, moment)
      const page = await letIn(person, confirm)
      came = crash.disarm()
      const { status, body: answer } = await redeem(server, client, body.device_code, options)
      if (!came) t.is(status, 200)
      // Decided in full, or not at all; then they can mostly type the code again.
      else if (status === 200) t.truthy(answer.id_token)
      else {
        t.true(page.status >= 400)
        t.is(answer.error, 'authorization_pending')
        const again = await typeCode(server, person, body.user_code)
        if (again.status === 200) {
          retried += 1
          await letIn(person, again)
          t.is((await redeem(server, client, body.device_code, options)).status, 200)
        } else t.regex(again.html, /has been used/)
      }
    }
    t.true(statement > 4, 'there are statements to break')
    t.true(retried > 2, 'the code was typed again')
  })

  test.serial(`a service asks again after one that ends ${moment} any statement`, async (t) => {
    const request = () => token({ grant_type: 'client_credentials' })
    const prepare = async () => ({
      request,
      check: async () => t.is((await request()).status, 200),
    })
    // The mark and the token are one statement.
    await crashEach(t, moment, prepare, { statements: 1 })
  })

  test.serial(
    `a request is pushed again after one that ends ${moment} any statement`,
    async (t) => {
      await crashEach(t, moment, async () => ({
        request: push,
        check: async () => t.is((await push()).status, 201),
      }))
    },
  )

  test.serial(
    `a sign-in says why it failed after one that ends ${moment} any statement`,
    async (t) => {
      const query = {
        client_id: client.client_id,
        response_type: 'code',
        redirect_uri,
        scope: 'openid',
      }
      const pkce = { code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM' }
      const parameters = new URLSearchParams({ ...query, ...pkce, code_challenge_method: 'S256' })
      let statement = 0
      for (let came = true; came; ) {
        statement += 1
        const { browser } = createPerson(server)
        const page = await browser.visit(`${server.issuer}/authorize?${parameters}`)
        crash.arm(statement, moment)
        await browser.submit(page, 'Sign in', { email, password }, { until: redirect_uri })
        came = crash.disarm()
      }
      t.true(statement > 4, 'there are statements to break')
      const reasons = server.logged
        .map((line) => JSON.parse(line))
        .filter(({ event }) => event === 'server_error')
        .map(({ err }) => err.message as string)
      t.true(reasons.length > 0)
      t.deepEqual(
        reasons.filter((reason) => !reason.includes('connection')),
        [],
      )
    },
  )

  test.serial(
    `a sign-in with consent survives one that ends ${moment} any statement`,
    async (t) => {
      const asked = { redirect_uri, scope, prompt: 'consent' }
      // Each has exactly what signed it in, and the event that its owner reads; no code is without
      // the consent that it comes from.
      const countSignIns = () =>
        ask(
          `select (select count(*)::int from browser_sessions) as sessions,
                (select count(*)::int from security_events where kind = 'signed_in') as events,
                (select count(distinct uid)::int from artifacts where kind = 'Session') as copies,
                (select count(*)::int from artifacts code
                  where kind = 'AuthorizationCode' and not exists (
                        select from artifacts where kind = 'Grant'
                           and id = sha256(convert_to(code.grant_id, 'UTF8')))) as strays`,
          [],
        )
      let statement = 0
      for (let came = true; came; ) {
        statement += 1
        const person = createPerson(server)
        crash.arm(statement, moment)
        const first = await obtainCode(person, client, asked).catch(() => undefined)
        came = crash.disarm()
        if (!came) t.truthy(first)
        // The same browser, with the cookies that it was left with.
        const { exchange } = first ?? (await obtainCode(person, client, asked))
        t.is((await token(exchange)).status, 200)
        const counted = await countSignIns()
        t.is(counted?.events, counted?.sessions)
        t.is(counted?.copies, counted?.sessions)
        t.is(counted?.strays, 0)
      }
      t.true(statement > 8, 'there are statements to break')
    },
  )

  test.serial(`a pushed request survives one that ends ${moment} any statement`, async (t) => {
    // Signed in, and consented: the request is answered at once.
    const person = createPerson(server)
    await obtainCode(person, client, { redirect_uri, scope: 'openid' })
    let statement = 0
    for (let came = true; came; ) {
      statement += 1
      const uri: string = (await push()).body.request_uri
      const query = new URLSearchParams({ client_id: client.client_id, request_uri: uri })
      const url = `${server.issuer}/authorize?${query}`
      const before = await lookAtRequest(uri)
      crash.arm(statement, moment)
      const page = await person.browser.visit(url, { until: redirect_uri })
      came = crash.disarm()
      if (!came) {
        t.true(page.url.searchParams.has('code'))
        continue
      }
      t.false(page.url.searchParams.has('code'))
      t.regex(`${page.url} ${page.html}`, /server_error/)
      const after = await lookAtRequest(uri)
      t.is(after?.codes, (before?.codes ?? 0) + (after?.consumed ? 1 : 0))
      if (!after?.consumed) {
        const again = await person.browser.visit(url, { until: redirect_uri })
        t.true(again.url.searchParams.has('code'))
      }
    }
    t.true(statement > 3, 'there are statements to break')
  })
}
