import type { ClientRequest, IncomingMessage } from 'node:http'
import { Agent, type AgentOptions, type RequestOptions } from 'node:https'
import type { Duplex } from 'node:stream'
import { createSecureContext, type TLSSocket } from 'node:tls'
import { type NegotiatedTokenBinding, rememberNegotiated } from './connection.ts'
import { TokenBindingTlsError } from './errors.ts'
import {
  createMemoryKeys,
  registeredDomain,
  type TokenBindingKey,
  type TokenBindingKeys,
} from './keys.ts'
import { signTokenBindingMessage } from './message.ts'
import { equipContexts, type KeyParameters } from './native.ts'

export interface TokenBindingAgentOptions extends AgentOptions {
  /** The kinds of keys to offer, the preferred one first. */
  readonly keyParameters?: readonly KeyParameters[]
  /** One agent, or several that share this, are one user. The default forgets with the process. */
  readonly keys?: TokenBindingKeys
  /**
   * Offer it in TLS 1.3 as well, by draft-ietf-tokbind-tls13, which expired. RFC 8472 ends at
   * TLS 1.2, so without this the agent stays there, unless `maxVersion` says otherwise.
   */
  readonly tls13Draft?: boolean
}

/** What the agent proves on a connection that has negotiated. */
interface BoundConnection extends NegotiatedTokenBinding {
  readonly key: TokenBindingKey
  /** The message without a referred binding: the same for every request (RFC 8471 section 3.3). */
  readonly message: string
}

/**
 * An agent for `node:https` that proves a key to each server that speaks Token Binding: one key
 * for each registered domain, made when it is first needed.
 *
 * It honours `Include-Referred-Token-Binding-ID` on a redirect (RFC 8473 section 5.3): the next
 * request to the place that `Location` names carries the binding of the server that sent it there.
 * Redirects are followed by the caller, through this agent, as always with `node:https`.
 *
 * ```ts
 * const agent = new TokenBindingAgent()
 * https.get('https://idp.example/', { agent }, (response) => …)
 * ```
 */
export class TokenBindingAgent extends Agent {
  readonly #keys: TokenBindingKeys
  readonly #keyParameters: readonly KeyParameters[]
  readonly #tls13Draft: boolean
  readonly #connections = new WeakMap<object, BoundConnection>()
  readonly #referrals = new Referrals()

  constructor(options: TokenBindingAgentOptions = {}) {
    const {
      keyParameters = ['ecdsap256', 'rsa2048_pss', 'rsa2048_pkcs1.5'],
      keys = createMemoryKeys(),
      tls13Draft = false,
      ...agentOptions
    } = options
    super(tls13Draft ? agentOptions : { maxVersion: 'TLSv1.2', ...agentOptions })
    this.#keys = keys
    this.#keyParameters = keyParameters
    this.#tls13Draft = tls13Draft
    // At start, and not with the first request.
    equipContexts(() => createSecureContext(), this.#negotiation)
  }

  get #negotiation() {
    const [keyParameters, tls13Draft] = [this.#keyParameters, this.#tls13Draft]
    return { role: 'client', keyParameters, tls13Draft } as const
  }

  /** A connection goes to its first request when it is known what to prove on it. */
  override createConnection(
    options: RequestOptions,
    callback?: (error: Error | null, socket: Duplex) => void,
  ): undefined {
    const done = callback as (error: Error | null, socket?: Duplex) => void
    let socket: TLSSocket
    try {
      const secureContext = equipContexts(() => createSecureContext(options), this.#negotiation)
      socket = super.createConnection({ ...options, secureContext } as RequestOptions) as TLSSocket
    } catch (error) {
      process.nextTick(done, error)
      return
    }

    const finish = (error: Error | null) => {
      socket.off('error', finish)
      socket.off('close', onClose)
      if (error) {
        socket.on('error', () => {})
        socket.destroy()
        done(error)
      } else {
        done(null, socket)
      }
    }
    const onClose = () => {
      finish(new TokenBindingTlsError('connection_closed', 'closed before the handshake was done'))
    }
    socket.on('error', finish)
    socket.on('close', onClose)
    // OpenSSL knows of the extended master secret only after the callback that emits this.
    socket.once('secureConnect', () => setImmediate(() => this.#bind(socket, options, finish)))
  }

  #bind(socket: TLSSocket, options: RequestOptions, finish: (error: Error | null) => void): void {
    if (socket.destroyed) return
    const bind = async () => {
      const facts = rememberNegotiated('client', socket)
      if (facts === undefined) return
      const domain = registeredDomain(options.host ?? 'localhost')
      const key = await this.#keys.keyFor(domain, facts.negotiated)
      const message = signTokenBindingMessage(facts.ekm, key)
      this.#connections.set(socket, { ...facts, key, message })
    }
    bind().then(
      () => {
        if (!socket.destroyed) finish(null)
      },
      (error) => finish(error),
    )
  }

  /** What `node:http` calls for each request; not in its types, and the way of all custom agents. */
  addRequest(request: PendingRequest, options: RequestOptions): void {
    const onSocket = request.onSocket
    request.onSocket = (socket, error) => {
      let failure = error
      try {
        if (socket) this.#prove(request, socket, options)
      } catch (cause) {
        failure = cause instanceof Error ? cause : new Error(String(cause))
      }
      onSocket.call(request, socket, failure)
    }
    const { addRequest } = Agent.prototype as unknown as Pick<this, 'addRequest'>
    addRequest.call(this, request, options)
  }

  #prove(request: PendingRequest, socket: Duplex, options: RequestOptions): void {
    const url = urlOf(request, options)
    // Taken by the first request to that place, whether or not it can be sent there.
    const referred = this.#referrals.take(url)
    const connection = this.#connections.get(socket)
    if (connection === undefined) return

    const { ekm, key, message } = connection
    placeHeader(request, referred ? signTokenBindingMessage(ekm, key, referred) : message)

    request.prependOnceListener('response', (response: IncomingMessage) => {
      if (includesReferred(response)) this.#referrals.remember(response, url, key)
      // A response that nobody listens for is dropped by node:http; this listener must not hold it.
      if (request.listenerCount('response') === 0) response.resume()
    })
  }
}

// RFC 8473 section 5.3

/** Only on a redirect, and only `true`, in any case of its letters. */
function includesReferred({ statusCode = 0, headers }: IncomingMessage): boolean {
  const value = headers['include-referred-token-binding-id']
  if (statusCode < 300 || statusCode > 399 || typeof value !== 'string') return false
  return value.toLowerCase() === 'true'
}

/** The keys of servers that have sent the client elsewhere and want to be known there. */
class Referrals {
  readonly #most = 100
  readonly #byTarget = new Map<string, TokenBindingKey>()

  remember(response: IncomingMessage, from: string, key: TokenBindingKey): void {
    const location = response.headers.location ?? ''
    if (!URL.canParse(location, from)) return
    const target = new URL(location, from)
    if (target.protocol !== 'https:') return
    target.hash = ''
    this.#byTarget.set(target.href, key)
    // Redirects that nobody followed: the oldest goes.
    for (const oldest of this.#byTarget.keys()) {
      if (this.#byTarget.size <= this.#most) break
      this.#byTarget.delete(oldest)
    }
  }

  take(target: string): TokenBindingKey | undefined {
    const key = this.#byTarget.get(target)
    this.#byTarget.delete(target)
    return key
  }
}

// node:http

/** The members of a request that are not in its types. */
interface PendingRequest extends ClientRequest {
  onSocket(socket: Duplex, error?: Error): void
  /** The request's head, once it is written; it waits in `outputData` for a socket. */
  _header: string | null
  outputData: { data: string | Buffer }[]
}

function urlOf(request: ClientRequest, { host, port }: RequestOptions): string {
  const name = host?.includes(':') ? `[${host}]` : host
  return new URL(request.path, `https://${name}:${port}`).href
}

/**
 * A request that was ended before it had a socket has its head already; the keying material is
 * known only now. As http-proxy-agent does, the head is changed while it waits.
 */
function placeHeader(request: PendingRequest, message: string): void {
  const head = request._header
  // RFC 8473 section 2: one header field, and the agent's.
  if (request.hasHeader('Sec-Token-Binding') || /^Sec-Token-Binding:/im.test(head ?? '')) {
    throw new TokenBindingTlsError('header_not_placed', 'the request has a Sec-Token-Binding field')
  }
  if (!head) {
    request.setHeader('Sec-Token-Binding', message)
    return
  }
  const changed = head.replace('\r\n', `\r\nSec-Token-Binding: ${message}\r\n`)
  const first = request.outputData[0]
  if (first) {
    if (typeof first.data !== 'string' || !first.data.startsWith(head)) {
      throw new TokenBindingTlsError('header_not_placed', 'the head of the request is gone')
    }
    first.data = changed + first.data.slice(head.length)
  }
  request._header = changed
}
