// What a client may make this server fetch: anybody with a registration token chooses a jwks_uri.
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import test from 'ava'
import { exportJWK, SignJWT } from 'jose'
import { newKey, post } from '../support/flow.ts'
import { api, useTestServer } from '../support/server.ts'

const server = useTestServer(test)

/** Authenticates as a client whose keys are at an address. */
async function authenticate(jwks_uri: string) {
  const client_id = `keys at ${jwks_uri}`
  // By the side of every check of registration.
  await server.storage.clients.insert({
    client_id,
    jwks_uri,
    token_endpoint_auth_method: 'private_key_jwt',
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
  })
  const key = await newKey()
  const assertion = await new SignJWT({ jti: 'one' })
    .setProtectedHeader({ alg: 'ES256' })
    .setIssuer(client_id)
    .setSubject(client_id)
    .setAudience(server.issuer)
    .setIssuedAt()
    .setExpirationTime('1m')
    .sign(key.privateKey)
  const answer = await post(
    server,
    '/token',
    {
      grant_type: 'client_credentials',
      resource: api,
      client_id,
      client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
      client_assertion: assertion,
    },
    { key },
  )
  return { ...answer, jwk: await exportJWK(key.publicKey) }
}

/** A server of the inner network that counts whoever asks it for something. */
async function innerServer() {
  const asked: string[] = []
  const inner = createServer((request, response) => {
    asked.push(request.url ?? '')
    response.end('{"keys":[]}')
  })
  inner.listen(0, '127.0.0.1')
  await once(inner, 'listening')
  const { port } = inner.address() as AddressInfo
  return { asked, port, [Symbol.dispose]: () => inner.close() }
}

for (const host of ['127.0.0.1', 'localhost', '[::ffff:127.0.0.1]', '2130706433']) {
  test.serial(`asks ${host} for no keys`, async (t) => {
    using inner = await innerServer()
    const { status } = await authenticate(`http://${host}:${inner.port}/keys`)
    t.true(status >= 400)
    t.deepEqual(inner.asked, [])
  })
}

test.serial('follows no redirect', async (t) => {
  const { fetch } = globalThis
  const seen: RequestInit[] = []
  globalThis.fetch = async (url, init) => {
    if (!String(url).startsWith('https://keys.example/')) return fetch(url, init)
    seen.push(init ?? {})
    return Response.json({ keys: [] })
  }
  t.teardown(() => Object.assign(globalThis, { fetch }))
  const { status } = await authenticate('https://keys.example/1')
  t.true(status >= 400)
  t.deepEqual(
    seen.map(({ redirect }) => redirect),
    ['error'],
  )
})
