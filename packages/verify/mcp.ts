/**
 * Guards a server of the Model Context Protocol (Streamable HTTP): protected resource metadata
 * (RFC 9728), challenges that say which scopes to ask for, DPoP with nonces, scopes of tools, and
 * what scripts of other origins need (CORS).
 */
import { randomBytes } from 'node:crypto'
import { type Answer, admit, admitFurther, toResponse } from './answer.ts'
import { createDPoPNonces } from './dpop-nonce.ts'
import type { Leases } from './leases.ts'
import { flag, optionalFunction, optionalMethods, textList } from './lib/check.ts'
import { isObject } from './lib/json.ts'
import { pathOf } from './lib/public-uri.ts'
import {
  type NodeRequest,
  type NodeResponse,
  nodeRequest,
  writeAnswer,
  writeHeaders,
} from './node.ts'
import type { DPoPOptions, VerifierOptions } from './options.ts'
import { createVerifier, type Verified, type Verifier, type VerifyRequest } from './verifier.ts'

/** Options of {@link createMcpGuard}: those of a verifier, but for what MCP decides. */
export type McpGuardOptions = Omit<
  VerifierOptions,
  'audience' | 'allowBearer' | 'tokenLocations' | 'allowUnboundTokenInQuery' | 'challengeScopes'
> &
  Readonly<{
    /** URL of the MCP endpoint: what clients send as `resource`, and what tokens name in `aud`. */
    resource: string
    /** Scopes that every request needs, and that challenges tell a client to ask for. */
    scopes?: readonly string[]
    /** Further scopes that a call of a tool needs, by the tool's name. */
    tools?: Readonly<Record<string, readonly string[]>>
    /**
     * Accepts access tokens that are bound to nothing, for clients that do not know DPoP yet. Anyone
     * who reads such a token in a file, a log or a prompt can use it. Warns at the start. Default
     * false.
     */
    dangerouslyAcceptBearerTokens?: boolean
    /** Ends a response that stays open when its token ends. Default: it may continue. */
    leases?: Leases
    /** Receives warnings. Default `process.emitWarning`. */
    warn?: (message: string) => void
  }>

/** What MCP decides. Anything else is checked by `createVerifier`. */
const decided = ['audience', 'allowBearer', 'tokenLocations', 'allowUnboundTokenInQuery']

/** What the handlers of the MCP SDKs know as `authInfo`. */
export type McpAuthInfo = Readonly<{
  /** Empty: a server must not pass on the token that it has received (MCP, token passthrough). */
  token: ''
  clientId: string
  scopes: string[]
  /** Seconds since the epoch. */
  expiresAt?: number
  resource: URL
  extra: Readonly<{ verified: Verified }>
}>

/** What is needed of a request of `node:http`, connect or express. */
export type McpRequest = NodeRequest & { auth?: unknown; body?: unknown } & AsyncIterable<unknown>

type McpResponse = NodeResponse & { once(event: 'close', listener: () => void): unknown }
type Next = (error?: unknown) => void

/** Either a response to give at once, or who is calling; `body` is the parsed message, if it was read. */
export type McpAdmission =
  | Readonly<{ response: Response; authInfo?: undefined }>
  | Readonly<{
      response: undefined
      authInfo: McpAuthInfo
      body: unknown
      /** For the response of the handler. */
      headers: Readonly<Record<string, string>>
    }>

/** Made by {@link createMcpGuard}. */
export type McpGuard = Readonly<{
  /**
   * Middleware for express and connect: guards every request that reaches it, whatever its path,
   * and answers those for the metadata and preflight requests. `req.auth` is an
   * {@link McpAuthInfo}, and `req.body` the parsed message where `tools` are named.
   */
  middleware(request: McpRequest, response: McpResponse, next: Next): void
  /** Middleware that answers requests for the metadata and lets all others pass, unguarded. */
  metadata(request: NodeRequest, response: NodeResponse, next: Next): void
  /** For servers that turn a fetch `Request` into a `Response`. */
  fetch(request: Request): Promise<McpAdmission>
  readonly verifier: Verifier
}>

/** As large as a message may be in the official SDKs. */
const maxMessageBytes = 4 * 1024 * 1024

/** No cookie is involved, so that every origin may ask: it has to bring a token and a proof. */
const cors = Object.freeze({
  'Access-Control-Allow-Origin': '*',
  'Access-Control-Expose-Headers':
    'WWW-Authenticate, DPoP-Nonce, Mcp-Session-Id, Mcp-Protocol-Version',
})
const preflight: Answer = Object.freeze({
  status: 204,
  headers: {
    ...cors,
    'Access-Control-Allow-Methods': 'GET, POST, DELETE',
    // The asterisk does not stand for Authorization (Fetch, section 3.3.3).
    'Access-Control-Allow-Headers': 'Authorization, *',
    'Access-Control-Max-Age': '7200',
  },
  body: '',
})

/**
 * Makes the guard of one MCP server.
 *
 * A request needs a token for exactly this `resource` that is bound to a key, the key's proof with a
 * nonce of this server, `scopes`, and for `tools/call` those of the tool. It does NOT know which tools
 * exist: a tool that is not named needs `scopes` alone. It does NOT look at `Origin`.
 *
 * Several guards, for several resources and issuers, live in one process: mount each
 * `middleware` at its path, and each `metadata` before it.
 *
 * @example
 * ```ts
 * const guard = createMcpGuard({
 *   issuer: 'https://as.example',
 *   resource: 'https://mcp.example/mcp',
 *   scopes: ['mcp:tools'],
 * })
 * app.use(guard.middleware)
 * ```
 *
 * @throws TypeError when an option is missing, malformed or contradicts another one.
 */
export function createMcpGuard(options: McpGuardOptions): McpGuard {
  const { verifier, scopes, tools, leases, resource } = checkOptions(options)

  /** Scopes of a message, or of several that come together. */
  function scopesOf(body: unknown): readonly string[] {
    const needed = new Set(scopes)
    for (const message of [body].flat()) {
      if (!isObject(message) || message.method !== 'tools/call') continue
      const name = isObject(message.params) ? message.params.name : undefined
      for (const scope of (typeof name === 'string' && tools.get(name)) || []) needed.add(scope)
    }
    return [...needed]
  }

  /** The answer to give, or who is calling. */
  async function guard(
    request: VerifyRequest,
    readBody: () => Promise<unknown>,
  ): Promise<Readonly<{ answer: Answer } | { answer?: undefined; auth: Verified; body: unknown }>> {
    if (request.method === 'OPTIONS') return { answer: preflight }
    const admission = await admit(verifier, request, () => undefined)
    if (admission.answer !== undefined) return { answer: withCors(admission.answer) }
    // Only from here on is a body read: it costs memory.
    const body = await readBody()
    const further = await admitFurther(verifier, admission.auth, { scopes: scopesOf(body) })
    if (further.answer !== undefined) return { answer: withCors(further.answer) }
    return { auth: further.auth as Verified, body }
  }

  const authInfo = (verified: Verified): McpAuthInfo => {
    const { client_id: clientId = '', scope = '', exp } = verified.claims
    return Object.freeze({
      token: '',
      clientId,
      scopes: scope.split(' ').filter((each) => each !== ''),
      ...(exp !== undefined && { expiresAt: exp }),
      resource: new URL(resource),
      extra: Object.freeze({ verified }),
    })
  }

  async function admitNode(request: McpRequest, response: McpResponse): Promise<boolean> {
    const needsBody = tools.size > 0 && request.method === 'POST' && request.body === undefined
    const readBody = async () => (needsBody ? parse(await readAll(request)) : request.body)
    const admitted = await guard(nodeRequest(request), readBody)
    if (admitted.answer !== undefined) {
      writeAnswer(response, admitted.answer)
      return false
    }
    const { auth, body } = admitted
    // `_body` tells the parsers of express that nothing is left to read.
    if (needsBody) Object.assign(request, { body, _body: true })
    request.auth = authInfo(auth)
    for (const [name, value] of Object.entries(cors)) response.setHeader(name, value)
    writeHeaders(response, auth)
    const lease = leases?.hold(auth, () => response.end(''))
    if (lease !== undefined) response.once('close', lease.release)
    return true
  }

  async function answerMetadata(request: NodeRequest): Promise<Answer | undefined> {
    const plain = nodeRequest(request)
    if (pathOf(plain.url) !== verifier.metadata?.path) return undefined
    if (plain.method === 'OPTIONS') return preflight
    const { answer } = await admit(verifier, plain, () => undefined)
    return answer && withCors(answer)
  }

  return Object.freeze({
    verifier,
    middleware(request: McpRequest, response: McpResponse, next: Next): void {
      admitNode(request, response)
        .then((admitted) => admitted && next())
        .catch((error) => failed(error, response, next))
    },
    metadata(request: NodeRequest, response: NodeResponse, next: Next): void {
      answerMetadata(request)
        .then((answer) => (answer ? writeAnswer(response, answer) : next()))
        .catch(next)
    },
    async fetch(request: Request): Promise<McpAdmission> {
      const needsBody = tools.size > 0 && request.method === 'POST'
      const readBody = async () =>
        needsBody ? parse(await readAll(request.body ?? [])) : undefined
      const { method, url, headers } = request
      try {
        const admitted = await guard({ method, url, headers }, readBody)
        if (admitted.answer !== undefined) {
          return { response: toResponse(admitted.answer) }
        }
        const { auth, body } = admitted
        const more = { ...cors, ...auth.responseHeaders }
        return { response: undefined, authInfo: authInfo(auth), body, headers: more }
      } catch (error) {
        if (!(error instanceof MessageError)) throw error
        return { response: toResponse(withCors(error.answer)) }
      }
    },
  })
}

function checkOptions(options: McpGuardOptions) {
  if (!isObject(options)) throw new TypeError('options must be an object')
  for (const name of decided) {
    if (name in options) throw new TypeError(`options: ${JSON.stringify(name)} is not known`)
  }
  const { scopes, tools = {}, dangerouslyAcceptBearerTokens, leases, warn, ...rest } = options
  if (typeof options.resource !== 'string') throw new TypeError('resource is needed')
  for (const each of options.issuers ?? []) {
    if ('allowBearer' in each) throw new TypeError('issuers: "allowBearer" is not known')
  }
  if (options.mode === 'observe') throw new TypeError('mode: a guard does not only observe')
  optionalMethods('leases', leases, ['hold'])
  optionalFunction('warn', warn)
  const allowBearer = flag('dangerouslyAcceptBearerTokens', dangerouslyAcceptBearerTokens)
  if (allowBearer) {
    const warnOperator = warn ?? ((message: string) => process.emitWarning(message))
    warnOperator(
      `@holdfast/verify/mcp: ${options.resource} accepts access tokens that are bound to no key (dangerouslyAcceptBearerTokens). Anyone who reads such a token can use it.`,
    )
  }
  const required = scopes === undefined ? [] : textList('scopes', scopes)
  const byTool = checkTools(tools)
  const supported = [...new Set([...required, ...[...byTool.values()].flat()])]
  const verifier = createVerifier({
    ...rest,
    audience: options.resource,
    allowBearer,
    dpop: withNonces(rest),
    metadata: { ...(supported.length > 0 && { scopes_supported: supported }), ...rest.metadata },
    ...(required.length > 0 && { challengeScopes: required }),
  })
  return { verifier, scopes: required, tools: byTool, leases, resource: options.resource }
}

function checkTools(tools: unknown): ReadonlyMap<string, readonly string[]> {
  if (!isObject(tools)) throw new TypeError('tools must be an object')
  return new Map(
    Object.entries(tools).map(([name, scopes]) => [name, textList(`tools.${name}`, scopes)]),
  )
}

/** Nonces are the default here: without them a proof can be made long before it is used. */
function withNonces({ dpop, replicas = 1 }: Pick<VerifierOptions, 'dpop' | 'replicas'>) {
  if (dpop?.nonces !== undefined) return dpop
  if (replicas > 1) {
    throw new TypeError('replicas: more than one needs dpop.nonces with a secret that all share')
  }
  return { ...dpop, nonces: createDPoPNonces({ secrets: [randomBytes(32)] }) } satisfies DPoPOptions
}

/** A message that cannot be read, and the answer to it. */
class MessageError extends Error {
  override readonly name = 'MessageError'
  readonly answer: Answer

  /** @param code - of JSON-RPC 2.0 section 5.1. */
  constructor(status: 400 | 413, code: number, message: string) {
    super(message)
    const body = JSON.stringify({ jsonrpc: '2.0', error: { code, message }, id: null })
    this.answer = { status, headers: { 'Content-Type': 'application/json' }, body }
  }
}

async function readAll(chunks: AsyncIterable<unknown> | Iterable<unknown>): Promise<string> {
  const parts: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of chunks) {
    const part = typeof chunk === 'string' ? Buffer.from(chunk) : (chunk as Uint8Array)
    bytes += part.length
    if (bytes > maxMessageBytes) throw new MessageError(413, -32600, 'Message is too large')
    parts.push(part)
  }
  return Buffer.concat(parts).toString('utf8')
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new MessageError(400, -32700, 'Message is not JSON')
  }
}

function failed(error: unknown, response: NodeResponse, next: Next): void {
  if (error instanceof MessageError) writeAnswer(response, withCors(error.answer))
  else next(error)
}

function withCors({ status, headers, body }: Answer): Answer {
  return { status, headers: { ...headers, ...cors }, body }
}
