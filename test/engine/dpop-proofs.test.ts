import { generateKeyPairSync, hash, KeyObject, randomUUID, sign } from 'node:crypto'
import test from 'ava'
import { exportJWK, type JWTHeaderParameters, SignJWT } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import type { KeyPair } from '../../src/doctor/proof.ts'
import { basic, callback, newKey, post } from '../support/flow.ts'
import { useTestServer } from '../support/server.ts'

/*
 * The check of proofs at the token endpoint, which replaces that of the engine's grants: each of
 * its refusals is one of ours.
 */

const server = useTestServer(test)
let client: ClientMetadata
let key: KeyPair

test.before(async () => {
  key = await newKey()
  client = await server.addClient({
    redirect_uris: [],
    response_types: [],
    grant_types: ['client_credentials'],
    application_type: 'web',
    token_endpoint_auth_method: 'client_secret_basic',
  })
})

const now = () => Math.floor(Date.now() / 1000)

async function ask(
  { claims = {}, header = {} }: { claims?: object; header?: object } = {},
  change = (proof: string) => proof,
) {
  const { alg, ...rest } = { alg: 'ES256', typ: 'dpop+jwt', ...header }
  const jwk = await exportJWK(key.publicKey)
  const payload = { htm: 'POST', htu: `${server.issuer}/token`, jti: randomUUID(), iat: now() }
  const proof = await new SignJWT({ ...payload, ...claims })
    .setProtectedHeader({ alg, jwk, ...rest } as JWTHeaderParameters)
    .sign(key.privateKey)
  return post(
    server,
    '/token',
    { grant_type: 'client_credentials' },
    { proof: change(proof), headers: basic(client) },
  )
}

test('a proof by RFC 9449 gets a bound token, and the next nonce', async (t) => {
  const { status, body, headers } = await ask()
  t.is(status, 200)
  t.is(body.token_type, 'DPoP')
  const nonce = headers.get('dpop-nonce')
  t.truthy(nonce)
  t.is((await ask({ claims: { nonce } })).status, 200)
})

/** A proof whose header is given as text, signed by the key that is in it. */
function proofOf(header: string, path: string): string {
  const encode = (text: string) => Buffer.from(text).toString('base64url')
  const ath = hash('sha256', 'token', 'base64url')
  const claims = { htm: 'POST', htu: server.issuer + path, jti: randomUUID(), iat: now(), ath }
  const input = `${encode(header)}.${encode(JSON.stringify(claims))}`
  const signature = sign('sha256', Buffer.from(input), {
    key: KeyObject.from(key.privateKey),
    dsaEncoding: 'ieee-p1363',
  })
  return `${input}.${signature.toString('base64url')}`
}

for (const path of ['/token', '/par', '/userinfo']) {
  test(`refuses a proof that names a member twice, or nests 40 arrays, at ${path}`, async (t) => {
    const { client_id = '' } = await server.addClient()
    const asked = {
      client_id,
      response_type: 'code',
      redirect_uri: callback,
      code_challenge: 'x'.repeat(43),
      code_challenge_method: 'S256',
    }
    const use = async (header: string) => {
      const parameters = path === '/par' ? asked : { grant_type: 'client_credentials' }
      const headers = {
        '/token': basic(client),
        '/par': {},
        '/userinfo': { authorization: 'DPoP token' },
      }[path] as Record<string, string>
      return post(server, path, parameters, { proof: proofOf(header, path), headers })
    }
    const jwk = JSON.stringify(await exportJWK(key.publicKey))
    const members = `"alg":"ES256","typ":"dpop+jwt","jwk":${jwk}`
    t.not((await use(`{${members}}`)).body.error, 'invalid_dpop_proof')
    for (const more of ['"alg":"none"', `"x":${'['.repeat(40)}${']'.repeat(40)}`]) {
      t.is((await use(`{${more},${members}}`)).body.error, 'invalid_dpop_proof', more)
    }
  })
}

const wrong = {
  'another method': { claims: { htm: 'GET' } },
  'another path': { claims: { htu: 'https://id.example/token' } },
  'no URL': { claims: { htu: undefined } },
  'no jti': { claims: { jti: undefined } },
  'an iat that is no number': { claims: { iat: String(now()) } },
  'a nonce that is no string': { claims: { nonce: 7 } },
  'another type': { header: { typ: 'JWT' } },
  'no key': { header: { jwk: undefined } },
  'a key that cannot be imported': {
    header: { jwk: { kty: 'EC', crv: 'P-256', x: 'AA', y: 'AA' } },
  },
  'another key': {
    header: {
      jwk: generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' }),
    },
  },
  'a private key in it': {
    header: {
      jwk: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' }),
    },
  },
}
for (const [what, change] of Object.entries(wrong)) {
  test(`a proof with ${what} is refused`, async (t) => {
    const { status, body } = await ask(change)
    t.is(status, 400)
    t.is(body.error, 'invalid_dpop_proof')
  })
}

test('a proof that is no JWT is refused', async (t) => {
  const { status, body } = await ask({}, () => 'no.proof')
  t.is(status, 400)
  t.is(body.error, 'invalid_dpop_proof')
})

test('a proof with a broken signature is refused', async (t) => {
  const broken = (proof: string) =>
    proof.replace(/\.([^.]+)$/, (_, last: string) => `.${last.split('').toReversed().join('')}`)
  const { status, body } = await ask({}, broken)
  t.is(status, 400)
  t.is(body.error, 'invalid_dpop_proof')
})

for (const [when, seconds] of [
  ['past', -400],
  ['future', 400],
] as const) {
  test(`a clock that is far in the ${when} needs a nonce, and gets along with it`, async (t) => {
    const iat = now() + seconds
    const { status, body, headers } = await ask({ claims: { iat } })
    t.is(status, 400)
    t.is(body.error, 'use_dpop_nonce')
    const again = await ask({ claims: { iat, nonce: headers.get('dpop-nonce') } })
    t.is(again.status, 200)
  })
}

for (const [what, claims] of [
  ['an iat that no date can be', { iat: 1e300 }],
  ['an iat before all dates', { iat: -1e300 }],
  ['U+0000 and half a character in its jti', { jti: `\0\ud800${randomUUID()}` }],
] as const) {
  test(`answers a proof with ${what} without failing`, async (t) => {
    const { headers } = await ask({ claims: { nonce: 'made-up' } })
    const nonce = headers.get('dpop-nonce')
    const { status, body } = await ask({ claims: { ...claims, nonce } })
    t.true(status === 200 || body.error === 'invalid_dpop_proof', `${status} ${body.error}`)
  })
}

for (const nonce of ['', 'made-up']) {
  test(`the nonce "${nonce}" is refused, and a good one given`, async (t) => {
    const { status, body, headers } = await ask({ claims: { nonce } })
    t.is(status, 400)
    t.is(body.error, 'use_dpop_nonce')
    t.is((await ask({ claims: { nonce: headers.get('dpop-nonce') } })).status, 200)
  })
}

test('a proof by an algorithm that the metadata does not name is refused', async (t) => {
  const es384 = generateKeyPairSync('ec', { namedCurve: 'P-384' })
  const proof = await new SignJWT({ htm: 'POST', htu: `${server.issuer}/token`, jti: randomUUID() })
    .setProtectedHeader({
      typ: 'dpop+jwt',
      alg: 'ES384',
      jwk: es384.publicKey.export({ format: 'jwk' }),
    })
    .setIssuedAt()
    .sign(es384.privateKey)
  const request = { grant_type: 'client_credentials' }
  const { body } = await post(server, '/token', request, { proof, headers: basic(client) })
  t.is(body.error, 'invalid_dpop_proof')
})
