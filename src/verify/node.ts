/** Requests of `node:http`, `node:https` and `node:http2` (compatibility API) as plain data. */
import type { VerifyError } from './errors.ts'
import type { VerifyRequest } from './verifier.ts'

/** What is needed of an `IncomingMessage`. */
export type NodeRequest = Readonly<{
  method?: string | undefined
  url?: string | undefined
  rawHeaders: readonly string[]
  socket: object
}>

/** What is needed of a `TLSSocket`. */
type CertificateSocket = { getPeerX509Certificate(): { raw: Uint8Array } | undefined }

/** A certificate belongs to its connection, and asking for it is not cheap. */
const certificates = new WeakMap<object, Uint8Array | undefined>()

/**
 * Reads a Node request.
 *
 * The certificate is the one of this very TLS connection; a header is never taken for one.
 * `originalUrl` is where express and connect keep the target when a router is mounted.
 */
export function nodeRequest(request: NodeRequest & { originalUrl?: string }): VerifyRequest {
  const certificate = peerCertificate(request.socket)
  return {
    method: request.method ?? '',
    url: request.originalUrl ?? request.url ?? '',
    headers: request.rawHeaders,
    ...(certificate && { certificate }),
  }
}

function peerCertificate(socket: object): Uint8Array | undefined {
  if (!('getPeerX509Certificate' in socket)) return undefined
  if (certificates.has(socket)) return certificates.get(socket)
  const certificate = (socket as CertificateSocket).getPeerX509Certificate()?.raw
  certificates.set(socket, certificate)
  return certificate
}

/** The headers of the response to a refused request. */
export function refusalHeaders(error: VerifyError): Record<string, string | string[]> {
  return {
    ...(error.challenges.length > 0 && { 'WWW-Authenticate': [...error.challenges] }),
    ...(error.dpopNonce !== undefined && { 'DPoP-Nonce': error.dpopNonce }),
    'Cache-Control': 'no-store',
    'Access-Control-Expose-Headers': 'WWW-Authenticate, DPoP-Nonce',
  }
}
