/** The way of a request: edge, rule, proof, body, assertion, upstream. */
import { type KeyObject, randomUUID } from 'node:crypto'
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
import { admit } from './admit.ts'
import { type Application, createApplication, type UpstreamFiles } from './application.ts'
import { announcedLength, BodyBudget, readBody } from './body.ts'
import { keepForm } from './browser/browsers.ts'
import { createSealer } from './browser/sealing.ts'
import {
  closedOnFailure,
  createMemorySessionStore,
  RecentSessions,
  type SessionStore,
} from './browser/sessions.ts'
import { type BrowserEnvironment, Places } from './browser/side.ts'
import type { Config } from './config.ts'
import { type Asked, createEdge, type Edge, type Entered } from './edge.ts'
import { type GateEventListener, quietly } from './events.ts'
import type { InboundRequest, InboundResponse } from './exchange.ts'
import { type Body, forward, forwardUpgrade, type HoldStream } from './forward.ts'
import {
  type Decision,
  forProxy,
  ownRequest,
  type ProxyKind,
  passed,
  readAsked,
} from './forward-auth.ts'
import { passingFields, valuesOf } from './headers.ts'
import type { GateKey } from './identity.ts'
import { identityFields, outgoingOf, ownCredentials } from './outgoing.ts'
import { peersOf } from './peers.ts'
import { Refusal } from './refusal.ts'
import { refusalAnswer, refuse, write } from './respond.ts'
import { createStreams } from './streams.ts'
import {
  outgoingTrace,
  routeOf,
  type TraceFields,
  traced,
  traceFieldsOf,
  traceRequest,
} from './traces.ts'

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
  /** Decides about a request that a trusted proxy asks about, and what it is answered. */
  decide(read: (proxy: ProxyKind) => Asked, address: string | undefined): Promise<Decision>
  /** The public keys, as JSON. */
  keySet(): string
  /** Takes another configuration for requests that begin from now on. */
  replace(next: Reloaded): void
  /** Closes connections to applications that no request uses. */
  close(): void
  /** Whether an address is one of `trustedProxies`. */
  isProxy(address: string | undefined): boolean
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
  const places = { starts: new Places(limits.signIns), ends: new Places(limits.signIns) }
  const streams = createStreams({ now, report })
  const budget = new BodyBudget(options.config.limits.bufferedBytes)
  const progress = new EventEmitter()
  let open = 0

  function version({ config, keys, files, clientKeys = [], secrets = [] }: Reloaded): Version {
    const browsers: BrowserEnvironment | undefined =
      secrets.length === 0
        ? undefined
        : {
            ...{ sealer: createSealer(secrets), sessions, recent, replay, report },
            ...{ streams, ...places },
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

  async function serve(
    request: InboundRequest,
    response: InboundResponse,
    serving: Serving,
  ): Promise<void> {
    const { version, requestId } = serving
    const entered = version.edge(ownRequest(request), requestId)
    const { method, target, host, fields } = entered
    const asked = { method, path: target.path }
    const { route, continues } = routeOf(asked, version.applications.get(host))
    const trace = continues ? traceFieldsOf(fields) : {}
    await traceRequest(
      { method, route, from: trace },
      () => serveEntered(request, response, { ...serving, entered, trace }),
      (error) => (isRefusal(error) ? error.status : response.statusCode),
    )
  }

  async function serveEntered(
    request: InboundRequest,
    response: InboundResponse,
    { version, entered, trace, upgrade, expectsContinue }: Serving & Entering,
  ): Promise<void> {
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
    const asking = { isUpgrade: upgrade !== undefined, readText, report }
    const admitted = await traced('check', () => admit(entered, version.applications, asking))
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
      const { holder } = admitted
      const hold: HoldStream = (end) => (holder ? streams.hold(holder, end) : () => {})
      const toSend = { entered, admitted, body, trace, ...signingOf(version) }
      await traced('upstream', async () => {
        const outgoing = await outgoingOf({ ...toSend, nowMs: now() })
        if (upgrade) await forwardUpgrade(upgrade, application.upstream, outgoing, hold)
        else await forward(request, response, application.upstream, outgoing, hold)
      })
    } finally {
      budget.give(share)
    }
    const { origin, mode } = application.config
    report({ type: 'forwarded', application: origin, mode, status: response.statusCode })
  }

  /** Decides about a request that a proxy asks about; the body stays at the proxy. */
  async function decideAsked(
    read: () => Asked,
    { version, requestId }: Pick<Serving, 'version' | 'requestId'>,
  ): Promise<Decision> {
    const entered = version.edge(read(), requestId)
    const readText = () => Promise.reject(new Refusal('asked'))
    // Not every proxy passes `Upgrade` on. No script of a page can write the key.
    const isUpgrade = valuesOf(entered.fields, 'sec-websocket-key').length > 0
    const asking = { isUpgrade, readText, report, isAsked: true }
    const admitted = await admit(entered, version.applications, asking)
    const { application } = admitted
    if (admitted.kind === 'key_set') throw new Refusal('not_routed')
    if (admitted.kind === 'keep') throw new Refusal('form_too_large')
    if (admitted.kind === 'answer') return admitted
    const hasBody = !/^(?:GET|HEAD|DELETE|OPTIONS)$/.test(entered.method)
    const body: Body = hasBody
      ? { kind: 'stream', begun: Buffer.alloc(0), length: undefined }
      : { kind: 'none' }
    const sent = passingFields(entered.fields, application.requestFields)
    const { origin, mode } = application.config
    const toSend = { entered, admitted, body, ...signingOf(version), nowMs: now() }
    const isOwnToken = mode === 'pass' && admitted.secrets === undefined
    // The cookies of the gate are of no concern to an application.
    const cookie = valuesOf(sent, 'cookie').join('; ')
    const cookies = cookie === '' ? [] : ['Cookie', cookie]
    const fields = isOwnToken ? cookies : [...(await identityFields(toSend, sent)), ...cookies]
    const trace = outgoingTrace(traceFieldsOf(entered.fields))
    const own = isOwnToken ? ownCredentials(entered.fields) : []
    const kept = [...sent, ...trace, ...fields, ...own]
    report({ type: 'forwarded', application: origin, mode, status: 200 })
    return { kind: 'pass', fields, kept, answerFields: admitted.answerFields }
  }

  async function decide(
    read: (proxy: ProxyKind) => Asked,
    address: string | undefined,
  ): Promise<Decision> {
    const proxy = current.config.forwardAuth?.proxy
    let decision: Decision | undefined
    await guarded(
      {
        address,
        refuse: (refusal) => {
          decision = { kind: 'answer', answer: refusalAnswer(refusal, proxy) }
        },
      },
      async (serving) => {
        const isAsking = proxy !== undefined && serving.version.isTrusted(address)
        if (!isAsking) throw new Refusal('peer')
        decision = await decideAsked(() => read(proxy), serving)
      },
    )
    if (decision === undefined) throw new TypeError('nothing was decided')
    return proxy && decision.kind === 'answer'
      ? { ...decision, answer: forProxy(proxy, decision.answer) }
      : decision
  }

  /** Counts a request, and has it refused where it does not pass. */
  async function guarded(
    { address = '', refuse }: Guarded,
    act: (serving: Pick<Serving, 'version' | 'requestId'>) => Promise<void>,
  ): Promise<void> {
    const version = current
    const requestId = randomUUID()
    open += 1
    try {
      if (open > version.config.limits.requests) throw new Refusal('busy')
      await act({ version, requestId })
    } catch (error) {
      const refusal = isRefusal(error) ? error : new Refusal('internal', { cause: error })
      if (refusal instanceof Refusal) {
        const { code, cause } = refusal
        report({ type: 'gate_refused', requestId, code, address, cause })
      }
      refuse(refusal)
    } finally {
      open -= 1
      progress.emit('ended')
    }
  }

  const exchange = (request: InboundRequest, response: InboundResponse): Guarded => ({
    address: request.socket.remoteAddress,
    refuse: (refusal) => refuse(request, response, refusal),
  })

  return Object.freeze({
    handle: (request: InboundRequest, response: InboundResponse, expectsContinue = false) =>
      guarded(exchange(request, response), (serving) =>
        serve(request, response, { ...serving, expectsContinue }),
      ),

    async authorize(request: InboundRequest, response: InboundResponse): Promise<void> {
      const read = (proxy: ProxyKind) => readAsked(request, proxy)
      const decision = await decide(read, request.socket.remoteAddress)
      write(
        request,
        response,
        decision.kind === 'pass'
          ? passed(decision, current.config.forwardAuth?.proxy)
          : decision.answer,
      )
    },

    decide,

    async handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
      socket.on('error', () => {})
      const response = new ServerResponse(request)
      response.assignSocket(socket as Socket)
      response.shouldKeepAlive = false
      response.once('finish', () => {
        if (response.statusCode !== 101) (socket as Socket).destroySoon()
      })
      const upgrade = { socket, head, response }
      await guarded(exchange(request, response), (serving) =>
        serve(request, response, { ...serving, expectsContinue: false, upgrade }),
      )
    },

    replace(next: Reloaded): void {
      const before = current
      current = version(next)
      closeAgents(before)
    },

    keySet: () => current.keySet,

    close() {
      closeAgents(current)
      streams[Symbol.dispose]()
    },

    isProxy: (address: string | undefined) => current.isTrusted(address),

    async allEnded() {
      while (open > 0) await once(progress, 'ended')
    },
  })
}

/** Whose request it is, and how it is refused. */
type Guarded = Readonly<{
  address: string | undefined
  refuse: (refusal: VerifyError | Refusal) => void
}>

type Entering = Readonly<{ entered: Entered; trace: TraceFields }>

const isRefusal = (error: unknown) => error instanceof VerifyError || error instanceof Refusal

type Serving = Readonly<{
  version: Version
  requestId: string
  expectsContinue: boolean
  upgrade?: Readonly<{ socket: Duplex; head: Buffer; response: ServerResponse }>
}>

const signingOf = ({ keys: [key], config }: Version) => ({
  key,
  lifetimeS: config.signing?.lifetimeS ?? 10,
})

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
