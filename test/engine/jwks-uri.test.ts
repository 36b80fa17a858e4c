// What a client may make this server fetch: anybody with a registration token chooses a jwks_uri.
import { generateKeyPairSync, hash } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import { exportJWK, type JWTPayload, SignJWT } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import { createGuardedFetch } from '../../src/net/guarded-fetch.ts'
import { newKey, post } from '../support/flow.ts'
import { api, useTestServer } from '../support/server.ts'

const resolved: string[] = []
const fetchFromInside = createGuardedFetch({
  resolve: async (name) => {
    resolved.push(name)
    return name === 'failing.example' ? [] : ['127.0.0.1']
  },
})
const keySets = new Map<string, string>()
const guardedFetch: typeof fetchFromInside = async (url, options) => {
  const body = keySets.get(String(url))
  if (body === undefined) return fetchFromInside(url, options)
  return { status: 200, headers: new Map(), body: new Uint8Array(Buffer.from(body)) }
}
const server = useTestServer(test, {}, { guardedFetch })

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

/** A signature by RSA with exponent 1, which is the padded digest: anybody can make it. */
function signByNobody(claims: object, kid = 'weak'): string {
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const input = `${encode({ alg: 'RS256', kid })}.${encode(claims)}`
  const digest = Buffer.concat([
    Buffer.from('3031300d060960864801650304020105000420', 'hex'),
    hash('sha256', input, 'buffer'),
  ])
  const padding = Buffer.alloc(256 - 3 - digest.length, 0xff)
  const padded = Buffer.concat([Buffer.of(0, 1), padding, Buffer.of(0), digest])
  return `${input}.${padded.toString('base64url')}`
}

test.serial('refuses keys with which anybody can sign, wherever a client uses them', async (t) => {
  const { n } = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({
    format: 'jwk',
  })
  const weak = { kty: 'RSA', n, e: 'AQ', kid: 'weak', alg: 'RS256' }
  const { publicKey, privateKey } = await newKey()
  const strong = { ...(await exportJWK(publicKey)), kid: 'strong' }
  const keys = [weak, strong]
  keySets.set('https://keys.example/set', JSON.stringify({ keys }))
  const redirect_uri = 'https://app.example/callback'
  for (const source of [{ jwks_uri: 'https://keys.example/set' }, { jwks: { keys } }]) {
    const client_id = `weak keys by ${Object.keys(source)}`
    await server.storage.clients.insert({
      client_id,
      ...source,
      token_endpoint_auth_method: 'private_key_jwt',
      grant_types: ['authorization_code', 'client_credentials'],
      response_types: ['code'],
      redirect_uris: [redirect_uri],
    } as ClientMetadata)
    const claimsOf = (jti: string) => ({
      jti,
      iss: client_id,
      sub: client_id,
      aud: server.issuer,
      exp: Math.floor(Date.now() / 1000) + 60,
    })
    const bySomebody = (claims: JWTPayload) =>
      new SignJWT(claims).setProtectedHeader({ alg: 'ES256', kid: 'strong' }).sign(privateKey)
    const authorization = {
      response_type: 'code',
      redirect_uri,
      scope: 'openid',
      code_challenge: 'x'.repeat(43),
      code_challenge_method: 'S256',
    }
    const push = async (client_assertion: string) => {
      const client_assertion_type = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'
      const asked = { ...authorization, client_id, client_assertion, client_assertion_type }
      return (await post(server, '/par', asked)).status
    }
    const authorize = async (request: string) => {
      const query = new URLSearchParams({ client_id, request })
      const { status } = await fetch(`${server.issuer}/authorize?${query}`, { redirect: 'manual' })
      return status
    }
    const request = { ...claimsOf('three'), ...authorization, client_id }
    t.is(await push(await bySomebody(claimsOf('one'))), 201)
    t.is(await push(signByNobody(claimsOf('two'))), 401)
    t.is(await authorize(await bySomebody(request)), 303)
    t.is(await authorize(signByNobody(request)), 400)
  }
})

test.serial('takes no key set that names a member twice', async (t) => {
  keySets.set('https://keys.example/twice', '{"keys":[],"keys":[]}')
  const { status, body } = await authenticate('https://keys.example/twice')
  t.is(status, 401)
  t.is(body.error, 'invalid_client')
})
