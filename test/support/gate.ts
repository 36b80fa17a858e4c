import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { parseConfig } from '../../packages/gate/config.ts'
import type { GateEvent } from '../../packages/gate/events.ts'
import { createGate, type GateOptions } from '../../packages/gate/gate.ts'
import { listen } from '../../packages/gate/listener.ts'
import { readKey } from '../../packages/gate/load.ts'
import { listenForProxies } from '../../packages/gate/running.ts'
import type { VerifyError } from '../../packages/verify/errors.ts'
import {
  createGateVerifier,
  type GateAssertion,
  type GateVerifierOptions,
} from '../../packages/verify/gate.ts'
import { audience, jwks, start } from './verify/fixtures.ts'
import { makeKey } from './verify/keys.ts'

/** What an application got, and what its check of the assertion said. */
export interface Received {
  readonly method: string
  readonly url: string
  readonly rawHeaders: readonly string[]
  readonly body: Buffer
  readonly trailers: readonly string[]
  readonly assertion: GateAssertion | undefined
  readonly code: string | undefined
}

type Handler = (request: IncomingMessage, response: ServerResponse) => unknown

export interface TestApplication extends AsyncDisposable {
  readonly server: Server
  readonly url: string
  readonly received: Received[]
  /** Answers instead of the usual echo, by path. */
  readonly handlers: Map<string, Handler>
}

export const gateKey = await readKey(
  makeKey('EdDSA').privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
)

export const now = () => start * 1000

export function gateVerifierWith(options: Partial<GateVerifierOptions> = {}) {
  return createGateVerifier({ audience, jwks: { keys: [gateKey.publicJwk] }, now, ...options })
}

async function readWhole(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** An application that checks every assertion and answers with what it got. */
export async function startApplication(
  options: Partial<GateVerifierOptions> = {},
): Promise<TestApplication> {
  const verifier = gateVerifierWith({ acceptAnonymous: true, acceptUnsignedBody: true, ...options })
  const received: Received[] = []
  const handlers = new Map<string, Handler>()

  async function echo(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '', rawHeaders } = request
    const body = await readWhole(request)
    let assertion: GateAssertion | undefined
    let code: string | undefined
    try {
      assertion = await verifier.verify({ method, url, headers: rawHeaders, body })
    } catch (error) {
      code = (error as VerifyError).code
    }
    const trailers = request.rawTrailers
    received.push({ method, url, rawHeaders, body, trailers, assertion, code })
    response.setHeader('Content-Type', 'application/json')
    response.end(JSON.stringify({ identity: assertion?.identity, code, url }))
  }

  const server = createServer((request, response) => {
    const handler = handlers.get((request.url ?? '').split('?')[0] ?? '') ?? echo
    void Promise.resolve(handler(request, response)).catch(() => response.destroy())
  })
  server.on('error', () => {})
  server.listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  return {
    server,
    url: `http://127.0.0.1:${port}`,
    received,
    handlers,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

export interface TestGate extends AsyncDisposable {
  readonly port: number
  /** Where proxies ask. */
  readonly forwardAuthPort: number
  readonly origin: string
  readonly events: GateEvent[]
}

/** A gate that listens on loopback, with keys of the test issuer. */
export async function startGate(
  settings: Readonly<Record<string, unknown>>,
  { pair, ...options }: Partial<GateOptions> & { pair?: { cert: string; key: string } } = {},
): Promise<TestGate> {
  const events: GateEvent[] = []
  const config = parseConfig(
    JSON.stringify({
      listen: { port: 0 },
      issuer: { url: 'https://as.example', jwksUri: 'https://as.example/jwks' },
      signing: { keyFiles: ['unused'] },
      ...settings,
    }),
  )
  const gate = createGate({
    config,
    keys: [gateKey],
    files: [],
    now,
    fetch: async () => Response.json(jwks),
    onEvent: (event) => events.push(event),
    ...options,
  })
  const listening = await listen(gate, config, pair)
  const asked = await listenForProxies(gate, config)
  return {
    port: listening.port,
    forwardAuthPort: asked.port,
    origin: `http://127.0.0.1:${listening.port}`,
    events,
    async [Symbol.asyncDispose]() {
      await Promise.all([listening[Symbol.asyncDispose](), asked[Symbol.asyncDispose]()])
    },
  }
}
