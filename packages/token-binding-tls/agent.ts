import type { ClientRequest, IncomingMessage } from 'node:http'
import { Agent, type AgentOptions, type RequestOptions } from 'node:https'
import type { Duplex } from 'node:stream'
import { createSecureContext, type SecureContext, type TLSSocket } from 'node:tls'
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
  readonly #handshakes = new WeakMap<Duplex, Promise<void>>()
  readonly #connections = new WeakMap<Duplex, BoundConnection>()
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

  override createConnection(options: RequestOptions): TLSSocket {
    const secureContext = equipContexts(() => createSecureContext(options), this.#negotiation)
    const withContext: RequestOptions & { secureContext: SecureContext } = {
      ...options,
      secureContext,
    }
    const socket = super.createConnection(withContext) as TLSSocket
    // The waiter for the handshake hears of an error; nobody else may be there yet.
    socket.on('error', () => {})
    const bound = this.#bind(socket, options)
    this.#handshakes.set(socket, bound)
    bound.then(
      () => this.#handshakes.delete(socket),
      () => socket.destroy(),
    )
    return socket
  }

  /** After this it is known what to prove on a connection, if anything. */
  async #bind(socket: TLSSocket, options: RequestOptions): Promise<void> {
    await handshakeOf(socket)
    const facts = rememberNegotiated('client', socket)
    if (facts === undefined) return
    const domain = registeredDomain(options.host ?? 'localhost')
    const key = await this.#keys.keyFor(domain, facts.negotiated)
    const message = signTokenBindingMessage(facts.ekm, key)
    this.#connections.set(socket, { ...facts, key, message })
  }

  /** What `node:http` calls for each request; not in its types, and the way of all custom agents. */
  addRequest(request: PendingRequest, options: RequestOptions): void {
    const attach = request.onSocket
    request.onSocket = (socket, error) => {
      if (error || !socket) {
        attach.call(request, socket, error)
        return
      }
      const prove = () => attach.call(request, socket, this.#prove(request, socket, options))
      // Without the socket: node:http takes its error for one that the request has received.
      const fail = (failure?: Error) => attach.call(request, undefined, failure)
      const handshake = this.#handshakes.get(socket)
      if (handshake === undefined) prove()
      else waitWith(request, socket, handshake).then(prove, fail)
    }
    const { addRequest } = Agent.prototype as unknown as Pick<this, 'addRequest'>
    addRequest.call(this, request, options)
  }

  /** Puts the message into a request; gives the error of one that cannot have it. */
  #prove(request: PendingRequest, socket: Duplex, options: RequestOptions): Error | undefined {
    const url = urlOf(request, options)
    // Taken by the first request to that place, whether or not it can be sent there.
    const referred = this.#referrals.take(url)
    const connection = this.#connections.get(socket)
    if (connection === undefined) return undefined

    const { ekm, key, message } = connection
    try {
      placeHeader(request, referred ? signTokenBindingMessage(ekm, key, referred) : message)
    } catch (error) {
      return asError(error)
    }

    request.prependOnceListener('response', (response: IncomingMessage) => {
      if (includesReferred(response)) this.#referrals.remember(response, url, key)
      // A response that nobody listens for is dropped by node:http; this listener must not hold it.
      if (request.listenerCount('response') === 0) response.resume()
    })
    return undefined
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

// node:tls

function handshakeOf(socket: TLSSocket): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once('error', reject)
    socket.once('close', () => {
      const sentence = 'the connection was closed before its handshake was done'
      reject(new TokenBindingTlsError('connection_closed', sentence))
    })
    // OpenSSL knows of the extended master secret only after the callback that emits this.
    socket.once('secureConnect', () => setImmediate(resolve))
  })
}

// node:http

/**
 * Until a request has its socket, `node:http` lets nothing end the wait: neither a timeout nor
 * `destroy`, which is what an AbortSignal calls. Rejects with what `destroy` was given, if it was.
 */
async function waitWith(
  request: ClientRequest,
  socket: Duplex,
  handshake: Promise<void>,
): Promise<void> {
  const destroy = request.destroy
  let reason: Error | undefined
  request.destroy = (error) => {
    reason = error
    socket.destroy()
    return destroy.call(request, error)
  }
  const onTimeout = () => request.emit('timeout')
  socket.on('timeout', onTimeout)
  try {
    await handshake
  } catch (cause) {
    throw request.destroyed ? reason : asError(cause)
  } finally {
    request.destroy = destroy
    socket.off('timeout', onTimeout)
  }
}

function asError(cause: unknown): Error {
  return cause instanceof Error ? cause : new Error(String(cause))
}

/** The members of a request that are not in its types. */
interface PendingRequest extends ClientRequest {
  onSocket(socket: Duplex | undefined, error?: Error): void
  /** The request's head, once it is written; it waits in `outputData` for a socket. */
  _header: string | null
  outputData: { data: string | Buffer }[]
}

function urlOf(request: ClientRequest, { host, port }: RequestOptions): string {
  const name = host?.includes(':') ? `[${host}]` : host
  const path = request.path.startsWith('/') ? request.path : `/${request.path}`
  // Not resolved against a base: a path that begins with "//" would name another host.
  return new URL(`https://${name}:${port}${path}`).href
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
