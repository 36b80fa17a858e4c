// A node whose clock is a day wrong, beside one whose clock is right: what ends, and what has ended,
// is decided by the clock of the database.
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'ava'
import { decodeJwt } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import { CookieJar } from 'tough-cookie'
import { type KeyPair, makeProof } from '../../src/doctor/proof.ts'
import { freePort } from '../../src/net/free-port.ts'
import { createSigner } from '../../src/token-endpoint/own-tokens.ts'
import { serve } from '../support/cli.ts'
import {
  basic,
  callback,
  createPerson,
  newKey,
  obtainCode,
  post,
  refreshing,
} from '../support/flow.ts'
import { createRecorder } from '../support/history.ts'
import { query } from '../support/query.ts'
import { initialToken, register, webClient } from '../support/registration.ts'
import { api, useTestServer } from '../support/server.ts'

const shared = {
  HOLDFAST_REGISTRATION: 'on',
  HOLDFAST_REFUSAL_LIMIT: '100000',
  HOLDFAST_SECRET: 'the secret of these nodes, and of nothing else',
}
const server = useTestServer(test, shared)
const day = 24 * 60 * 60
const redirect_uri = 'https://app.example/callback'

/** Sets the clock of a process, as far as its code can see it. */
const setClock = (aheadS: number) =>
  `data:text/javascript,${encodeURIComponent(`
    const real = Date, ahead = ${aheadS * 1000}
    globalThis.Date = class extends real {
      constructor(...given) { given.length > 0 ? super(...given) : super(real.now() + ahead) }
      static now() { return real.now() + ahead }
    }
    Object.defineProperty(performance, 'timeOrigin', { value: performance.timeOrigin + ahead })`)}`

type Fetch = typeof globalThis.fetch

async function startNode(aheadS: number, opened: AsyncDisposableStack): Promise<Fetch> {
  const cwd = await mkdtemp(path.join(tmpdir(), 'holdfast-clock-'))
  opened.defer(() => rm(cwd, { recursive: true, force: true }))
  const port = await freePort()
  const env = {
    ...shared,
    DATABASE_URL: server.databaseUrl,
    HOLDFAST_DATA: cwd,
    HOLDFAST_ISSUER: server.issuer,
    HOLDFAST_LONGEST_WAIT_MS: '60000',
    HOLDFAST_PORT: String(port),
    HOLDFAST_TLS: 'off',
    NODE_OPTIONS: `--import=${setClock(aheadS)}`,
  }
  const node = await serve({ cwd, env })
  opened.defer(() => void node.end('SIGKILL'))
  return history.watch((input, init) =>
    globalThis.fetch(String(input).replace(server.issuer, `http://127.0.0.1:${port}`), init),
  )
}

const wrong = [day, -day]
const nodes = new Map<number, Fetch>()
const history = createRecorder({ graceS: 0 })
const fetch = history.watch()
const opened = new AsyncDisposableStack()
let key: KeyPair
let app: ClientMetadata
let web: ClientMetadata
let resource: ClientMetadata
const jar = new CookieJar()
const person = createPerson(
  {
    get issuer() {
      return server.issuer
    },
  },
  { jar, fetch },
)

test.serial.before(async () => {
  key = await newKey()
  app = await server.addClient()
  web = await server.addClient({ application_type: 'web', redirect_uris: [redirect_uri] })
  resource = await server.addClient({
    application_type: 'web',
    redirect_uris: ['https://api.example/callback'],
    token_endpoint_auth_method: 'client_secret_basic',
  })
  const made = await Promise.all(wrong.map((aheadS) => startNode(aheadS, opened)))
  for (const [at, aheadS] of wrong.entries()) nodes.set(aheadS, made[at] as Fetch)
})
test.after('the history has no violation', (t) => {
  t.deepEqual(history.judge(), [])
})
test.after.always('ends the nodes', () => opened.disposeAsync())

async function signIn() {
  const { exchange } = await obtainCode(person, app, {
    scope: 'openid offline_access',
    prompt: 'consent',
  })
  return exchange
}

const issue = async (parameters: Record<string, string>, node: Fetch = fetch) =>
  post(server, '/token', parameters, { key, fetch: node })

async function isActive(token: string, node: Fetch): Promise<boolean> {
  const { body } = await post(
    server,
    '/introspect',
    { token },
    { headers: basic(resource), fetch: node },
  )
  return body.active
}

const revoke = (token: string, node: Fetch) =>
  post(server, '/revoke', { token, client_id: app.client_id }, { fetch: node })

/** As a client does, with the nonce that the first answer gives it (RFC 9449 section 8). */
async function userinfo(token: string, node: Fetch, iat?: number): Promise<number> {
  const url = `${server.issuer}/userinfo`
  const ask = async (nonce: string | undefined) => {
    const dpop = await makeProof(key, {
      method: 'GET',
      url,
      accessToken: token,
      ...(nonce !== undefined && { nonce }),
      ...(iat !== undefined && { iat }),
    })
    return node(url, { headers: { authorization: `DPoP ${token}`, dpop } })
  }
  const first = await ask(undefined)
  const nonce = first.headers.get('dpop-nonce')
  return iat === undefined && nonce ? (await ask(nonce)).status : first.status
}

/** Ends what is stored of a token a minute ago. */
async function expire(token: string): Promise<void> {
  await query(
    server.databaseUrl,
    `update artifacts set expires_at = now() - interval '1 minute'
      where id = sha256(convert_to('${token}', 'UTF8'))`,
  )
  history.expire(token)
}

const now = () => Math.floor(Date.now() / 1000)

function signJwt(exp: number): string {
  const claims = { iss: server.issuer, jti: randomUUID(), sub: app.client_id }
  return createSigner(server.keys)('ES256', 'at+jwt', {
    ...claims,
    client_id: app.client_id,
    aud: api,
    iat: exp - 600,
    exp,
  }) as string
}

test.serial('takes live tokens and none revoked there, by a wrong clock', async (t) => {
  for (const node of nodes.values()) {
    const first = await issue(await signIn(), node)
    t.is(first.status, 200, JSON.stringify(first.body))
    t.true(Math.abs(Number(decodeJwt(first.body.id_token).iat) - now()) < 60)
    const refreshed = await issue(refreshing(app, first.body.refresh_token), node)
    t.is(refreshed.status, 200, JSON.stringify(refreshed.body))
    const { access_token: token, refresh_token: refresh } = refreshed.body
    const jwt = signJwt(now() + 300)
    for (const each of [token, refresh, jwt]) {
      for (const asked of [node, fetch]) t.true(await isActive(each, asked), each)
    }
    for (const asked of [node, fetch]) t.is(await userinfo(token, asked), 200)
    for (const each of [jwt, refresh]) t.is((await revoke(each, node)).status, 200)
    for (const each of [token, refresh, jwt]) {
      for (const asked of [node, fetch]) t.false(await isActive(each, asked), each)
    }
    for (const asked of [node, fetch]) t.is(await userinfo(token, asked), 401)
    t.is((await issue(refreshing(app, refresh), node)).body.error, 'invalid_grant')
  }
})

test.serial('takes nothing that has expired by a wrong clock', async (t) => {
  for (const node of nodes.values()) {
    const { access_token: token, refresh_token: refresh } = (await issue(await signIn())).body
    for (const each of [token, refresh]) await expire(each)
    for (const each of [token, refresh, signJwt(now() - 60)]) {
      t.false(await isActive(each, node), each)
    }
    t.is(await userinfo(token, node), 401)
    t.is((await issue(refreshing(app, refresh), node)).body.error, 'invalid_grant')
    const exchange = await signIn()
    await expire(String(exchange.code))
    t.is((await issue(exchange, node)).body.error, 'invalid_grant')
  }
})

test.serial('refuses a proof that is a day old or ahead, as its own clock is', async (t) => {
  for (const [aheadS, node] of nodes) {
    const { access_token: token } = (await issue(await signIn())).body
    t.is(await userinfo(token, node, now() + aheadS), 401)
    const url = `${server.issuer}/token`
    const proof = await makeProof(key, { method: 'POST', url, iat: now() + aheadS })
    const answer = await post(server, '/token', await signIn(), { proof, fetch: node })
    t.is(answer.body.error, 'use_dpop_nonce')
  }
})

test.serial('knows who is signed in and until when by a wrong clock', async (t) => {
  for (const node of nodes.values()) {
    await obtainCode(person, web, { redirect_uri })
    const elsewhere = createPerson(server, { jar, fetch: node })
    const silently = { redirect_uri, prompt: 'none', max_age: '3600' }
    const { exchange } = await obtainCode(elsewhere, web, silently)
    const { body } = await issue(exchange)
    t.true(Math.abs(Number(decodeJwt(body.id_token).auth_time) - now()) < 60)
    await query(
      server.databaseUrl,
      "update browser_sessions set expires_at = now() - interval '1 s'",
    )
    await t.throwsAsync(obtainCode(elsewhere, web, silently), {
      message: /login_required/,
    })
  }
})

test.serial('takes requests and registrations until they end by a wrong clock', async (t) => {
  for (const node of nodes.values()) {
    const pushed = await post(
      server,
      '/par',
      {
        client_id: app.client_id,
        response_type: 'code',
        redirect_uri: callback,
        scope: 'openid',
        code_challenge: 'x'.repeat(43),
        code_challenge_method: 'S256',
      },
      { fetch: node },
    )
    t.is(pushed.status, 201, JSON.stringify(pushed.body))
    const authorize = async () => {
      const { request_uri } = pushed.body
      const query = new URLSearchParams({ client_id: String(app.client_id), request_uri })
      return (await node(`${server.issuer}/authorize?${query}`, { redirect: 'manual' })).status
    }
    t.is(await authorize(), 303)
    await expire(pushed.body.request_uri.split(':').at(-1))
    t.is(await authorize(), 400)

    const token = await initialToken(server, { bearer: true, uses: 2, lifetime: 60 })
    t.is((await register(server, { token, body: webClient, fetch: node })).status, 201)
    await query(
      server.databaseUrl,
      "update initial_access_tokens set expires_at = now() - interval '1 s'",
    )
    t.is((await register(server, { token, body: webClient, fetch: node })).status, 401)
  }
})
