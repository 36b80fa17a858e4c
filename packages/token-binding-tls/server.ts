import { Server } from 'node:tls'
import { rememberNegotiated } from './connection.ts'
import { allKeyParameters, equipContexts, type KeyParameters } from './native.ts'

export interface EquipOptions {
  /** The kinds of keys that are accepted; of those, the client's preference decides. */
  readonly keyParameters?: readonly KeyParameters[]
  /**
   * Negotiate in TLS 1.3 as well, by draft-ietf-tokbind-tls13, which expired. RFC 8472 ends at
   * TLS 1.2: without this, a client that can do TLS 1.3 gets no Token Binding, so set
   * `maxVersion: 'TLSv1.2'` where it must have it.
   */
  readonly tls13Draft?: boolean
}

/**
 * Makes a TLS, HTTPS or HTTP/2 server that negotiates Token Binding:
 * `equip(() => https.createServer(options, handler))`.
 *
 * The function must be synchronous. Certificates can be reloaded with `setSecureContext`;
 * contexts for other names (`addContext`, `SNICallback`) need nothing. Renegotiation is refused.
 * Each worker thread equips its own servers.
 *
 * @throws {TokenBindingTlsError} `not_built` or `not_loadable`, at once and not with a connection.
 */
export function equip<S extends Server>(create: () => S, options: EquipOptions = {}): S {
  const negotiation = {
    role: 'server',
    keyParameters: options.keyParameters ?? allKeyParameters,
    tls13Draft: options.tls13Draft ?? false,
  } as const

  const server = equipContexts(create, negotiation)
  if (!(server instanceof Server)) {
    throw new TypeError('equip takes a function that returns a TLS server, and is not async')
  }

  const setSecureContext = server.setSecureContext.bind(server)
  server.setSecureContext = (secureContextOptions) => {
    equipContexts(() => setSecureContext(secureContextOptions), negotiation)
  }
  // Before the listener that begins to read HTTP.
  server.prependListener('secureConnection', (socket) => {
    try {
      rememberNegotiated('server', socket)
    } catch (error) {
      socket.destroy(error instanceof Error ? error : undefined)
    }
  })
  return server
}
