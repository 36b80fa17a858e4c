import test from 'ava'
import { calculateJwkThumbprint, compactVerify, exportJWK, generateKeyPair, importJWK } from 'jose'
import type { JWK } from 'oidc-provider'
import { signingAlgorithms } from '../../src/config/signing-algorithms.ts'
import { LocalSigningKey } from '../../src/engine/local-signing-key.ts'
import { makeKey as makeKeyFor } from '../../src/keys/key-purpose.ts'

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
