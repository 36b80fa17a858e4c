import type { IncomingMessage } from 'node:http'
import {
  type ClientCertificate,
  ClientCertificateError,
  readClientCertificateHeader,
  socketCertificate,
} from '@holdfast/verify'
import { TokenBindingError, type TokenBindingProof } from '@holdfast/verify/token-binding'
import type { Context, Middleware } from 'koa'
import type { ConnectionProofs } from '../bindings/binding.ts'
import type { Config } from '../config/config.ts'
import { trustedPeers } from '../net/trusted-peers.ts'
import { PageError, type PageErrorCode } from '../pages/page-error.ts'
import { createTokenBindingReader } from './token-binding-reader.ts'

export interface Inspection extends ConnectionProofs {
  readonly fromProxy: boolean
  readonly refused: ClientCertificateError | TokenBindingError | undefined
}

/** The Token Binding IDs that the client of a request has proven at the edge. */
export type ProvenTokenBinding = (ctx: Pick<Context, 'state'>) => TokenBindingProof | undefined

/**
 * Where requests enter: directly, or through proxies that the operator named. Everything that is
 * true only because of who sent it is decided here, once for each request.
 */
export interface Edge {
  /** The proofs of a request that has passed {@link Edge.middleware}. */
  proofsOf(ctx: Pick<Context, 'state'>): ConnectionProofs
  /** The public origin that a request came to: one of those in the configuration. */
  originOf(request: IncomingMessage): URL
  /** What the edge makes of a request, for callers that want to know rather than to act on it. */
  inspect(request: IncomingMessage): Inspection
  /** Refuses requests with proofs that are forged, ambiguous or broken. */
  readonly middleware: Middleware
}

type EdgeConfig = Pick<Config, 'issuer' | 'trustedProxies' | 'tokenBinding'> & {
  readonly mtls: Pick<Config['mtls'], 'port' | 'origin' | 'forwarded'>
}

export function createEdge({ issuer, trustedProxies, mtls, tokenBinding }: EdgeConfig): Edge {
  const isTrusted = trustedPeers(trustedProxies)
  const tokenBindingOf = createTokenBindingReader(tokenBinding, isTrusted)
  const publicOrigin = new URL(new URL(issuer).origin)
  const mtlsOrigin = mtls.origin ? new URL(mtls.origin) : undefined

  /**
   * A proxy that connects by TLS may have a certificate of its own: of a trusted peer only the
   * header is looked at, and of anyone else only the connection.
   */
  function certificateOf({ socket, rawHeaders }: IncomingMessage): ClientCertificate | undefined {
    const trusted = isTrusted(socket.remoteAddress)
    const format = mtls.forwarded?.format ?? 'rfc9440'
    const header = mtls.forwarded?.header
    // Without a configured format no header is believed, and one by the standard's name is forged.
    const forwarded = readClientCertificateHeader(rawHeaders, {
      trusted: trusted && mtls.forwarded !== undefined,
      format,
      header,
    })
    return trusted ? forwarded : socketCertificate(socket)
  }

  function inspect(request: IncomingMessage): Inspection {
    const fromProxy = isTrusted(request.socket.remoteAddress)
    try {
      const certificate = certificateOf(request)
      const tokenBinding = tokenBindingOf(request)
      return { fromProxy, certificate, tokenBinding, refused: undefined }
    } catch (refused) {
      if (!(refused instanceof ClientCertificateError || refused instanceof TokenBindingError)) {
        throw refused
      }
      return { fromProxy, certificate: undefined, tokenBinding: undefined, refused }
    }
  }

  function collect(ctx: Context): ConnectionProofs {
    const { certificate, tokenBinding, refused } = inspect(ctx.req)
    if (!refused) return Object.freeze({ certificate, tokenBinding })
    ctx.app.emit('edge.refused', ctx, refused.code)
    throw new PageError(pageErrorCode(refused), refused.message, { cause: refused })
  }

  return {
    inspect,

    proofsOf({ state }) {
      const known: ConnectionProofs | undefined = state.connection
      if (known === undefined) throw new Error('the request has not passed the edge')
      return known
    },

    originOf({ socket, headers }) {
      if (!mtlsOrigin) return publicOrigin
      const atMtls = isTrusted(socket.remoteAddress)
        ? headers.host === mtlsOrigin.host
        : mtls.port !== undefined && socket.localPort === mtls.port
      return atMtls ? mtlsOrigin : publicOrigin
    },

    middleware: (ctx, next) => {
      ctx.state.connection = collect(ctx)
      return next()
    },
  }
}

function pageErrorCode(error: ClientCertificateError | TokenBindingError): PageErrorCode {
  // RFC 8473 section 2: a request with an invalid message is rejected, and may be with 400.
  if (error instanceof TokenBindingError) return 'invalid_token_binding'
  return error.code === 'header_too_large'
    ? 'client_certificate_too_large'
    : 'invalid_client_certificate_header'
}
