/** Where requests enter: what is true only because of who sent it is decided here, once a request. */
import type { Socket } from 'node:net'
import { tokenBindingOf } from '@holdfast/token-binding-tls'
import {
  type CertificateHeaderFormat,
  type ClientCertificate,
  ClientCertificateError,
  readClientCertificateHeader,
  socketCertificate,
} from '@holdfast/verify'
import {
  createTokenBindingVerifier,
  fieldValues,
  TokenBindingError,
  type TokenBindingProof,
  type TokenBindingVerifier,
} from '@holdfast/verify/token-binding'
import { readTokenBindingHeaders } from '@holdfast/verify/token-binding-headers'
import type { Config } from './config.ts'
import { repeatedField, valuesOf } from './headers.ts'
import { canonicalAddress, peersOf } from './peers.ts'
import { Refusal } from './refusal.ts'
import { readTarget, type Target } from './target.ts'

/** What the gate knows of a request before it looks at any credential. */
export type Entered = Readonly<{
  method: string
  target: Target
  /** Host and port that the client called, in lower case, as its `Host` has it. */
  host: string
  /** Of the client, or of the last proxy that is not trusted. */
  address: string
  certificate: ClientCertificate | undefined
  tokenBinding: TokenBindingProof | undefined
  /** As they came, in the form of `rawHeaders`. */
  fields: readonly string[]
  protocol: Asked['protocol']
  /** Of the gate, for the application and for lines of the log. */
  requestId: string
}>

/** A request that was received, or that a proxy asks about. */
export type Asked = Readonly<{
  method: string
  url: string
  /** The values of `Host`: there must be one. */
  hosts: readonly string[]
  fields: readonly string[]
  socket: Socket
  /** As `Via` names it (RFC 9110 section 7.6.3). */
  protocol: '1.1' | '2'
}>

/** Reads requests. @throws {@link Refusal} for those that are malformed, ambiguous or forged. */
export type Edge = (asked: Asked, requestId: string) => Entered

/** More fields than any client sends; Node would drop what is beyond a limit of its own. */
export const mostFields = 200

/** Makes the edge of a configuration. */
export function createEdge({
  trustedProxies,
  forwarded,
  tls,
  limits,
}: Pick<Config, 'trustedProxies' | 'forwarded' | 'tls' | 'limits'>): Edge {
  const isTrusted = peersOf(trustedProxies)
  const readsTokenBinding = tls !== undefined && tls.tokenBinding !== 'off'

  /** Of a trusted peer only the header counts, and of anyone else only the connection. */
  function certificateOf(socket: Socket, fields: readonly string[]) {
    const trusted = isTrusted(socket.remoteAddress)
    const format = (forwarded.certificate ?? 'rfc9440') as CertificateHeaderFormat
    const fromHeader = readClientCertificateHeader(fields, {
      trusted: trusted && forwarded.certificate !== undefined,
      format,
      header: forwarded.certificateHeader,
    })
    return trusted ? fromHeader : socketCertificate(socket)
  }

  function bindingOf(socket: Socket, fields: readonly string[]) {
    const trusted = forwarded.tokenBinding && isTrusted(socket.remoteAddress)
    const fromHeader = readTokenBindingHeaders(fields, { trusted })
    if (fromHeader !== undefined || trusted || !readsTokenBinding) return fromHeader
    return bindingVerifierOf(socket)(fieldValues(fields, 'sec-token-binding'))
  }

  function addressOf(socket: Socket, fields: readonly string[]): string {
    let address = canonicalAddress(socket.remoteAddress ?? '') ?? ''
    const hops = valuesOf(fields, 'x-forwarded-for').flatMap((value) => value.split(','))
    while (isTrusted(address) && hops.length > 0) {
      const before = canonicalAddress(hops.pop()?.trim() ?? '')
      if (before === undefined) break
      address = before
    }
    return address
  }

  return ({ method, url, hosts: written, fields, socket, protocol }, requestId) => {
    // HTTP/2 knows no limit of bytes before the client has acknowledged it.
    const bytes = fields.reduce((sum, text) => sum + text.length, 0)
    if (fields.length > 2 * mostFields || bytes > limits.headerBytes) {
      throw new Refusal('too_many_fields')
    }
    if (!/^[A-Z][A-Z-]{0,31}$/.test(method) || method === 'TRACE') throw new Refusal('method')
    const target = readTarget(url)
    if (target === undefined) throw new Refusal('target')
    const [host = '', ...otherHosts] = written.map((value) => value.toLowerCase())
    if (otherHosts.length > 0 || host === '') throw new Refusal('host')
    // RFC 9112 section 3.2.2: the authority of the target counts. Here it cannot be another one.
    if (target.authority !== undefined && target.authority !== host) throw new Refusal('host')
    const repeated = repeatedField(fields)
    if (repeated !== undefined) throw new Refusal('repeated_field')
    try {
      return Object.freeze({
        method,
        target,
        host,
        address: addressOf(socket, fields),
        certificate: certificateOf(socket, fields),
        tokenBinding: bindingOf(socket, fields),
        fields,
        protocol,
        requestId,
      })
    } catch (cause) {
      const isForged = cause instanceof ClientCertificateError || cause instanceof TokenBindingError
      throw isForged ? new Refusal('facts', { cause }) : cause
    }
  }
}

// What is remembered as verified is good for one connection only (RFC 8471 section 3.3).
const verifiers = new WeakMap<object, TokenBindingVerifier>()

function bindingVerifierOf(socket: object): TokenBindingVerifier {
  const known = verifiers.get(socket)
  if (known !== undefined) return known
  const nothing = { negotiated: undefined, ekm: new Uint8Array(32) }
  const verify = createTokenBindingVerifier(tokenBindingOf(socket) ?? nothing)
  verifiers.set(socket, verify)
  return verify
}
