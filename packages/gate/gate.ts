/** The way of a request: edge, rule, proof, body, assertion, upstream. */
import { hash, type KeyObject } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { type IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import {
  createMemoryReplayStore,
  type Fetch,
  type ReplayStore,
  VerifyError,
} from '@holdfast/verify'
import type { GateIdentity } from '@holdfast/verify/gate'
import { forwardTokenBinding } from '@holdfast/verify/token-binding-headers'
import { type Application, createApplication, type UpstreamFiles } from './application.ts'
import { announcedLength, BodyBudget, readBody } from './body.ts'
import { type Admission, admit as admitBrowser, isInGroups } from './browser/admission.ts'
import type { Answer } from './browser/answers.ts'
import { keepForm, serveBrowser } from './browser/browsers.ts'
import { createSealer } from './browser/sealing.ts'
import {
  closedOnFailure,
  createMemorySessionStore,
  RecentSessions,
  type SessionStore,
} from './browser/sessions.ts'
import { type BrowserEnvironment, type Side, Starts } from './browser/side.ts'
import type { Secrets } from './browser/upstream-tokens.ts'
import type { Config } from './config.ts'
import { createEdge, type Edge, type Entered } from './edge.ts'
import { type GateEventListener, quietly } from './events.ts'
import type { InboundRequest, InboundResponse } from './exchange.ts'
import { type Body, forward, forwardUpgrade, type Outgoing } from './forward.ts'
import { forProxy, ownRequest, type ProxyKind, readAsked, statusFor } from './forward-auth.ts'
import { passingFields, valuesOf } from './headers.ts'
import { type GateKey, identityOf, plainFields, sessionIdentity, signedFields } from './identity.ts'
import { peersOf } from './peers.ts'
import type { Rule } from './policy.ts'
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
  /** The keys of each application's `openid.clientKeyFile`, in order. */
  clientKeys?: readonly (KeyObject | undefined)[]
  /** Contents of `browsers.secretFiles`. */
  secrets?: readonly Uint8Array[]
  /** Where sessions of browsers are kept. Default: in the memory of this process. */
  sessions?: SessionStore
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
  replace(next: Reloaded): void
  /** Closes connections to applications that no request uses. */
  close(): void
  /** Ends when every request has ended, upgraded ones included. */
  allEnded(): Promise<void>
}>

/** What can be replaced while a gate runs. */
export type Reloaded = Pick<GateOptions, 'config' | 'keys' | 'files' | 'clientKeys' | 'secrets'>

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
  const { limits } = options.config
  const sessions = closedOnFailure(
    options.sessions ?? createMemorySessionStore({ capacity: limits.sessions }),
  )
  const staleMs = (options.config.browsers?.staleS ?? 5) * 1000
  const recent = new RecentSessions({ staleMs, limit: 20_000 })
  const starts = new Starts(limits.signIns)
  const budget = new BodyBudget(options.config.limits.bufferedBytes)
  const progress = new EventEmitter()
  let open = 0

  function version({ config, keys, files, clientKeys = [], secrets = [] }: Reloaded): Version {
    const browsers: BrowserEnvironment | undefined =
      secrets.length === 0
        ? undefined
        : {
            ...{ sealer: createSealer(secrets), sessions, recent, replay, report, starts },
            ...{ now, fetch },
          }
    const made = config.applications.map((each, at) =>
      createApplication(each, config, {
        replay,
        files: files[at] ?? {},
        clientKey: clientKeys[at],
        browsers,
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
  async function admit(
    entered: Entered,
    { applications }: Version,
    { isUpgrade, readText }: Pick<Asking, 'isUpgrade' | 'readText'>,
  ): Promise<Admitted> {
    const application = applications.get(entered.host)
    if (application === undefined) throw new Refusal('unknown_host')
    const { side } = application
    const own = side && !isUpgrade && (await serveBrowser(side, entered, readText))
    if (own) return { kind: 'answer', application, answer: own }
    const { path } = entered.target
    if (path === keySetPath && /^(?:GET|HEAD)$/.test(entered.method)) {
      return { kind: 'key_set', application }
    }
    const rule = application.policy(entered.method, path)
    if (rule.access === 'public') return { kind: 'pass', application, ...anonymous }
    // A request with a token is one of an API, whatever cookies come with it.
    if (side && valuesOf(entered.fields, 'authorization').length === 0) {
      const admission = await admitBrowser(side, entered, { rule, isUpgrade })
      return admittedBrowser({ application, side, admission })
    }
    return admitToken(application, entered, rule)
  }

  async function serve(
    request: InboundRequest,
    response: InboundResponse,
    { version, upgrade, expectsContinue }: Serving,
  ): Promise<void> {
    const entered = version.edge(ownRequest(request))
    const readText = async (limitBytes: number) => {
      budget.take(limitBytes)
      try {
        if (expectsContinue) response.writeContinue()
        const body = await readBody(request, entered.fields, { limitBytes, larger: 'refuse' })
        return body.kind === 'read' ? body.bytes.toString('utf8') : ''
      } finally {
        budget.give(limitBytes)
      }
    }
    const admitted = await admit(entered, version, { isUpgrade: upgrade !== undefined, readText })
    const { application } = admitted
    if (admitted.kind === 'key_set') {
      response.writeHead(200, { 'Content-Type': 'application/jwk-set+json' }).end(version.keySet)
      return
    }
    if (admitted.kind === 'keep') {
      write(request, response, await keepForm(admitted.side, entered, readText))
      return
    }
    if (admitted.kind === 'answer') {
      write(request, response, admitted.answer)
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
      const outgoing = await outgoingOf({ entered, admitted, body, version, nowMs: now() })
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
    const readText = () => Promise.reject(new Refusal('asked'))
    const isUpgrade = valuesOf(entered.fields, 'upgrade').length > 0
    const admitted = await admit(entered, version, { isUpgrade, readText })
    const { application } = admitted
    if (admitted.kind === 'key_set') throw new Refusal('asked')
    if (admitted.kind === 'keep') throw new Refusal('form_too_large')
    if (admitted.kind === 'answer') {
      write(request, response, forProxy(forwardAuth.proxy, admitted.answer))
      return
    }
    const hasBody = !/^(?:GET|HEAD|DELETE|OPTIONS)$/.test(entered.method)
    const body: Body = hasBody
      ? { kind: 'stream', begun: Buffer.alloc(0), length: undefined }
      : { kind: 'none' }
    const sent = passingFields(entered.fields, application.requestFields)
    const { origin, mode } = application.config
    const toSend = { entered, admitted, body, version, nowMs: now() }
    const isOwnToken = mode === 'pass' && admitted.secrets === undefined
    const fields = isOwnToken ? [] : await identityFields(toSend, sent)
    const answered = [...fields, ...admitted.answerFields, 'Content-Length', '0']
    response.writeHead(200, answered).end()
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

    replace(next: Reloaded): void {
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

/** How a request is to be admitted. */
type Asking = Readonly<{ isUpgrade: boolean; readText: (limitBytes: number) => Promise<string> }>

/** What the gate knows of who asks. */
type Known = Readonly<{
  identity: GateIdentity | undefined
  /** Of the browser's session, for an application that gets its access token. */
  secrets: Secrets | undefined
  answerFields: readonly string[]
}>

const anonymous: Known = Object.freeze({
  identity: undefined,
  secrets: undefined,
  answerFields: [],
})

type Passed = Readonly<{ kind: 'pass'; application: Application }> & Known

/** What was decided about a request. */
type Admitted =
  | Passed
  | Readonly<{ kind: 'key_set'; application: Application }>
  | Readonly<{ kind: 'answer'; application: Application; answer: Answer }>
  | Readonly<{ kind: 'keep'; application: Application; side: Side }>

/** Verifies the access token of a request, and what its route asks for. */
async function admitToken(
  application: Application,
  entered: Entered,
  rule: Extract<Rule, { access: 'bound' }>,
): Promise<Passed> {
  const { verifier, config } = application
  const { method, target, fields, certificate, tokenBinding } = entered
  const verified = await verifier.verify({
    method,
    url: target.path + target.query,
    headers: fields,
    ...(certificate && { certificate }),
    ...(tokenBinding && {
      tokenBinding: { providedId: Buffer.from(tokenBinding.provided.id, 'base64url') },
    }),
  })
  verifier.checkRequirements(verified, rule.requirements)
  if (!isInGroups(verified.claims, rule.groups)) throw new Refusal('groups')
  return {
    ...{ kind: 'pass', application, secrets: undefined },
    identity: identityOf(verified, config.claims),
    answerFields: Object.entries(verified.responseHeaders ?? {}).flat(),
  }
}

function admittedBrowser({
  application,
  side,
  admission,
}: Readonly<{ application: Application; side: Side; admission: Admission }>): Admitted {
  if (admission.kind === 'keep') return { kind: 'keep', application, side }
  if (admission.kind === 'answer') return { ...admission, application }
  const { session, isBound, secrets } = admission
  const identity = sessionIdentity(session.claims, isBound, application.config.claims)
  return { kind: 'pass', application, identity, secrets, answerFields: [] }
}

type ToSend = Readonly<{
  entered: Entered
  admitted: Passed
  body: Body
  version: Version
  nowMs: number
}>

/** What the application gets: fields that pass, what the gate knows, and its assertion. */
async function outgoingOf(toSend: ToSend): Promise<Outgoing> {
  const { entered, admitted, body } = toSend
  const { application, answerFields } = admitted
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
    fields: [...sent, ...(await identityFields(toSend, sent))],
    body,
    trailers: application.trailers,
    answerFields,
  }
}

/** How the application learns who asks; `sent` are the other fields of the request. */
async function identityFields(
  { entered, admitted, body, version, nowMs }: ToSend,
  sent: readonly string[],
): Promise<string[]> {
  const { application, identity, secrets } = admitted
  const { config, audience, side, upstream } = application
  const { method, target } = entered
  if (secrets !== undefined && side !== undefined) {
    const url = upstream.url.origin + target.path
    return side.tokens.fieldsFor(secrets, { method, url, nonce: undefined })
  }
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

/** Writes an answer of the gate itself. A body that was not read ends a connection of HTTP/1.1. */
function write(request: InboundRequest, response: InboundResponse, answer: Answer): void {
  const { status, fields, body } = answer
  const isUnread =
    request.httpVersionMajor === 1 && !request.complete && announcedLength(request.rawHeaders) !== 0
  const length = ['Content-Length', String(Buffer.byteLength(body))]
  response.writeHead(status, [...fields, ...length, ...(isUnread ? ['Connection', 'close'] : [])])
  if (request.method !== 'HEAD' && body !== '') response.write(body)
  if (isUnread && request.headers.expect === undefined) endAfterBody(request, response)
  else response.end()
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
