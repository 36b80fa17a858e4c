/**
 * The keys of clients that the engine verifies by: of client assertions and of request objects. What
 * registration refuses today an earlier release has stored, and a `jwks_uri` names new keys at any
 * time: they are looked at whenever the engine is handed some.
 */
import { importPublicJwk, isObject, parseJsonObject } from '@holdfast/verify/authorization-server'
import type { ClientMetadata, JWKS } from 'oidc-provider'
import { badStatus, type GuardedFetch, GuardedFetchError } from '../net/guarded-fetch.ts'
import type { ClientTable } from '../storage/client-table.ts'
import { isKeyOf } from './client-certificates.ts'

/**
 * Whether a key must not be used: an RSA key with which others may sign in the client's name, or a
 * certificate of another key than the one it stands with.
 */
function isUnusable(key: unknown): boolean {
  if (!isObject(key)) return false
  if (key.kty === 'RSA' && importPublicJwk(key) === undefined) return true
  const { x5c, ...jwk } = key
  return x5c !== undefined && !isKeyOf(Array.isArray(x5c) ? String(x5c[0]) : '', jwk)
}

/** Key sets that clients have registered, without the keys that nobody should go by. */
export function withoutUnusableKeys(clients: Pick<ClientTable, 'find'>): Pick<ClientTable, 'find'> {
  return {
    async find(id): Promise<ClientMetadata | undefined> {
      const metadata = await clients.find(id)
      const keys = metadata?.jwks?.keys
      if (!Array.isArray(keys) || !keys.some(isUnusable)) return metadata
      const jwks: JWKS = { keys: keys.filter((key) => !isUnusable(key)) }
      return { ...metadata, jwks } as ClientMetadata
    },
  }
}

/**
 * Fetches the key set of a client, as the engine wants it.
 *
 * @param requester the client that the request is for.
 * @throws GuardedFetchError for any status but 200, and for what is no key set.
 */
export async function fetchKeySet(
  guardedFetch: GuardedFetch,
  url: string,
  requester: string | undefined,
): Promise<Response> {
  const { status, headers, body } = await guardedFetch(url, {
    requester,
    headers: { accept: 'application/json' },
  })
  const kept = ['cache-control', 'expires'].flatMap((name) => {
    const value = headers.get(name)
    return value === undefined ? [] : [[name, value] as [string, string]]
  })
  if (status !== 200) throw badStatus(status)
  return new Response(readKeySet(body), { status, headers: kept })
}

/**
 * A fetched key set (RFC 7517 section 5) without the keys that nobody should go by.
 *
 * @throws GuardedFetchError for what is no key set.
 */
function readKeySet(body: Uint8Array<ArrayBuffer>): string {
  const set = parseJsonObject(Buffer.from(body))
  if (!Array.isArray(set?.keys)) {
    throw new GuardedFetchError('wrong_type', 'the document is no JSON Web Key Set')
  }
  return JSON.stringify({ ...set, keys: set.keys.filter((key) => !isUnusable(key)) })
}
