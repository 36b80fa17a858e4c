import test from 'ava'
import { calculateJwkThumbprint, compactVerify, exportJWK, generateKeyPair, importJWK } from 'jose'
import { LocalSigningKey, signingKeys } from '../../src/provider/local-signing-key.ts'

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
    const signature = key.sign(Buffer.from(input))
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

test('keys of other algorithms stay as they are', async (t) => {
  const jwk = await makeKey()
  const rsa = { kty: 'RSA', alg: 'RS256' }
  const [first, second] = signingKeys([jwk, rsa])
  t.true(first instanceof LocalSigningKey)
  t.is(second, rsa)
})
