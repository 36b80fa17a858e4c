import { hash } from 'node:crypto'
import test, { type ExecutionContext } from 'ava'
import {
  calculateJwkThumbprint,
  compactVerify,
  createLocalJWKSet,
  createRemoteJWKSet,
  decodeProtectedHeader,
  exportJWK,
  generateKeyPair,
  importJWK,
  type JSONWebKeySet,
  jwtVerify,
} from 'jose'
import type { ClientMetadata, JWK } from 'oidc-provider'
import { createIdTokenVerifier } from '../../packages/verify/id-token.ts'
import { createVerifier } from '../../packages/verify/verifier.ts'
import { administerKeys } from '../../src/administration/keys.ts'
import { signingAlgorithms } from '../../src/config/signing-algorithms.ts'
import { type KeyPair, makeProof } from '../../src/doctor/proof.ts'
import { LocalSigningKey } from '../../src/engine/local-signing-key.ts'
import { type KeyPurpose, keyPurposes, makeKey as makeKeyFor } from '../../src/keys/key-purpose.ts'
import { createBrowser } from '../support/browser.ts'
import { selfSigned, type TestCertificate } from '../support/certificates.ts'
import { holdfast } from '../support/cli.ts'
import {
  basic,
  callback,
  createPerson,
  newKey,
  obtainCode,
  post,
  refreshing,
} from '../support/flow.ts'
import { useFolder } from '../support/folder.ts'
import { letDaysPass } from '../support/keys.ts'
import { useMtlsServer } from '../support/mtls.ts'
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

test.serial('accepts a nonce from before a rotation on every node', async (t) => {
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
  const { idToken } = await signIn({ id_token_signed_response_alg: 'ES256' })
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

const mtls = useMtlsServer(test, { HOLDFAST_KEY_OVERLAP_HOURS: '1' })
const strict = useMtlsServer(test)

let client: ClientMetadata
let dpop: ClientMetadata

test.before(async () => {
  client = await mtls.server.addClient({ binding_method: 'mtls' })
  dpop = await mtls.server.addClient()
})

const by = (certificate: TestCertificate, { fetchWith, mtlsOrigin } = mtls) => ({
  fetch: fetchWith(certificate),
  origin: mtlsOrigin,
})

/** The refresh token of a new sign-in with a certificate, and refreshing with any. */
async function renewalSignIn(certificate: TestCertificate, who = client, at = mtls) {
  const { redirect_uris: [redirect_uri = ''] = [] } = who
  const { exchange } = await obtainCode(createPerson(at.server), who, { redirect_uri })
  const { body } = await post(at.server, '/token', exchange, by(certificate, at))
  const refresh = (token: string, presented: TestCertificate, parameters = {}) =>
    post(at.server, '/token', { ...refreshing(who, token), ...parameters }, by(presented, at))
  return { token: body.refresh_token as string, refresh }
}

test('a certificate names the next, and both are good until the next is used', async (t) => {
  const [old, next] = [await selfSigned(), await selfSigned()]
  const { token, refresh } = await renewalSignIn(old)
  const naming = await refresh(token, old, { successor: next.thumbprint })
  t.is(naming.status, 200)
  const again = await refresh(naming.body.refresh_token, old)
  t.is(again.status, 200)
  const renewed = await refresh(again.body.refresh_token, next)
  t.is(renewed.status, 200)
  const late = await refresh(renewed.body.refresh_token, old)
  t.is(late.body.error, 'invalid_grant')
  t.is((await refresh(renewed.body.refresh_token, next)).status, 200)
})

test('a certificate that nobody has named does not take over', async (t) => {
  const [old, next, thief] = [await selfSigned(), await selfSigned(), await selfSigned()]
  const { token, refresh } = await renewalSignIn(old)
  const { body } = await refresh(token, old, { successor: next.thumbprint })
  t.is((await refresh(body.refresh_token, thief)).body.error, 'invalid_grant')
  t.is((await refresh(body.refresh_token, next)).status, 200)
})

test('a thief cannot name itself', async (t) => {
  const [owner, thief] = [await selfSigned(), await selfSigned()]
  const { token, refresh } = await renewalSignIn(owner)
  const attempt = await refresh(token, thief, { successor: thief.thumbprint })
  t.is(attempt.body.error, 'invalid_grant')
  t.is((await refresh(token, thief)).body.error, 'invalid_grant')
  t.is((await refresh(token, owner)).status, 200)
})

test('a successor that is no thumbprint is refused and consumes nothing', async (t) => {
  const owner = await selfSigned()
  const { token, refresh } = await renewalSignIn(owner)
  t.is((await refresh(token, owner, { successor: 'x' })).body.error, 'invalid_request')
  t.is((await refresh(token, owner)).status, 200)
})

test('both changes are in the log and in the audit trail, and are counted', async (t) => {
  const [old, next] = [await selfSigned(), await selfSigned()]
  const { token, refresh } = await renewalSignIn(old)
  const { body } = await refresh(token, old, { successor: next.thumbprint })
  await refresh(body.refresh_token, next)
  const change = { from: old.thumbprint, to: next.thumbprint }
  const events = mtls.server.logged
    .map((line) => JSON.parse(line))
    .filter(({ from }) => from === old.thumbprint)
  t.like(events, [
    { event: 'refresh_token.successor_named', client: client.client_id, ...change },
    { event: 'refresh_token.rebound', client: client.client_id, ...change },
  ])
  const { server } = mtls
  await server.flushAudit()
  const rows = await server.storage.audit.list({ limit: 1000, client: client.client_id })
  const audited = rows.filter(({ details }) => details?.from === old.thumbprint)
  t.deepEqual(
    audited.map(({ event, details }) => ({ event, details })),
    [
      { event: 'refresh_token.successor_named', details: change },
      { event: 'refresh_token.rebound', details: change },
    ],
  )
  t.true(audited.every(({ account }) => account !== null))
  const metrics = await (await fetch(`http://${server.operators}/metrics`)).text()
  for (const step of ['named', 'rebound']) {
    t.regex(metrics, new RegExp(`holdfast_key_changes_total\\{step="${step}"\\} [1-9]`))
  }
})

test('a change that comes to nothing is not told of', async (t) => {
  const [old, next] = [await selfSigned(), await selfSigned()]
  const { token, refresh } = await renewalSignIn(old)
  const unknown = { successor: next.thumbprint, resource: 'https://unknown.example' }
  t.is((await refresh(token, old, unknown)).body.error, 'invalid_target')
  t.false(mtls.server.logged.some((line) => line.includes(next.thumbprint)))
})

const pki = {
  application_type: 'web' as const,
  redirect_uris: ['https://app.example/callback'],
  binding_method: 'mtls',
  token_endpoint_auth_method: 'tls_client_auth' as const,
  tls_client_auth_subject_dn: 'CN=app',
}

test('a certificate that authenticates the client takes over by itself', async (t) => {
  const issue = () => mtls.root.issue({ subject: 'CN=app' })
  const [old, next] = [await issue(), await issue()]
  const { token, refresh } = await renewalSignIn(old, await mtls.server.addClient(pki))
  const renewed = await refresh(token, next)
  t.is(renewed.status, 200)
  const thief = await mtls.root.issue({ subject: 'CN=thief' })
  t.is((await refresh(renewed.body.refresh_token, thief)).body.error, 'invalid_client')
})

test('where the operator has not allowed it, no key takes over', async (t) => {
  const issue = () => strict.root.issue({ subject: 'CN=app' })
  const [old, next] = [await issue(), await issue()]
  const confidential = await strict.server.addClient(pki)
  const { token, refresh } = await renewalSignIn(old, confidential, strict)
  t.is((await refresh(token, next)).body.error, 'invalid_grant')
  const { body } = await refresh(token, old, { successor: next.thumbprint })
  t.is((await refresh(body.refresh_token, next)).body.error, 'invalid_grant')
})

/** A refresh with a proof by one key, and perhaps one by the next. */
async function refreshWith(token: string, key: KeyPair, next?: KeyPair, accessToken = token) {
  const url = `${mtls.server.issuer}/token`
  const successor = next && (await makeProof(next, { method: 'POST', url, accessToken }))
  const parameters = { ...refreshing(dpop, token), ...(successor && { successor }) }
  return post(mtls.server, '/token', parameters, { key })
}

async function signInWith(key: KeyPair): Promise<string> {
  const { exchange } = await obtainCode(createPerson(mtls.server), dpop)
  return (await post(mtls.server, '/token', exchange, { key })).body.refresh_token
}

test('a DPoP key takes over after a refresh with proofs by both', async (t) => {
  const [old, next] = [await newKey(), await newKey()]
  const naming = await refreshWith(await signInWith(old), old, next)
  t.is(naming.status, 200)
  const renewed = await refreshWith(naming.body.refresh_token, next)
  t.is(renewed.status, 200)
  t.is((await refreshWith(renewed.body.refresh_token, old)).body.error, 'invalid_grant')
  const { body } = await refreshWith(renewed.body.refresh_token, next)
  const { body: seen } = await post(mtls.server, '/introspect', {
    token: body.refresh_token,
    client_id: dpop.client_id,
  })
  t.is(seen.cnf.jkt, await calculateJwkThumbprint(await exportJWK(next.publicKey)))
})

test('a proof by the next key is for one refresh token', async (t) => {
  const [old, next] = [await newKey(), await newKey()]
  const token = await signInWith(old)
  const refused = await refreshWith(token, old, next, 'another token')
  t.is(refused.body.error, 'invalid_dpop_proof')
  const name = hash('sha256', 'not a proof', 'base64url')
  const named = await post(
    mtls.server,
    '/token',
    { ...refreshing(dpop, token), successor: name },
    { key: old },
  )
  t.is(named.body.error, 'invalid_dpop_proof')
  t.is((await refreshWith(token, old)).status, 200)
})

const lost = { HOLDFAST_SECRET: 'the secret that nobody has written down' }
const next = { HOLDFAST_SECRET: 'the secret that somebody has written down' }
const keylessNode = useTestServer(test, lost)
let fetchNode = globalThis.fetch

const runWith = (env: Record<string, string>, ...args: string[]) =>
  holdfast(
    { cwd, env: { HOLDFAST_TLS: 'off', DATABASE_URL: keylessNode.databaseUrl, ...env } },
    args,
  )

interface Key {
  readonly kid: string
  readonly state: string
  readonly readable: boolean
}

const keysOf = async (): Promise<Key[]> =>
  JSON.parse((await runWith(next, 'keys', 'list', '--json')).stdout)

async function keySet(fetch = globalThis.fetch): Promise<JSONWebKeySet> {
  return (await (await fetch(`${keylessNode.issuer}/jwks`)).json()) as JSONWebKeySet
}

test.serial(
  'keys that no secret opens are replaced, and what follows is what is said',
  async (t) => {
    const key = await newKey()
    const person = createPerson(keylessNode, {
      fetch: (input, init) => fetchNode(input, init),
    })
    const client = await keylessNode.addClient({
      application_type: 'web',
      redirect_uris: ['https://app.example/callback'],
      token_endpoint_auth_method: 'client_secret_basic',
    })
    const issued = []
    for (const scope of ['openid read', 'openid offline_access read']) {
      const asked = { redirect_uri: 'https://app.example/callback', scope, prompt: 'consent' }
      const { exchange } = await obtainCode(person, client, { ...asked, resource: api })
      const answer = await post(
        keylessNode,
        '/token',
        { ...exchange, resource: api },
        sender(client),
      )
      t.is(answer.status, 200, JSON.stringify(answer.body))
      issued.push(answer.body)
    }
    const verify = async (token: string, set: JSONWebKeySet) =>
      jwtVerify(token, createLocalJWKSet(set), { issuer: keylessNode.issuer })
    for (const { access_token, id_token } of issued) {
      await verify(access_token, await keySet())
      await verify(id_token, await keySet())
    }
    t.is(await signedIn(), true)
    await keylessNode.close()

    // Nothing is done by a command that was not meant.
    const asked = await runWith(next, 'keys', 'reset')
    t.is(asked.code, 2)
    t.is(asked.stdout, '')
    t.regex(
      asked.stderr,
      /^holdfast: .* are rejected, and all users must sign in again.* keys reset --yes\.\n$/,
    )
    t.regex((await runWith(next, 'keys', 'list')).stderr, /under another secret/)

    const reset = await runWith(next, 'keys', 'reset', '--yes')
    t.is(reset.stderr, '')
    t.is(reset.code, 0)
    t.regex(reset.stdout, /^All keys are new\. .*\n\n {2}ES256 +\S+\n/)
    t.regex((await runWith(lost, 'keys', 'list')).stderr, /under another secret/)
    const keys = await keysOf()
    t.is(keys.filter(({ state }) => state === 'retired').length, keyPurposes.length)
    const signing = keys.filter(({ state }) => state === 'signing')
    t.is(signing.length, keyPurposes.length)
    t.true(signing.every(({ readable }) => readable))
    const { stdout } = await runWith(next, 'audit', '--json')
    const told = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
      .filter(({ event, actor }) => event.startsWith('key.') && actor.startsWith('command line of'))
    for (const event of ['key.made', 'key.retired']) {
      t.is(told.filter((row) => row.event === event).length, keyPurposes.length)
    }

    await using node: Node = await startSecondNode(keylessNode, next)
    fetchNode = node.fetch
    const set = await keySet(node.fetch)
    for (const { access_token, id_token, refresh_token } of issued) {
      await t.throwsAsync(verify(access_token, set), { code: 'ERR_JWKS_NO_MATCHING_KEY' })
      await t.throwsAsync(verify(id_token, set), { code: 'ERR_JWKS_NO_MATCHING_KEY' })
      const refreshed = await post(
        keylessNode,
        '/token',
        { ...refreshing(client, refresh_token), resource: api },
        sender(client),
      )
      t.is(refreshed.status, 200)
      await verify(refreshed.body.access_token, set)
    }
    t.is(await signedIn(), false)

    async function signedIn() {
      const arrived = await person.authorize({
        client_id: client.client_id,
        response_type: 'code',
        redirect_uri: 'https://app.example/callback',
        scope: 'openid',
        prompt: 'none',
        code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
        code_challenge_method: 'S256',
      })
      return arrived.searchParams.has('code')
    }

    function sender(client: ClientMetadata) {
      return { key, headers: basic(client), fetch: fetchNode }
    }
  },
)

test.serial('keys that can be opened are reset as well, and two resets come to one', async (t) => {
  const both = await Promise.all([
    runWith(next, 'keys', 'reset', '--yes', '--json'),
    runWith(next, 'keys', 'reset', '--yes', '--json'),
  ])
  for (const { code, stderr, stdout } of both) {
    t.is(stderr, '')
    t.is(code, 0)
    t.is(JSON.parse(stdout).length, keyPurposes.length)
  }
  const signing = (await keysOf()).filter(({ state }) => state !== 'retired')
  t.is(signing.length, keyPurposes.length)
  t.true(signing.every(({ readable }) => readable))
})

async function makeKey() {
  const { privateKey } = await generateKeyPair('ES256', { extractable: true })
  const jwk = await exportJWK(privateKey)
  return { ...jwk, alg: 'ES256', use: 'sig', kid: await calculateJwkThumbprint(jwk) }
}

test('signatures verify, whatever zeros their halves begin with', async (t) => {
  const jwk = await makeKey()
  const key = new LocalSigningKey(jwk)
  const { d: _, ...publicJwk } = jwk
  const verifier = await importJWK(publicJwk, 'ES256')
  const header = Buffer.from('{"alg":"ES256"}').toString('base64url')
  let zeros = 0
  // One in 128 has a half that is shorter than 32 bytes.
  for (let payload = 0; payload < 1000 || zeros === 0; payload += 1) {
    const input = `${header}.${Buffer.from(String(payload)).toString('base64url')}`
    const signature = await key.sign(Buffer.from(input))
    t.is(signature.length, 64)
    if (signature[0] === 0 || signature[32] === 0) zeros += 1
    await compactVerify(`${input}.${signature.toString('base64url')}`, verifier)
  }
})

test('it shows its public half only', async (t) => {
  const jwk = await makeKey()
  const key = new LocalSigningKey(jwk)
  t.like(key, { kid: jwk.kid, alg: 'ES256', use: 'sig', kty: 'EC', x: jwk.x, y: jwk.y })
  t.is(key.keyObject().type, 'public')
  t.false(JSON.stringify(key.keyObject().export({ format: 'jwk' })).includes('"d"'))
})

for (const alg of signingAlgorithms) {
  test(`signs ${alg} so that another library verifies it`, async (t) => {
    const key = new LocalSigningKey((await makeKeyFor(alg)) as JWK)
    const input = [{ alg }, { sub: 'ada' }]
      .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
      .join('.')
    const signature = (await key.sign(Buffer.from(input))).toString('base64url')
    const verifier = await importJWK(key.publicJwk as never, alg)
    await t.notThrowsAsync(compactVerify(`${input}.${signature}`, verifier))
    await t.throwsAsync(compactVerify(`${input}A.${signature}`, verifier))
    for (const member of ['d', 'p', 'q', 'dp', 'dq', 'qi', 'k']) t.false(member in key.publicJwk)
  })
}

test('another algorithm is a mistake of the caller', async (t) => {
  const key = new LocalSigningKey({ ...(await makeKey()), alg: 'ES384' })
  t.throws(() => key.sign(Buffer.from('x')), { instanceOf: TypeError })
})
