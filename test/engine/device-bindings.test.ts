import test from 'ava'
import { decodeJwt } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import { selfSigned, type TestCertificate } from '../support/certificates.ts'
import {
  approve,
  askForCode,
  deviceEnvironment,
  redeem,
  television,
} from '../support/device-flow.ts'
import { createPerson, newKey, type PostOptions } from '../support/flow.ts'
import { useMtlsServer } from '../support/mtls.ts'
import { api, useTestServer } from '../support/server.ts'
import { behindProxy, forwarded, newId } from '../support/token-binding.ts'

const mtls = useMtlsServer(test, deviceEnvironment)
const bound = useTestServer(test, { ...deviceEnvironment, ...behindProxy })

const presenting = (certificate: TestCertificate): PostOptions => ({
  fetch: mtls.fetchWith(certificate),
  origin: mtls.mtlsOrigin,
})

async function askByCertificate() {
  const { server } = mtls
  const client = await server.addClient({ ...television, binding_method: 'mtls' })
  const own = presenting(await selfSigned())
  const { body } = await askForCode(server, client, own, { resource: api, scope: 'read' })
  await approve(server, createPerson(server), body.user_code)
  return { server, client, own, body }
}

test('a code of mutual TLS is redeemed by the certificate that asked for it', async (t) => {
  const { server, client, own, body } = await askByCertificate()
  const stolen = await redeem(server, client, body.device_code, presenting(await selfSigned()))
  t.is(stolen.body.error, 'invalid_grant')
  const answer = await redeem(server, client, body.device_code, own)
  t.is(answer.status, 200)
  t.truthy((decodeJwt(answer.body.access_token).cnf as Record<string, string>)['x5t#S256'])
})

test('the form is at the issuer, wherever the device has asked', async (t) => {
  const { server, body } = await askByCertificate()
  t.is(body.verification_uri, `${server.issuer}/device`)
  t.true(body.verification_uri_complete.startsWith(`${server.issuer}/device?user_code=`))
})

test('the metadata names where certificates are asked for', async (t) => {
  const response = await fetch(`${mtls.server.issuer}/.well-known/openid-configuration`)
  const { mtls_endpoint_aliases: aliases } = (await response.json()) as {
    mtls_endpoint_aliases: Record<string, string>
  }
  t.is(aliases.device_authorization_endpoint, `${mtls.mtlsOrigin}/device_authorization`)
})

test('without a certificate, or with one that has ended, there is no code', async (t) => {
  const { server } = mtls
  const client: ClientMetadata = await server.addClient({ ...television, binding_method: 'mtls' })
  const ended = await selfSigned({ notAfter: new Date(Date.now() - 1000) })
  for (const options of [{}, presenting(ended)]) {
    const { body } = await askForCode(server, client, options)
    t.is(body.error, 'invalid_request')
    t.regex(body.error_description, /client certificate/)
  }
})

test('a sign-in on the way to a device offers to bind the session', async (t) => {
  const { server } = mtls
  const client = await server.addClient(television)
  const key = await newKey()
  const offers: (string | null)[] = []
  const person = createPerson(server, {
    async fetch(...request) {
      const response = await fetch(...request)
      offers.push(response.headers.get('secure-session-registration'))
      return response
    },
  })
  const { body } = await askForCode(server, client, { key })
  await approve(server, person, body.user_code)
  t.true(offers.filter(Boolean).length > 0)
  t.is((await redeem(server, client, body.device_code, { key })).status, 200)
})

test('a code of Token Binding is redeemed by the key of the connection that asked', async (t) => {
  const client = await bound.addClient({ ...television, binding_method: 'token-binding' })
  const [own, referred] = [newId(), newId()]
  const connection = { headers: forwarded(own, referred) }
  const { body } = await askForCode(bound, client, connection)
  await approve(bound, createPerson(bound), body.user_code)
  for (const headers of [forwarded(newId(), referred), {}]) {
    const stolen = await redeem(bound, client, body.device_code, { headers })
    t.is(stolen.body.error, 'invalid_grant')
  }
  t.is((await redeem(bound, client, body.device_code, connection)).status, 200)
})

test('without a Token Binding there is no code', async (t) => {
  const client = await bound.addClient({ ...television, binding_method: 'token-binding' })
  const { body } = await askForCode(bound, client)
  t.is(body.error, 'invalid_request')
  t.regex(body.error_description, /Token Binding/)
})

test('a code stays bound when its client is registered for bearer tokens meanwhile', async (t) => {
  const client = await bound.addClient(television)
  const key = await newKey()
  const { body } = await askForCode(bound, client, { key })
  await approve(bound, createPerson(bound), body.user_code)
  await bound.storage.clients.remove(client.client_id)
  await bound.addClient({
    ...television,
    client_id: client.client_id,
    binding_method: 'bearer',
  })
  t.is((await askForCode(bound, client)).status, 200)
  for (const options of [{}, { key: await newKey() }]) {
    const { body: refused } = await redeem(bound, client, body.device_code, options)
    t.is(refused.error, 'invalid_grant')
  }
})

test('a code that is bound to nothing is worth nothing when its client has to be bound', async (t) => {
  const client = await bound.addClient({ ...television, binding_method: 'bearer' })
  const { body } = await askForCode(bound, client)
  await approve(bound, createPerson(bound), body.user_code)
  await bound.storage.clients.remove(client.client_id)
  await bound.addClient({ ...television, client_id: client.client_id })
  const { body: refused } = await redeem(bound, client, body.device_code, { key: await newKey() })
  t.is(refused.error, 'invalid_grant')
})

test('a client of bound ID tokens has no device flow', async (t) => {
  const asked = { ...television, id_token_token_binding_cnf: 'tbh' }
  await t.throwsAsync(bound.addClient(asked), { message: /not for the device flow/ })
})
