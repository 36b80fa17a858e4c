/** Other validators, each used as its documentation says. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import {
  calculateJwkThumbprint,
  createLocalJWKSet,
  EmbeddedJWK,
  type JSONWebKeySet,
  type JWK,
  jwtVerify,
} from 'jose'
import * as oauth from 'oauth4webapi'
import { loadAuth0 } from '../../support/verify/installed.ts'
import { ath, audience, issuer, jwks } from './requests.ts'

/** What a careful developer writes with jose. It detects no replay. */
export function makeJoseByHand(keySet: JSONWebKeySet) {
  const keys = createLocalJWKSet(keySet)
  return async (request: JoseRequest): Promise<void> => {
    const { payload } = await jwtVerify(request.token, keys, { issuer, audience, typ: 'at+jwt' })
    const proof = await jwtVerify(request.proof, EmbeddedJWK, {
      typ: 'dpop+jwt',
      maxTokenAge: '60s',
    })
    const bound = (payload.cnf as { jkt?: string } | undefined)?.jkt
    const valid =
      proof.payload.htm === request.method &&
      proof.payload.htu === request.uri &&
      proof.payload.ath === ath(request.token) &&
      bound === (await calculateJwkThumbprint(proof.protectedHeader.jwk as JWK))
    if (!valid) throw new Error('refused')
  }
}

export type JoseRequest = Readonly<{
  method: string
  uri: string
  token: string
  proof: string
}>

const server: oauth.AuthorizationServer = { issuer, jwks_uri: `${issuer}/jwks` }
const options = { requireDPoP: true, [oauth.customFetch]: async () => Response.json(jwks) }

export async function oauth4webapi(request: Request): Promise<void> {
  await oauth.validateJwtAccessToken(server, request, audience, options)
}

/** The middleware of express-oauth2-jwt-bearer; it fetches its keys from a URL only. */
export async function startAuth0(keySet: JSONWebKeySet) {
  const { auth } = await loadAuth0()
  const keyServer = createServer((_, response) => response.end(JSON.stringify(keySet)))
  await new Promise<void>((resolve) => keyServer.listen(0, '127.0.0.1', resolve))
  const { port } = keyServer.address() as AddressInfo
  const middleware = auth({
    issuer,
    audience,
    jwksUri: `http://127.0.0.1:${port}/`,
    tokenSigningAlg: 'ES256',
    strict: true,
    dpop: { enabled: true, required: true },
  })
  return { middleware, [Symbol.dispose]: () => void keyServer.close() }
}
