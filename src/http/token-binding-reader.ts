import type { IncomingMessage } from 'node:http'
import { tokenBindingOf } from '@holdfast/token-binding-tls'
import {
  createTokenBindingVerifier,
  fieldValues,
  type TokenBindingProof,
  type TokenBindingVerifier,
} from '@holdfast/verify/token-binding'
import { readTokenBindingHeaders } from '@holdfast/verify/token-binding-headers'
import type { TokenBindingMode } from '../config/token-binding-config.ts'
import type { PeerTest } from '../net/trusted-peers.ts'

/** The Token Binding IDs that the client of a request has proven. */
export type TokenBindingOf = (request: IncomingMessage) => TokenBindingProof | undefined

/**
 * Reads what a request proves, from the one place that the configuration names. Forwarded IDs in
 * any other mode, or from any other peer, are an attack and an error.
 *
 * @throws {TokenBindingError} from the function that is returned.
 */
export function createTokenBindingReader(
  mode: TokenBindingMode,
  isTrusted: PeerTest,
): TokenBindingOf {
  return (request) => {
    const { socket, rawHeaders } = request
    const trusted = mode === 'proxy' && isTrusted(socket.remoteAddress)
    const forwarded = readTokenBindingHeaders(rawHeaders, { trusted })
    if (forwarded || mode === 'proxy' || mode === 'off') return forwarded
    return verifierOf(socket)(fieldValues(rawHeaders, 'sec-token-binding'))
  }
}

// What is remembered as verified is good for one connection only (RFC 8471 section 3.3).
const verifiers = new WeakMap<object, TokenBindingVerifier>()

function verifierOf(socket: object): TokenBindingVerifier {
  let verify = verifiers.get(socket)
  if (verify === undefined) {
    const nothing = { negotiated: undefined, ekm: new Uint8Array(32) }
    verify = createTokenBindingVerifier(tokenBindingOf(socket) ?? nothing)
    verifiers.set(socket, verify)
  }
  return verify
}
