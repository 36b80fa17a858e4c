import { readFileSync } from 'node:fs'
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import https from 'node:https'
import { parseArgs } from 'node:util'
import { equip, tokenBindingOf } from '../../packages/token-binding-tls/index.ts'
import {
  createTokenBindingVerifier,
  fieldValues,
  TokenBindingError,
  type TokenBindingProof,
  type TokenBindingVerifier,
} from '../../packages/verify/token-binding.ts'
import { forwardTokenBinding } from '../../packages/verify/token-binding-headers.ts'

/*
 * A TLS terminating reverse proxy by draft-ietf-tokbind-ttrp-09: it checks Token Binding on its own
 * TLS connections and tells a backend the IDs. An example to read and to test backends with; it
 * has one backend, and neither limits nor logs.
 *
 * node src/demo/token-binding-terminator.ts --cert FILE --key FILE --backend http://127.0.0.1:3000
 *   [--port 8443] [--tls13]
 */

export interface TerminatorOptions {
  readonly tls: https.ServerOptions
  /** Where requests go, in plain HTTP: a link that nobody else can read or write. */
  readonly backend: URL
  readonly tls13Draft?: boolean
}

export function createTerminator({ tls, backend, tls13Draft }: TerminatorOptions): https.Server {
  const agent = new http.Agent({ keepAlive: true })
  const handle = (incoming: IncomingMessage, outgoing: ServerResponse) => {
    let proof: TokenBindingProof | undefined
    try {
      proof = prove(incoming)
    } catch (error) {
      if (!(error instanceof TokenBindingError)) throw error
      // RFC 8473 section 2. A message that cannot be checked goes no further.
      outgoing.writeHead(400, { 'Content-Type': 'text/plain', Connection: 'close' })
      outgoing.end(`Token Binding: ${error.code}\n`)
      return
    }
    forward(incoming, outgoing, { proof, backend, agent })
  }
  const server = equip(() => https.createServer(tls, handle), tls13Draft ? { tls13Draft } : {})
  return server.on('close', () => agent.destroy())
}

// One verifier for each TLS connection, which lets it remember what it has verified.
const verifiers = new WeakMap<object, TokenBindingVerifier>()

function prove({ socket, rawHeaders }: IncomingMessage): TokenBindingProof | undefined {
  let verify = verifiers.get(socket)
  if (verify === undefined) {
    const nothing = { negotiated: undefined, ekm: new Uint8Array(32) }
    verify = createTokenBindingVerifier(tokenBindingOf(socket) ?? nothing)
    verifiers.set(socket, verify)
  }
  return verify(fieldValues(rawHeaders, 'sec-token-binding'))
}

interface Forwarding {
  readonly proof: TokenBindingProof | undefined
  readonly backend: URL
  readonly agent: http.Agent
}

function forward(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  { proof, backend, agent }: Forwarding,
): void {
  const request = http.request(backend, {
    agent,
    method: incoming.method ?? 'GET',
    path: incoming.url ?? '/',
    // Connection fields go first: a client may name any header there to have it removed.
    headers: forwardTokenBinding(endToEnd(incoming.rawHeaders), proof),
  })
  request.on('response', (response) => {
    const headers = endToEnd(response.rawHeaders)
    outgoing.writeHead(response.statusCode ?? 502, response.statusMessage, headers)
    response.pipe(outgoing)
    response.on('error', () => outgoing.destroy())
  })
  request.on('error', () => {
    if (outgoing.headersSent) outgoing.destroy()
    else
      outgoing.writeHead(502, { 'Content-Type': 'text/plain' }).end('no answer from the backend\n')
  })
  outgoing.on('close', () => request.destroy())
  incoming.pipe(request)
}

const hopByHop = ['connection', 'keep-alive', 'proxy-connection', 'te', 'trailer', 'upgrade']

/** RFC 9110 section 7.6.1. Transfer-Encoding stays: node:http undoes it and does it again. */
function endToEnd(rawHeaders: readonly string[]): string[] {
  const named = fieldValues(rawHeaders, 'connection').flatMap((value) => value.split(','))
  const dropped = new Set([...hopByHop, ...named.map((name) => name.trim().toLowerCase())])
  // Without its framing, a body would be read as the next request.
  dropped.delete('transfer-encoding')
  dropped.delete('content-length')
  const kept: string[] = []
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const [name = '', value = ''] = [rawHeaders[index], rawHeaders[index + 1]]
    if (!dropped.has(name.toLowerCase())) kept.push(name, value)
  }
  return kept
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      cert: { type: 'string' },
      key: { type: 'string' },
      backend: { type: 'string' },
      port: { type: 'string', default: '8443' },
      tls13: { type: 'boolean', default: false },
    },
  })
  const { cert, key, backend, port, tls13 } = values
  if (cert === undefined || key === undefined || backend === undefined) {
    throw new TypeError('--cert, --key and --backend are needed; see the head of this file')
  }
  const tls = { cert: readFileSync(cert), key: readFileSync(key) }
  createTerminator({ tls, backend: new URL(backend), tls13Draft: tls13 }).listen(Number(port), () =>
    console.log(`Token Binding terminator on port ${port}, in front of ${backend}`),
  )
}
