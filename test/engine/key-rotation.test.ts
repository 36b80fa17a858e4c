import test, { type ExecutionContext } from 'ava'
import {
  createLocalJWKSet,
  createRemoteJWKSet,
  decodeProtectedHeader,
  type JSONWebKeySet,
  jwtVerify,
} from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import { createIdTokenVerifier } from '../../packages/verify/id-token.ts'
import { createVerifier } from '../../packages/verify/verifier.ts'
import { administerKeys } from '../../src/administration/keys.ts'
import { type KeyPair, makeProof } from '../../src/doctor/proof.ts'
import type { KeyPurpose } from '../../src/keys/key-purpose.ts'
import { createBrowser } from '../support/browser.ts'
import { holdfast } from '../support/cli.ts'
import { basic, callback, createPerson, newKey, obtainCode, post } from '../support/flow.ts'
import { useFolder } from '../support/folder.ts'
import { letDaysPass } from '../support/keys.ts'
import { type Node, startSecondNode } from '../support/second-node.ts'
import { api, email, password, useTestServer } from '../support/server.ts'
import { until } from '../support/until.ts'

const environment = {
  HOLDFAST_SECRET: 'the secret of two nodes on one database',
  HOLDFAST_KEY_POLL_SECONDS: '1',
  HOLDFAST_ADMIN_API: 'on',
}
const cwd = useFolder(test)
const server = useTestServer(test, environment)
const opened = new AsyncDisposableStack()

let nodes: readonly [Pick<Node, 'server' | 'fetch'>, Node]
let service: ClientMetadata
let key: KeyPair

test.serial.before(async () => {
  nodes = [
    { server, fetch: globalThis.fetch },
    opened.use(await startSecondNode(server, environment)),
  ]
  key = await newKey()
  service = await server.addClient({
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    token_endpoint_auth_method: 'client_secret_basic',
    administration: 'read',
  })
})
test.serial.after.always('stops the second node', () => opened.disposeAsync())

const command = (...args: string[]) =>
  holdfast(
    { cwd, env: { ...environment, HOLDFAST_TLS: 'off', DATABASE_URL: server.databaseUrl } },
    ['keys', ...args],
  )

const keySetOf = async ({ fetch }: Pick<Node, 'fetch'>): Promise<JSONWebKeySet> =>
  (await fetch(`${server.issuer}/jwks`)).json() as Promise<JSONWebKeySet>

const kidsOf = async (node: Pick<Node, 'fetch'>, alg: string) =>
  (await keySetOf(node)).keys.flatMap((each) => (each.alg === alg ? [each.kid] : []))

async function issue({ fetch }: Pick<Node, 'fetch'>, resource = api, scope = 'read') {
  const parameters = { grant_type: 'client_credentials', resource, scope }
  const answer = await post(server, '/token', parameters, { key, fetch, headers: basic(service) })
  if (answer.status !== 200) throw new Error(JSON.stringify(answer.body))
  return answer.body.access_token as string
}

const kidOf = (token: string) => decodeProtectedHeader(token).kid

/** Does to the keys of a purpose what commands do, and has both nodes know of it. */
async function change(
  work: (keys: ReturnType<typeof administerKeys>) => Promise<unknown>,
): Promise<void> {
  const { keys: ring } = server
  const table = server.storage.signingKeys
  await work(administerKeys({ ring, table, publish: 86_400_000, changed: () => {} }))
  await refreshed()
}

const refreshed = () => Promise.all(nodes.map((node) => node.server.keys.refresh()))

const present = (purpose: KeyPurpose) => server.keys.view()[purpose][0]?.kid ?? ''

async function rotateNow(purpose: KeyPurpose): Promise<void> {
  await change((keys) => keys.rotate([purpose]))
  await letDaysPass(server.databaseUrl, 1)
  await refreshed()
}

/** One API, which may have the key set of any node, fresh or cached. */
function createApi(keySet: JSONWebKeySet) {
  const verifier = createVerifier({
    issuer: server.issuer,
    audience: api,
    jwks: keySet,
    tokenCacheSeconds: 0,
  })
  const cached = createLocalJWKSet(keySet)
  return async (token: string) => {
    await jwtVerify(token, cached, { issuer: server.issuer, audience: api })
    const url = `${api}/notes`
    const dpop = await makeProof(key, { method: 'GET', url, accessToken: token })
    await verifier.verify({
      method: 'GET',
      url: '/notes',
      headers: ['Authorization', `DPoP ${token}`, 'DPoP', dpop],
    })
  }
}

test.serial('a rotation reaches running nodes, and every token verifies all along', async (t) => {
  const [first, second] = nodes
  const [before] = await kidsOf(first, 'ES256')
  const apis = [createApi(await keySetOf(first))]
  const failures: unknown[] = []
  let tokens = 0
  let running = true
  async function traffic() {
    for (let round = 0; running; round += 1) {
      try {
        const node = nodes[round % 2] as Node
        const token = await issue(node)
        tokens += 1
        // An API that has fetched the key set lately, from either node.
        for (const verify of apis) await verify(token)
        await createApi(await keySetOf(nodes[(round + 1) % 2] as Node))(token)
      } catch (error) {
        failures.push(error)
      }
    }
  }
  const busy = traffic()
  try {
    const [rotated] = JSON.parse((await command('rotate', 'ES256', '--json')).stdout)
    for (const node of nodes) {
      await until(async () => (await kidsOf(node, 'ES256')).includes(rotated.kid))
    }
    t.deepEqual(await kidsOf(second, 'ES256'), [before, rotated.kid])
    t.is(kidOf(await issue(first)), before)
    // Caches that were filled before the key was published have run out by the time it signs.
    apis.splice(0, 1, createApi(await keySetOf(second)))
    const old = await issue(second)

    await letDaysPass(server.databaseUrl, 1)
    for (const node of nodes) await until(async () => kidOf(await issue(node)) === rotated.kid)
    await t.notThrowsAsync(createApi(await keySetOf(first))(old))
    t.deepEqual(await kidsOf(first, 'ES256'), [rotated.kid, before])

    await letDaysPass(server.databaseUrl, 15)
    for (const node of nodes) {
      await until(async () => !(await kidsOf(node, 'ES256')).includes(before))
    }
  } finally {
    running = false
    await busy
  }
  t.deepEqual(failures, [])
  t.true(tokens > 4)
  const events = await server.storage.audit.list({ event: 'key.made', limit: 100 })
  t.true(
    events.some(
      ({ actor, details }) => /command line/.test(actor ?? '') && details.purpose === 'ES256',
    ),
  )
})

for (const alg of ['ES256', 'EdDSA', 'RS256', 'PS256'] as const) {
  test.serial(`an API has its access tokens signed by ${alg}`, async (t) => {
    const identifier = `https://${alg.toLowerCase()}.example`
    const resource = { identifier, name: null, scopes: ['read'], signingAlg: alg }
    await server.storage.resourceServers.insert(resource)
    const [first, second] = nodes
    const token = await issue(second, identifier)
    const keySet = createRemoteJWKSet(new URL(`${server.issuer}/jwks`))
    const { protectedHeader } = await jwtVerify(token, keySet, {
      issuer: server.issuer,
      audience: identifier,
      algorithms: [alg],
    })
    t.is(protectedHeader.typ, 'at+jwt')
    const verifier = createVerifier({
      issuer: server.issuer,
      audience: identifier,
      algorithms: [alg],
      jwks: await keySetOf(first),
    })
    const url = `${identifier}/notes`
    const dpop = await makeProof(key, { method: 'GET', url, accessToken: token })
    const headers = ['Authorization', `DPoP ${token}`, 'DPoP', dpop]
    const { claims } = await verifier.verify({ method: 'GET', url: '/notes', headers })
    t.is(claims.aud, identifier)
  })

  test.serial(`a client has its ID tokens signed by ${alg}`, async (t) => {
    const metadata = await (await fetch(`${server.issuer}/.well-known/openid-configuration`)).json()
    t.true((metadata as Metadata).id_token_signing_alg_values_supported.includes(alg))
    const { idToken, client } = await signIn({ id_token_signed_response_alg: alg })
    t.is(decodeProtectedHeader(idToken).alg, alg)
    const keySet = createRemoteJWKSet(new URL(`${server.issuer}/jwks`))
    await jwtVerify(idToken, keySet, { audience: client.client_id, algorithms: [alg] })
    const { verifyIdToken } = createIdTokenVerifier({
      issuer: server.issuer,
      clientId: client.client_id,
      algorithms: [alg],
      allowUnbound: true,
    })
    const { claims } = await verifyIdToken(idToken, { nonce: 'n-1' })
    t.is(claims.iss, server.issuer)
  })
}

interface Metadata {
  id_token_signing_alg_values_supported: string[]
}

const redirect_uri = 'https://app.example/callback'

async function signIn(changes: Parameters<typeof server.addClient>[0] = {}) {
  const web = { application_type: 'web', redirect_uris: [redirect_uri] } as const
  const client = await server.addClient({ ...web, ...changes })
  const person = createPerson(server)
  const { exchange } = await obtainCode(person, client, { redirect_uri, nonce: 'n-1' })
  const { body } = await post(server, '/token', exchange, { key })
  return { client, person, idToken: body.id_token as string }
}

test.serial('the key set may be cached for five minutes', async (t) => {
  const { headers } = await fetch(`${server.issuer}/jwks`)
  t.is(headers.get('cache-control'), 'public, max-age=300')
})

test.serial('the key set has no private member, and its keys name their algorithm', async (t) => {
  for (const jwk of (await keySetOf(nodes[1])).keys) {
    t.is(jwk.use, 'sig')
    t.is(typeof jwk.alg, 'string')
    for (const member of ['d', 'p', 'q', 'dp', 'dq', 'qi', 'k']) t.false(member in jwk)
  }
})

/** A code without anybody being asked, or the error instead of it. */
async function silently(
  person: ReturnType<typeof createPerson>,
  client: ClientMetadata,
): Promise<string | null> {
  const arrived = await person.authorize({
    client_id: client.client_id,
    response_type: 'code',
    redirect_uri,
    scope: 'openid',
    prompt: 'none',
    code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
    code_challenge_method: 'S256',
  })
  return arrived.searchParams.get('error')
}

test.serial(
  'people stay signed in while the cookie key rotates, until it is retired',
  async (t) => {
    const { person, client } = await signIn()
    const before = present('cookie')
    await rotateNow('cookie')
    t.not(present('cookie'), before)
    const elsewhere = await signIn()
    t.is(await silently(person, client), null)
    // That answer has signed the cookies of this browser anew.
    await change((keys) => keys.retire(before, { now: true }))
    t.is(await silently(person, client), null)
    await change((keys) => keys.retire(present('cookie'), { now: true }))
    t.is(await silently(person, client), 'login_required')
    t.is(await silently(elsewhere.person, elsewhere.client), 'login_required')
    const again = await signIn()
    t.is(await silently(again.person, again.client), null)
  },
)

test.serial('a nonce of before a rotation is good on every node', async (t) => {
  const asked = (node: Pick<Node, 'fetch'>, nonce?: string) =>
    makeProof(key, { method: 'POST', url: `${server.issuer}/token`, ...(nonce && { nonce }) }).then(
      (proof) =>
        post(
          server,
          '/token',
          { grant_type: 'client_credentials', resource: api, scope: 'read' },
          { proof, fetch: node.fetch, headers: basic(service) },
        ),
    )
  const nonce = (await asked(nodes[0])).headers.get('dpop-nonce') ?? ''
  await rotateNow('dpop-nonce')
  for (const node of nodes) {
    const answer = await asked(node, nonce)
    t.is(answer.status, 200)
    t.not(answer.headers.get('dpop-nonce'), nonce)
  }
  const old = server.keys.view()['dpop-nonce'][1]?.kid ?? ''
  await change((keys) => keys.retire(old, { now: true }))
  for (const node of nodes) {
    const refused = await asked(node, nonce)
    t.is(refused.body.error, 'use_dpop_nonce')
    t.is((await asked(node, refused.headers.get('dpop-nonce') ?? '')).status, 200)
  }
})

test.serial('a form that was opened before a rotation can be sent', async (t) => {
  async function open() {
    const client = await server.addClient()
    const browser = createBrowser()
    const asked = new URLSearchParams({
      client_id: client.client_id,
      response_type: 'code',
      redirect_uri: callback,
      scope: 'openid',
      code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
      code_challenge_method: 'S256',
    })
    const page = await browser.visit(`${server.issuer}/authorize?${asked}`, { until: callback })
    return () => browser.submit(page, 'Sign in', { email, password }, { until: callback })
  }
  const [send, sendLater] = [await open(), await open()]
  const before = present('form-token')
  await rotateNow('form-token')
  t.regex((await send()).html, />Allow</)
  await change((keys) => keys.retire(before, { now: true }))
  t.is((await sendLater()).status, 400)
})

async function administers(token: string, { fetch }: Pick<Node, 'fetch'>): Promise<number> {
  const url = `${server.issuer}/admin/clients`
  const dpop = await makeProof(key, { method: 'GET', url, accessToken: token })
  return (await fetch(url, { headers: { authorization: `DPoP ${token}`, dpop } })).status
}

const endsSession = async (t: ExecutionContext, idToken: string) => {
  const asked = new URLSearchParams({ id_token_hint: idToken })
  const { status } = await fetch(`${server.issuer}/session/end?${asked}`)
  t.true([200, 400].includes(status))
  return status === 200
}

test.serial('what a retired key signed is refused, and a rotated one not', async (t) => {
  const token = await issue(nodes[1], `${server.issuer}/admin`, 'admin:read')
  const { idToken } = await signIn()
  const before = present('ES256')
  t.is(kidOf(token), before)
  await rotateNow('ES256')
  const after = await issue(nodes[1], `${server.issuer}/admin`, 'admin:read')
  t.not(kidOf(after), before)
  for (const node of nodes) {
    t.is(await administers(token, node), 200)
    t.is(await administers(after, node), 200)
  }
  t.true(await endsSession(t, idToken))

  await change((keys) => keys.retire(before, { now: true }))
  for (const node of nodes) {
    t.is(await administers(token, node), 401)
    t.is(await administers(after, node), 200)
    t.false((await kidsOf(node, 'ES256')).includes(before))
  }
  t.false(await endsSession(t, idToken))
})

test.serial('a stolen key that signs is replaced at once', async (t) => {
  const stolen = present('ES256')
  const { stdout } = await command('retire', stolen, '--now', '--json')
  t.is(JSON.parse(stdout).state, 'retired')
  for (const node of nodes) {
    await until(async () => !(await kidsOf(node, 'ES256')).includes(stolen))
    t.is(kidOf(await issue(node)), JSON.parse(stdout).successor)
  }
})

test.serial(
  'a key that the admin API retires is refused here at once, and soon elsewhere',
  async (t) => {
    const writer = await server.addClient({
      grant_types: ['client_credentials'],
      response_types: [],
      redirect_uris: [],
      token_endpoint_auth_method: 'client_secret_basic',
      administration: 'write',
    })
    const parameters = {
      grant_type: 'client_credentials',
      resource: `${server.issuer}/admin`,
      scope: 'admin:read admin:write',
    }
    const askFor = async () =>
      (await post(server, '/token', parameters, { key, headers: basic(writer) })).body.access_token
    const send = async (node: Pick<Node, 'fetch'>, token: string, path: string, body?: object) => {
      const url = `${server.issuer}/admin${path}`
      const method = body ? 'POST' : 'GET'
      const dpop = await makeProof(key, { method, url, accessToken: token })
      const headers = { authorization: `DPoP ${token}`, dpop, 'content-type': 'application/json' }
      return node.fetch(url, { method, headers, ...(body && { body: JSON.stringify(body) }) })
    }
    const [here, elsewhere] = nodes
    const token = await askFor()
    const kid = kidOf(token)
    t.is((await send(elsewhere, token, '/keys')).status, 200)
    const retired = await send(here, token, `/keys/${kid}/retire`, { now: true })
    t.is(retired.status, 200)
    t.is((await send(here, token, '/keys')).status, 401)
    const next = await askFor()
    t.is(kidOf(next), ((await retired.json()) as { successor: string }).successor)
    t.is((await send(here, next, '/keys')).status, 200)
    await until(async () => (await send(elsewhere, token, '/keys')).status === 401)
    await until(async () => (await send(elsewhere, next, '/keys')).status === 200)
  },
)

test.serial('metrics tell how old keys are, and that none is unreadable', async (t) => {
  const text = await (await fetch(`http://${server.operators}/metrics`)).text()
  t.regex(text, /holdfast_signing_key_age_seconds\{purpose="ES256"\} \d/)
  t.regex(text, /^holdfast_keys_unreadable 0$/m)
})
