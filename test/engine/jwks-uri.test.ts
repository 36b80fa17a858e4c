// What a client may make this server fetch: anybody with a registration token chooses a jwks_uri.
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import { SignJWT } from 'jose'
import { createGuardedFetch } from '../../src/net/guarded-fetch.ts'
import { newKey, post } from '../support/flow.ts'
import { api, useTestServer } from '../support/server.ts'

const resolved: string[] = []
const guardedFetch = createGuardedFetch({
  resolve: async (name) => {
    resolved.push(name)
    return name === 'failing.example' ? [] : ['127.0.0.1']
  },
})
const server = useTestServer(test, {}, undefined, undefined, guardedFetch)

/** Authenticates as a client whose keys are at an address. */
async function authenticate(jwks_uri: string, client_id = `keys at ${jwks_uri}`) {
  // By the side of every check of registration.
  await server.storage.clients.remove(client_id)
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
  return post(
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
}

/** A server of the inner network that counts whoever connects to it. */
async function innerServer() {
  const connected: string[] = []
  const inner = createServer((socket) => {
    connected.push(String(socket.remoteAddress))
    socket.destroy()
  })
  inner.listen(0, '::')
  await once(inner, 'listening')
  const { port } = inner.address() as AddressInfo
  return { connected, port, [Symbol.dispose]: () => inner.close() }
}

async function asksNothing(t: ExecutionContext, host: string) {
  for (const scheme of ['https', 'http']) {
    using inner = await innerServer()
    const { status } = await authenticate(`${scheme}://${host}:${inner.port}/keys`)
    t.is(status, 401)
    t.deepEqual(inner.connected, [])
  }
}

test.serial('never connects to a host name that resolves to a private address', async (t) => {
  await asksNothing(t, 'keys.evil.example')
  await asksNothing(t, 'localhost')
  t.true(resolved.includes('keys.evil.example'))
})

test.serial('never connects to a private address, however it is written', async (t) => {
  const hosts = ['127.0.0.1', '[::1]', '[::ffff:127.0.0.1]', '0.0.0.0', '2130706433', '0x7f000001']
  for (const host of hosts) await asksNothing(t, host)
})

test.serial('asks for the keys of one client ten times a minute', async (t) => {
  const answers = []
  for (const path of Array.from({ length: 12 }, (_, at) => `/${at}`)) {
    answers.push(await authenticate(`https://failing.example${path}`, 'one'))
  }
  t.deepEqual(
    answers.map(({ status }) => status),
    Array(12).fill(401),
  )
  t.is(resolved.filter((name) => name === 'failing.example').length, 10)
})
