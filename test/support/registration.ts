import { calculateJwkThumbprint, exportJWK } from 'jose'
import {
  administerRegistrationTokens,
  type NewRegistrationToken,
} from '../../src/administration/registration-tokens.ts'
import { type KeyPair, makeProof } from '../../src/doctor/proof.ts'
import type { Answer } from './flow.ts'
import type { TestServer } from './server.ts'

/** A client that fits the policy of an administrator who names none. */
export const webClient = {
  client_name: 'Shop',
  redirect_uris: ['https://shop.example/callback'],
  token_endpoint_auth_method: 'client_secret_basic',
}

/** Makes an initial access token. */
export async function initialToken(
  { storage }: TestServer,
  asked: Partial<NewRegistrationToken> = {},
): Promise<string> {
  const tokens = administerRegistrationTokens(
    storage.registrations,
    storage.resourceServers,
    () => {},
  )
  return (await tokens.add({ name: 'test', ...asked })).token
}

export async function thumbprint({ publicKey }: KeyPair): Promise<string> {
  return calculateJwkThumbprint(await exportJWK(publicKey))
}

export interface RegistrationCall {
  readonly method?: string
  /** A client_id, for the client configuration endpoint. */
  readonly client?: string
  readonly token?: string
  /** With a key it is bound, without one a bearer token. */
  readonly key?: KeyPair
  readonly proof?: string
  readonly headers?: Record<string, string>
  readonly body?: unknown
  readonly fetch?: typeof globalThis.fetch
}

/** Calls the registration endpoint, or the configuration endpoint of a client. */
export async function register(
  { issuer }: TestServer,
  {
    method,
    client,
    token,
    key,
    proof,
    headers = {},
    body,
    fetch = globalThis.fetch,
  }: RegistrationCall,
): Promise<Answer> {
  const url = `${issuer}/register${client === undefined ? '' : `/${client}`}`
  const verb = method ?? (client === undefined ? 'POST' : 'GET')
  const dpop =
    proof ?? (key && (await makeProof(key, { method: verb, url, accessToken: token ?? '' })))
  const response = await fetch(url, {
    method: verb,
    headers: {
      ...(token !== undefined && { authorization: `${dpop ? 'DPoP' : 'Bearer'} ${token}` }),
      ...(dpop && { dpop }),
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  })
  const text = await response.text()
  return { status: response.status, headers: response.headers, body: text && JSON.parse(text) }
}
