import { parseTokenBindingId, type TokenBindingId } from '../../packages/verify/token-binding.ts'
import { makeEcKey, makeRsaKey, type TestKey, tokenBindingId } from './token-binding-messages.ts'

/** What a server under test is told by a proxy that it trusts: all of loopback. */
export const behindProxy = {
  HOLDFAST_TOKEN_BINDING: 'proxy',
  HOLDFAST_TRUSTED_PROXIES: '127.0.0.0/8,::1',
}

export function newId(key: TestKey = makeEcKey()): TokenBindingId {
  const id = parseTokenBindingId(tokenBindingId(key).toString('base64url'))
  if (!id) throw new Error('not a Token Binding ID')
  return id
}

export const newRsaId = (): TokenBindingId => newId(makeRsaKey(1))

/** A referred ID of a kind that nobody knows yet. */
export const unknownKind: string = Buffer.of(9, 0, 2, 1, 1).toString('base64url')

/** The headers by which a trusted proxy tells a server what a client has proven (ttrp). */
export function forwarded(
  provided: TokenBindingId,
  referred?: TokenBindingId | string,
): Record<string, string> {
  return {
    'sec-provided-token-binding-id': provided.id,
    ...(referred !== undefined && {
      'sec-referred-token-binding-id': typeof referred === 'string' ? referred : referred.id,
    }),
  }
}

/**
 * The `fetch` of a browser with one key for the server. The key that it has for the relying party
 * goes with the first request only (RFC 8473 section 5.3), which is the one to /authorize.
 */
export function browserFetch(
  provided: TokenBindingId,
  referred?: TokenBindingId | string,
): typeof globalThis.fetch {
  return (url, init) => {
    const first = new URL(String(url)).pathname === '/authorize'
    const headers = new Headers(init?.headers)
    const proven = forwarded(provided, first ? referred : undefined)
    for (const [name, value] of Object.entries(proven)) headers.set(name, value)
    return fetch(url, { ...init, headers })
  }
}
