import { hash } from 'node:crypto'
import test from 'ava'
import { calculateJwkThumbprint, exportJWK } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import { type KeyPair, makeProof } from '../../src/doctor/proof.ts'
import { selfSigned, type TestCertificate } from '../support/certificates.ts'
import { createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { useMtlsServer } from '../support/mtls.ts'

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
async function signIn(certificate: TestCertificate, who = client, at = mtls) {
  const { redirect_uris: [redirect_uri = ''] = [] } = who
  const { exchange } = await obtainCode(createPerson(at.server), who, { redirect_uri })
  const { body } = await post(at.server, '/token', exchange, by(certificate, at))
  const refresh = (token: string, presented: TestCertificate, parameters = {}) =>
    post(at.server, '/token', { ...refreshing(who, token), ...parameters }, by(presented, at))
  return { token: body.refresh_token as string, refresh }
}

test('a certificate names the next, and both are good until the next is used', async (t) => {
  const [old, next] = [await selfSigned(), await selfSigned()]
  const { token, refresh } = await signIn(old)
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
  const { token, refresh } = await signIn(old)
  const { body } = await refresh(token, old, { successor: next.thumbprint })
  t.is((await refresh(body.refresh_token, thief)).body.error, 'invalid_grant')
  t.is((await refresh(body.refresh_token, next)).status, 200)
})

test('a thief cannot name itself', async (t) => {
  const [owner, thief] = [await selfSigned(), await selfSigned()]
  const { token, refresh } = await signIn(owner)
  const attempt = await refresh(token, thief, { successor: thief.thumbprint })
  t.is(attempt.body.error, 'invalid_grant')
  t.is((await refresh(token, thief)).body.error, 'invalid_grant')
  t.is((await refresh(token, owner)).status, 200)
})

test('a successor that is no thumbprint is refused and consumes nothing', async (t) => {
  const owner = await selfSigned()
  const { token, refresh } = await signIn(owner)
  t.is((await refresh(token, owner, { successor: 'x' })).body.error, 'invalid_request')
  t.is((await refresh(token, owner)).status, 200)
})

test('both changes are in the log and in the audit trail, and are counted', async (t) => {
  const [old, next] = [await selfSigned(), await selfSigned()]
  const { token, refresh } = await signIn(old)
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
  const { token, refresh } = await signIn(old)
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
  const { token, refresh } = await signIn(old, await mtls.server.addClient(pki))
  const renewed = await refresh(token, next)
  t.is(renewed.status, 200)
  const thief = await mtls.root.issue({ subject: 'CN=thief' })
  t.is((await refresh(renewed.body.refresh_token, thief)).body.error, 'invalid_client')
})

test('where the operator has not allowed it, no key takes over', async (t) => {
  const issue = () => strict.root.issue({ subject: 'CN=app' })
  const [old, next] = [await issue(), await issue()]
  const confidential = await strict.server.addClient(pki)
  const { token, refresh } = await signIn(old, confidential, strict)
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
