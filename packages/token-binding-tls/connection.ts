import type { TLSSocket } from 'node:tls'
import { type KeyParameters, type Role, takeNegotiated } from './native.ts'

/** What a connection negotiated, and the keying material that its messages are signed over. */
export interface NegotiatedTokenBinding {
  readonly negotiated: KeyParameters
  readonly ekm: Buffer
}

/*
 * On the socket itself and not in a WeakMap: HTTP/2 hands out a proxy of it, through which a
 * property is seen.
 */
const tokenBinding = Symbol('Token Binding')

/**
 * What the connection of a request has negotiated: `tokenBindingOf(request.socket)`, in HTTP/1.1
 * and HTTP/2. Nothing where the client did not ask, where it could not be answered, and where the
 * connection is gone.
 */
export function tokenBindingOf(socket: object): NegotiatedTokenBinding | undefined {
  try {
    return Reflect.get(socket, tokenBinding)
  } catch {
    // The HTTP/2 proxy of a socket that is no longer there.
    return undefined
  }
}

/** Asks the native part about a connection whose handshake is done, and keeps the answer. */
export function rememberNegotiated(
  role: Role,
  socket: TLSSocket,
): NegotiatedTokenBinding | undefined {
  const ekm = exportTokenBindingKeyingMaterial(socket)
  const negotiated = takeNegotiated(role, ekm)
  if (negotiated === undefined) return undefined
  const value = Object.freeze({ negotiated, ekm })
  Object.defineProperty(socket, tokenBinding, { value })
  return value
}

/** RFC 8471 section 3.3: no context. An empty one is another value on TLS 1.2. */
function exportTokenBindingKeyingMaterial(socket: TLSSocket): Buffer {
  const { exportKeyingMaterial } = socket as unknown as {
    exportKeyingMaterial(this: TLSSocket, length: number, label: string): Buffer
  }
  return exportKeyingMaterial.call(socket, 32, 'EXPORTER-Token-Binding')
}
