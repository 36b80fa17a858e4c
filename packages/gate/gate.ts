/** The way of a request: edge, rule, proof, body, assertion, upstream. */
import { hash } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { type IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import {
  createMemoryReplayStore,
  type Fetch,
  type ReplayStore,
  type Verified,
  VerifyError,
} from '@holdfast/verify'
import { forwardTokenBinding } from '@holdfast/verify/token-binding-headers'
import { type Application, createApplication, type UpstreamFiles } from './application.ts'
import { announcedLength, BodyBudget, readBody } from './body.ts'
import type { Config } from './config.ts'
import { createEdge, type Edge, type Entered } from './edge.ts'
import { type GateEventListener, quietly } from './events.ts'
import type { InboundRequest, InboundResponse } from './exchange.ts'
import { type Body, forward, forwardUpgrade, type Outgoing } from './forward.ts'
import { ownRequest, type ProxyKind, readAsked, statusFor } from './forward-auth.ts'
import { passingFields, valuesOf } from './headers.ts'
import { type GateKey, identityOf, plainFields, signedFields } from './identity.ts'
import { peersOf } from './peers.ts'
import { Refusal } from './refusal.ts'

/** Where the gate publishes the keys that it signs with, at the origin of each application. */
export const keySetPath = '/.well-known/holdfast-gate/jwks.json'

/** What a gate is made with, beside its configuration. */
export type GateOptions = Readonly<{
  config: Config
  /** The keys of `signing.keyFiles`, in order. */
  keys: readonly GateKey[]
  /** Contents of the files of each application's upstream, in order. */
  files: readonly UpstreamFiles[]
  /** Where used proofs are remembered. Default: in the memory of this process. */
  replay?: ReplayStore
  onEvent?: GateEventListener | undefined
  /** Milliseconds since the epoch. Default `Date.now`. */
  now?: () => number
  /** For the keys of the issuer. Default: the global `fetch`. */
  fetch?: Fetch | undefined
}>

/** The handlers of a gate, for a listener of Node. */
export type Gate = Readonly<{
  /** @param expectsContinue whether the client waits for `100 Continue` before it sends its body. */
  handle(
    request: InboundRequest,
    response: InboundResponse,
    expectsContinue?: boolean,
  ): Promise<void>
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void>
  /** Answers a proxy that asks about a request of its client (`forwardAuth`). */
  authorize(request: InboundRequest, response: InboundResponse): Promise<void>
  /** The public keys, as JSON. */
  keySet(): string
  /** Takes another configuration for requests that begin from now on. */
  replace(next: Pick<GateOptions, 'config' | 'keys' | 'files'>): void
  /** Closes connections to applications that no request uses. */
  close(): void
  /** Ends when every request has ended, upgraded ones included. */
  allEnded(): Promise<void>
}>

/** What follows from one version of the configuration. */
type Version = Readonly<{
  config: Config
  keys: readonly GateKey[]
  edge: Edge
  isTrusted: (address: string | undefined) => boolean
  applications: ReadonlyMap<string, Application>
  keySet: string
}>

/** Makes a gate. It listens nowhere: see `listener.ts`. */
export function createGate(options: GateOptions): Gate {
  const { now = Date.now, fetch } = options
  const report = quietly(options.onEvent)
  const { replayEntries: capacity } = options.config.limits
  const replay = options.replay ?? createMemoryReplayStore({ capacity })
  const budget = new BodyBudget(options.config.limits.bufferedBytes)
  const progress = new EventEmitter()
  let open = 0

  function version({
    config,
    keys,
    files,
  }: Pick<GateOptions, 'config' | 'keys' | 'files'>): Version {
    const made = config.applications.map((each, at) =>
      createApplication(each, config, {
        replay,
        files: files[at] ?? {},
        now,
        fetch,
        onEvent: report,
      }),
    )
    return Object.freeze({
      config,
      keys,
      edge: createEdge(config),
      isTrusted: peersOf(config.trustedProxies),
      applications: new Map(
        made.flatMap((each) => hostsOf(each.config.origin).map((host) => [host, each] as const)),
      ),
      keySet: JSON.stringify({ keys: keys.map(({ publicJwk }) => publicJwk) }),
    })
  }
  let current = version(options)

  /** Everything that is decided before the body is looked at. */
  async function admit(entered: Entered, { applications }: Version) {
    const application = applications.get(entered.host)
    if (application === undefined) throw new Refusal('unknown_host')
    const { path, query } = entered.target
    const isKeySet = path === keySetPath && /^(?:GET|HEAD)$/.test(entered.method)
    const rule = application.policy(entered.method, path)
    const verified =
      isKeySet || rule.access === 'public'
        ? undefined
        : await application.verifier.verify({
            method: entered.method,
            url: path + query,
            headers: entered.fields,
            ...(entered.certificate && { certificate: entered.certificate }),
            ...(entered.tokenBinding && {
              tokenBinding: {
                providedId: Buffer.from(entered.tokenBinding.provided.id, 'base64url'),
              },
            }),
          })
    if (verified && rule.access === 'bound') {
      application.verifier.checkRequirements(verified, rule.requirements)
    }
    return { application, verified, isKeySet }
  }

  async function serve(
    request: InboundRequest,
    response: InboundResponse,
    { version, upgrade, expectsContinue }: Serving,
  ): Promise<void> {
    const entered = version.edge(ownRequest(request))
    const { application, verified, isKeySet } = await admit(entered, version)
    if (isKeySet) {
      response.writeHead(200, { 'Content-Type': 'application/jwk-set+json' }).end(version.keySet)
      return
    }
    if (expectsContinue) response.writeContinue()
    const { signedBytes: limitBytes, larger } = application.config.bodies
    const isSigned = application.config.mode === 'sign'
    const share = isSigned && !upgrade ? shareOf(entered.fields, limitBytes) : 0
    budget.take(share)
    try {
      const body =
        share > 0
          ? await readBody(request, entered.fields, { limitBytes, larger })
          : unread(entered.fields)
      const outgoing = outgoingOf({ entered, application, verified, body, version, nowMs: now() })
      if (upgrade) await forwardUpgrade(upgrade, application.upstream, outgoing)
      else await forward(request, response, application.upstream, outgoing)
    } finally {
      budget.give(share)
    }
    const { origin, mode } = application.config
    report({ type: 'forwarded', application: origin, mode, status: response.statusCode })
  }

  /** Answers a proxy that asks about a request of its client; the body stays at the proxy. */
  async function authorize(
    request: InboundRequest,
    response: InboundResponse,
    version: Version,
  ): Promise<void> {
    const { forwardAuth } = version.config
    if (forwardAuth === undefined || !version.isTrusted(request.socket.remoteAddress)) {
      throw new Refusal('peer')
    }
    const entered = version.edge(readAsked(request, forwardAuth.proxy))
    const { application, verified } = await admit(entered, version)
    const hasBody = !/^(?:GET|HEAD|DELETE|OPTIONS)$/.test(entered.method)
    const body: Body = hasBody
      ? { kind: 'stream', begun: Buffer.alloc(0), length: undefined }
      : { kind: 'none' }
    const sent = passingFields(entered.fields, application.requestFields)
    const { origin, mode } = application.config
    const isPass = mode === 'pass'
    const fields = isPass
      ? []
      : identityFields({ entered, application, verified, body, version, nowMs: now() }, sent)
    response.writeHead(200, [...fields, ...answerFieldsOf(verified), 'Content-Length', '0']).end()
    report({ type: 'forwarded', application: origin, mode, status: 200 })
  }

  async function guarded(
    request: InboundRequest,
    response: InboundResponse,
    act: (version: Version) => Promise<void>,
    proxy?: ProxyKind,
  ): Promise<void> {
    const version = current
    open += 1
    try {
      if (open > version.config.limits.requests) throw new Refusal('busy')
      await act(version)
    } catch (error) {
      const known = error instanceof VerifyError || error instanceof Refusal
      const refusal = known ? error : new Refusal('internal', { cause: error })
      if (refusal instanceof Refusal) {
        const address = request.socket.remoteAddress ?? ''
        report({ type: 'gate_refused', code: refusal.code, address, cause: refusal.cause })
      }
      refuse(request, response, refusal, proxy)
    } finally {
      open -= 1
      progress.emit('ended')
    }
  }

  return Object.freeze({
    handle: (request: InboundRequest, response: InboundResponse, expectsContinue = false) =>
      guarded(request, response, (version) =>
        serve(request, response, { version, expectsContinue }),
      ),

    authorize: (request: InboundRequest, response: InboundResponse) =>
      guarded(
        request,
        response,
        (version) => authorize(request, response, version),
        current.config.forwardAuth?.proxy,
      ),

    async handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
      socket.on('error', () => {})
      const response = new ServerResponse(request)
      response.assignSocket(socket as Socket)
      response.shouldKeepAlive = false
      response.once('finish', () => {
        if (response.statusCode !== 101) (socket as Socket).destroySoon()
      })
      const upgrade = { socket, head, response }
      await guarded(request, response, (version) =>
        serve(request, response, { version, expectsContinue: false, upgrade }),
      )
    },

    replace(next: Pick<GateOptions, 'config' | 'keys' | 'files'>): void {
      const before = current
      current = version(next)
      closeAgents(before)
    },

    keySet: () => current.keySet,

    close: () => closeAgents(current),

    async allEnded() {
      while (open > 0) await once(progress, 'ended')
    },
  })
}

type Serving = Readonly<{
  version: Version
  expectsContinue: boolean
  upgrade?: Readonly<{ socket: Duplex; head: Buffer; response: ServerResponse }>
}>

/** Connections in use end with their requests; those that are kept for later end now. */
function closeAgents({ applications }: Version): void {
  for (const { upstream } of applications.values()) {
    for (const sockets of Object.values(upstream.agent.freeSockets)) {
      for (const socket of sockets ?? []) socket.destroy()
    }
    upstream.agent.maxFreeSockets = 0
  }
}

/** The host allow-list: a request's `Host` is one of these, or the request is refused. */
function hostsOf(origin: string): string[] {
  const { host, hostname, port, protocol } = new URL(origin)
  // Of an origin without a port both spellings are the same (RFC 9110 section 4.2.3).
  return port === '' ? [host, `${hostname}:${protocol === 'https:' ? 443 : 80}`] : [host]
}

function shareOf(fields: readonly string[], limitBytes: number): number {
  const length = announcedLength(fields)
  return length === undefined ? limitBytes : Math.min(length, limitBytes)
}

function unread(fields: readonly string[]): Body {
  const length = announcedLength(fields)
  return length === 0 ? { kind: 'none' } : { kind: 'stream', begun: Buffer.alloc(0), length }
}

type ToSend = Readonly<{
  entered: Entered
  application: Application
  verified: Verified | undefined
  body: Body
  version: Version
  nowMs: number
}>

/** What the application gets: fields that pass, what the gate knows, and its assertion. */
function outgoingOf(toSend: ToSend): Outgoing {
  const { entered, application, verified, body } = toSend
  const { method, target, fields } = entered
  const url = new URL(application.config.origin)
  const sent = [
    ...['Host', url.host],
    ...passingFields(fields, application.requestFields),
    ...['X-Forwarded-For', entered.address],
    ...['X-Forwarded-Host', url.host, 'X-Forwarded-Proto', url.protocol.slice(0, -1)],
    ...['Via', `${entered.protocol} holdfast-gate`],
  ]
  return {
    method,
    target: target.path + target.query,
    fields: [...sent, ...identityFields(toSend, sent)],
    body,
    trailers: application.trailers,
    answerFields: answerFieldsOf(verified),
  }
}

const answerFieldsOf = (verified: Verified | undefined) =>
  Object.entries(verified?.responseHeaders ?? {}).flat()

/** How the application learns who asks; `sent` are the other fields of the request. */
function identityFields(
  { entered, application, verified, body, version, nowMs }: ToSend,
  sent: readonly string[],
): string[] {
  const { config, audience } = application
  const { method, target } = entered
  const identity = verified && identityOf(verified, config.claims)
  if (config.mode === 'pass') return credentialFields(entered)
  if (config.mode === 'plain') return plainFields(identity)
  const [key] = version.keys
  if (key === undefined) throw new TypeError('a gate that signs needs a key')
  const targetUri = config.origin + target.path + target.query
  const bytes = body.kind === 'read' ? body.bytes : Buffer.alloc(0)
  const digest = body.kind === 'stream' ? undefined : hash('sha256', bytes, 'buffer')
  const lifetimeS = version.config.signing?.lifetimeS ?? 10
  const toSign = { method, targetUri, fields: sent, audience, identity, digest }
  return signedFields(toSign, key, { nowMs, lifetimeS })
}

/** The client's own credentials, and what the gate has seen of its connection, for an application that verifies. */
function credentialFields({ fields, certificate, tokenBinding }: Entered): string[] {
  const own = ['authorization', 'dpop', 'signature', 'signature-input', 'content-digest']
  return [
    ...own.flatMap((name) => valuesOf(fields, name).flatMap((value) => [name, value])),
    // RFC 9440 section 2.2.
    ...(certificate ? ['Client-Cert', `:${certificate.certificate.raw.toString('base64')}:`] : []),
    ...forwardTokenBinding([], tokenBinding),
  ]
}

/** Answers a request that does not pass. A body that was not read ends the connection. */
function refuse(
  request: InboundRequest,
  response: InboundResponse,
  refusal: VerifyError | Refusal,
  proxy: ProxyKind | undefined,
): void {
  if (response.headersSent) {
    response.destroy()
    return
  }
  const { message } = refusal
  const status = proxy === undefined ? refusal.status : statusFor(proxy, refusal.status)
  const isVerify = refusal instanceof VerifyError
  const error = isVerify ? (refusal.error ?? 'invalid_token') : refusal.code
  const body = JSON.stringify({ error, error_description: message })
  response.statusCode = status
  response.setHeader('Content-Type', 'application/json')
  response.setHeader('Cache-Control', 'no-store')
  if (isVerify) {
    response.setHeader('Access-Control-Expose-Headers', 'WWW-Authenticate, DPoP-Nonce')
    const challenges = [...refusal.challenges]
    // nginx before 1.23.0 passes on one field only.
    const shown = proxy === undefined ? challenges : [challenges.join(', ')]
    if (challenges.length > 0) response.setHeader('WWW-Authenticate', shown)
    if (refusal.dpopNonce !== undefined) response.setHeader('DPoP-Nonce', refusal.dpopNonce)
  }
  if (status === 503) response.setHeader('Retry-After', '1')
  const hasBody = announcedLength(request.rawHeaders) !== 0
  // In HTTP/2 the end of the response ends the request, and the connection continues.
  if (!hasBody || request.complete || request.httpVersionMajor === 2) {
    response.end(body)
    return
  }
  response.setHeader('Connection', 'close')
  response.setHeader('Content-Length', Buffer.byteLength(body))
  response.write(body)
  if (request.headers.expect === undefined) endAfterBody(request, response)
  else response.end()
}

/** A client that is cut off while it sends can miss the answer: so much of a body is read first. */
const lingering = { bytes: 1_048_576, milliseconds: 1000 }

function endAfterBody(request: InboundRequest, response: InboundResponse): void {
  let left = lingering.bytes
  const end = () => {
    clearTimeout(timer)
    request.off('data', count)
    response.end()
  }
  const count = (chunk: Buffer) => {
    left -= chunk.length
    if (left < 0) end()
  }
  const timer = setTimeout(end, lingering.milliseconds)
  request.on('error', end).once('end', end).once('close', end).on('data', count)
}
