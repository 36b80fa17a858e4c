import { hash } from 'node:crypto'
import test from 'ava'
import { exportJWK, SignJWT } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import type { KeyPair } from '../../src/doctor/proof.ts'
import { createPerson, newKey, obtainCode, post } from '../support/flow.ts'
import { useTestServer } from '../support/server.ts'
import {
  behindProxy,
  browserFetch,
  forwarded,
  newId,
  newRsaId,
  unknownKind,
} from '../support/token-binding.ts'

const server = useTestServer(test, behindProxy)
const redirect_uri = 'http://127.0.0.1/callback'
let client: ClientMetadata
let signer: KeyPair

/** The client's key for the server, and the browser's keys for the server and for the client. */
const provided = newId()
const browser = newId()
const referred = newId()

const nativeChallenge = { code_challenge: provided.tbh, code_challenge_method: 'TB-S256' }
const webChallenge = { code_challenge: 'referred_tb', code_challenge_method: 'referred_tb' }

test.before(async () => {
  signer = await newKey()
  const key = { ...(await exportJWK(signer.publicKey)), kid: 'signer' }
  client = await server.addClient({ binding_method: 'token-binding', jwks: { keys: [key] } })
})

type Parameters = Record<string, string>

/** The same authorization request in each of the ways that it can be made. */
const ways: Record<string, (parameters: Parameters) => Promise<Parameters>> = {
  query: async (parameters) => parameters,
  'pushed request': async (parameters) => push(parameters),
  'request object': async (parameters) => ({
    ...openly(parameters),
    request: await sign(parameters),
  }),
  'pushed request object': async (parameters) => push({ request: await sign(parameters) }),
}

const request = (challenge: Parameters): Parameters => ({
  client_id: client.client_id,
  response_type: 'code',
  redirect_uri,
  scope: 'openid',
  ...challenge,
})

const openly = ({ client_id = '', response_type = '', scope = '' }: Parameters) => ({
  client_id,
  response_type,
  scope,
  redirect_uri,
})

async function sign(parameters: Parameters): Promise<string> {
  return new SignJWT(parameters)
    .setProtectedHeader({ alg: 'ES256', kid: 'signer', typ: 'oauth-authz-req+jwt' })
    .setIssuer(client.client_id)
    .setAudience(server.issuer)
    .setExpirationTime('1m')
    .sign(signer.privateKey)
}

async function push(parameters: Parameters, headers: Parameters = {}): Promise<Parameters> {
  const form = { client_id: client.client_id, ...parameters }
  const { body } = await post(server, '/par', form, { headers })
  if (!body.request_uri) throw Object.assign(new Error('not pushed'), body)
  return { client_id: client.client_id, redirect_uri, request_uri: body.request_uri }
}

const authorize = (parameters: Parameters, fetch = browserFetch(browser, referred)) =>
  createPerson(server, { fetch }).authorize(parameters)

const redeem = (code: string | null, code_verifier: string, proven = forwarded(provided)) =>
  post(
    server,
    '/token',
    {
      grant_type: 'authorization_code',
      client_id: client.client_id,
      code: code ?? '',
      redirect_uri,
      ...(code_verifier && { code_verifier }),
    },
    { headers: proven },
  )

for (const [way, make] of Object.entries(ways)) {
  test(`TB-S256 by ${way}: the code is good for the key of the challenge`, async (t) => {
    const arrived = await authorize(await make(request(nativeChallenge)))
    const code = arrived.searchParams.get('code')
    const refused = await redeem(code, 'provided_tb', forwarded(newId()))
    t.is(refused.body.error, 'invalid_grant')
    t.is((await redeem(code, 'provided_tb')).status, 200)
  })

  test(`referred_tb by ${way}: the code is good for the browser's own ID`, async (t) => {
    const arrived = await authorize(await make(request(webChallenge)))
    const code = arrived.searchParams.get('code')
    t.is((await redeem(code, newId().id)).body.error, 'invalid_grant')
    t.is((await redeem(code, referred.id)).status, 200)
  })

  test(`referred_tb by ${way} is refused without a referred ID`, async (t) => {
    const arrived = await authorize(await make(request(webChallenge)), browserFetch(browser))
    t.is(arrived.searchParams.get('error'), 'invalid_request')
  })
}

test('the RSA ID of a browser is longer than any verifier of RFC 7636', async (t) => {
  const rsa = newRsaId()
  t.is(rsa.id.length, 354)
  const arrived = await authorize(request(webChallenge), browserFetch(browser, rsa))
  t.is((await redeem(arrived.searchParams.get('code'), rsa.id)).status, 200)
})

test('a person who is signed in already gets a bound code without an interaction', async (t) => {
  const web = { application_type: 'web', redirect_uris: ['https://app.example/cb'] } as const
  const site = await server.addClient({ ...web, binding_method: 'token-binding' })
  const parameters = {
    ...request(webChallenge),
    client_id: site.client_id,
    redirect_uri: web.redirect_uris[0],
  }
  const person = createPerson(server, { fetch: browserFetch(browser, referred) })
  await person.authorize(parameters)
  const url = `${server.issuer}/authorize?${new URLSearchParams(parameters)}`
  const { url: arrived } = await person.browser.visit(url, { until: parameters.redirect_uri })
  t.truthy(arrived.searchParams.get('code'))
  const silent = createPerson(server, { fetch: browserFetch(browser) })
  const refused = await silent.authorize({ ...parameters, prompt: 'none' })
  t.truthy(refused.searchParams.get('error'))
})

// Redeeming

for (const [name, verifier] of [
  ['nothing', ''],
  ['the hash of the ID', () => referred.tbh],
  ['the literal of the other method', 'provided_tb'],
  ['the literal of the challenge', 'referred_tb'],
  ["the browser's ID for the server", () => browser.id],
  ['the ID with padding', () => `${referred.id}=`],
] as const) {
  test(`referred_tb refuses ${name} as verifier, and the code stays good`, async (t) => {
    const code = (await authorize(request(webChallenge))).searchParams.get('code')
    const refused = await redeem(code, typeof verifier === 'string' ? verifier : verifier())
    t.is(refused.body.error, 'invalid_grant')
    t.is((await redeem(code, referred.id)).status, 200)
  })
}

for (const [name, verifier] of [
  ['nothing', ''],
  ['the ID itself', provided.id],
  ['the challenge', provided.tbh],
  ['the literal in other letters', 'Provided_tb'],
] as const) {
  test(`TB-S256 refuses ${name} as verifier, and the code stays good`, async (t) => {
    const code = (await authorize(request(nativeChallenge))).searchParams.get('code')
    t.is((await redeem(code, verifier)).body.error, 'invalid_grant')
    t.is((await redeem(code, 'provided_tb')).status, 200)
  })
}

test('TB-S256 refuses a token request whose referred ID has the key', async (t) => {
  const code = (await authorize(request(nativeChallenge))).searchParams.get('code')
  const refused = await redeem(code, 'provided_tb', forwarded(newId(), provided))
  t.is(refused.body.error, 'invalid_grant')
})

test('TB-S256 refuses a token request without Token Binding, whatever the client', async (t) => {
  const dpop = await server.addClient()
  const key = await newKey()
  const { exchange } = await obtainCode(createPerson(server), dpop, nativeChallenge)
  const form = { ...exchange, code_verifier: 'provided_tb' }
  t.is((await post(server, '/token', form, { key })).body.error, 'invalid_grant')
  const headers = forwarded(provided)
  t.is((await post(server, '/token', form, { key, headers })).status, 200)
})

test('TB-S256 hashes the bytes of the ID, and S256 the letters of the verifier', async (t) => {
  const ofLetters = hash('sha256', 'provided_tb', 'base64url')
  const challenge = { code_challenge: ofLetters, code_challenge_method: 'TB-S256' }
  const code = (await authorize(request(challenge))).searchParams.get('code')
  t.is((await redeem(code, 'provided_tb')).body.error, 'invalid_grant')
  const s256 = { code_challenge: provided.tbh, code_challenge_method: 'S256' }
  const other = (await authorize(request(s256))).searchParams.get('code')
  t.is((await redeem(other, 'provided_tb')).status, 400)
  t.is((await redeem(other, provided.id)).body.error, 'invalid_grant')
})

// Asking

const malformed: [string, Parameters][] = [
  ['referred_tb without a method, which is plain', { code_challenge: 'referred_tb' }],
  ['TB-S256 without a method, which is plain', { code_challenge: provided.tbh }],
  ['referred_tb as plain', { code_challenge: 'referred_tb', code_challenge_method: 'plain' }],
  ['referred_tb as S256', { code_challenge: 'referred_tb', code_challenge_method: 'S256' }],
  ['referred_tb as TB-S256', { code_challenge: 'referred_tb', code_challenge_method: 'TB-S256' }],
  ['provided_tb as TB-S256', { code_challenge: 'provided_tb', code_challenge_method: 'TB-S256' }],
  ['a hash as referred_tb', { ...webChallenge, code_challenge: provided.tbh }],
  ['a method without a challenge', { code_challenge_method: 'referred_tb' }],
  ['a method in other letters', { ...nativeChallenge, code_challenge_method: 'tb-s256' }],
  ['a hash that is too short', { ...nativeChallenge, code_challenge: provided.tbh.slice(1) }],
  ['a hash that is too long', { ...nativeChallenge, code_challenge: `${provided.tbh}A` }],
  ['a hash with spare bits', { ...nativeChallenge, code_challenge: `${'A'.repeat(42)}B` }],
]

for (const [way, make] of Object.entries(ways)) {
  for (const [name, challenge] of malformed) {
    test(`${name} is refused by ${way}`, async (t) => {
      const error = await make(request(challenge))
        .then(authorize)
        .then(({ searchParams }) => searchParams.get('error'))
        .catch((pushed) => pushed.error)
      t.is(error, 'invalid_request')
    })
  }
}

test('a request object is what counts, not the query beside it', async (t) => {
  const request_ = await sign(request(nativeChallenge))
  const beside = { ...request(webChallenge), request: request_ }
  const code = (await authorize(beside)).searchParams.get('code')
  t.is((await redeem(code, referred.id)).body.error, 'invalid_grant')
  t.is((await redeem(code, 'provided_tb')).status, 200)
})

test('a request object that is not signed is refused', async (t) => {
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const unsigned = `${encode({ alg: 'none' })}.${encode(request(webChallenge))}.`
  const arrived = await authorize({ ...openly(request({})), request: unsigned })
  t.is(arrived.searchParams.get('error'), 'invalid_request_object')
})

test('nothing is bound to a referred key of an unknown kind', async (t) => {
  const arrived = await authorize(request(webChallenge), browserFetch(browser, unknownKind))
  t.is(arrived.searchParams.get('error'), 'invalid_request')
})

test("the referred ID of a pushed request is the client's, and not the browser's", async (t) => {
  const pushed = await push(request(webChallenge), forwarded(provided, referred))
  const arrived = await authorize(pushed, browserFetch(browser))
  t.is(arrived.searchParams.get('error'), 'invalid_request')
})

test('the way back from login cannot bring another referred ID', async (t) => {
  const thief = newId()
  const fetchFirst = browserFetch(browser, referred)
  const alwaysThief: typeof fetch = (url, init) =>
    new URL(String(url)).pathname === '/authorize'
      ? fetchFirst(url, init)
      : fetch(url, {
          ...init,
          headers: { ...(init?.headers as Parameters), ...forwarded(browser, thief) },
        })
  const code = (await authorize(request(webChallenge), alwaysThief)).searchParams.get('code')
  t.is((await redeem(code, thief.id)).body.error, 'invalid_grant')
  t.is((await redeem(code, referred.id)).status, 200)
})

test.after('nothing of this was an error of the server', (t) => {
  t.deepEqual(
    server.logged.filter((line) => line.includes('server_error')),
    [],
  )
})
