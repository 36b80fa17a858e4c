/** A program that has nothing but the packed library: one request accepted, one replay refused. */
export const packedProgram = `
import { createHash, generateKeyPairSync, sign } from 'node:crypto'
import { createVerifier } from '@holdfast/verify'

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const jwk = publicKey.export({ format: 'jwk' })
const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
const sha256 = (text) => createHash('sha256').update(text).digest('base64url')
const jwt = (header, payload) => {
  const input = encode({ alg: 'ES256', ...header }) + '.' + encode(payload)
  const key = { key: privateKey, dsaEncoding: 'ieee-p1363' }
  return input + '.' + sign('sha256', Buffer.from(input), key).toString('base64url')
}
const issuer = 'https://as.example'
const audience = 'https://api.example'
const iat = Math.floor(Date.now() / 1000)
const { crv, kty, x, y } = jwk
const cnf = { jkt: sha256(JSON.stringify({ crv, kty, x, y })) }
const claims = { iss: issuer, aud: audience, sub: 'a', client_id: 'c', jti: 'j', iat, exp: iat + 60, cnf }
const token = jwt({ typ: 'at+jwt' }, claims)
const proof = { jti: 'p', htm: 'GET', htu: audience + '/', iat, ath: sha256(token) }
const verifier = createVerifier({ issuer, audience, jwks: { keys: [jwk] } })
const headers = ['Authorization', 'DPoP ' + token, 'DPoP', jwt({ typ: 'dpop+jwt', jwk }, proof)]
const request = { method: 'GET', url: '/', headers }
const { methods } = await verifier.verify(request)
const again = await verifier.verify(request).catch((error) => error.code)

const exported = {}
const paths = ['', '/node', '/koa', '/express', '/fastify', '/fetch', '/redis', '/postgres']
paths.push('/token-binding', '/token-binding-headers', '/token-binding-login')
paths.push('/ticket', '/ticket/ws', '/ticket/events', '/mcp', '/gate')
for (const path of paths) {
  exported['.' + path] = Object.keys(await import('@holdfast/verify' + path)).sort()
}
console.log(JSON.stringify({ node: process.version, methods, again, exported }))
`
