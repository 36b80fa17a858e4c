import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { type AddressInfo, connect, createServer as createNetServer, type Socket } from 'node:net'
import path from 'node:path'
import { buffer } from 'node:stream/consumers'
import { createVerifier, type VerifyError } from '@holdfast/verify'
import { createGateVerifier } from '@holdfast/verify/gate'
import { freePort } from '../../src/net/free-port.ts'

/** An application on loopback. */
export interface Application extends AsyncDisposable {
  readonly port: number
}

/** Starts the application that knows nothing of any of this, as a process of its own. */
export async function startOldApplication(): Promise<Application> {
  const port = await freePort()
  const file = path.join(import.meta.dirname, 'old-application.js')
  const child = spawn(process.execPath, [file], {
    env: { PORT: String(port) },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await Promise.race([once(child.stdout, 'data'), failed(child, 'the old application')])
  return { port, [Symbol.asyncDispose]: () => stopped(child) }
}

/** Ends a process, and waits until it has ended. */
export async function stopped(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGTERM')
  await once(child, 'exit')
}

/** Rejects when a process ends that should run. */
export async function failed(child: ChildProcess, name: string): Promise<never> {
  const [code] = await once(child, 'exit')
  throw new Error(`${name} ended with the code ${code}`)
}

/** A new application that checks the gate's assertion of each request. */
export function startSignedApplication({
  audience,
  jwksUri,
}: Readonly<{ audience: string; jwksUri: string }>): Promise<Application> {
  const gate = createGateVerifier({ audience, jwksUri })
  return serve(async ({ method = '', url = '', rawHeaders: headers }, body) => {
    const { identity } = await gate.verify({ method, url, headers, body })
    const { claims, methods: proven } = identity ?? { claims: undefined, methods: [] }
    return { sub: claims?.sub, email: claims?.email, client: claims?.client_id, proven }
  })
}

/** A new application that checks access tokens and proofs itself; the gate brings them for browsers. */
export function startResourceServer({
  issuer,
  audience,
  publicOrigin,
}: Readonly<{ issuer: string; audience: string; publicOrigin: string }>): Promise<Application> {
  const verifier = createVerifier({ issuer, audience, publicOrigin })
  return serve(async ({ method = '', url = '', rawHeaders: headers }) => {
    const { claims, methods } = await verifier.verify({ method, url, headers })
    return { sub: claims.sub, client: claims.client_id, proven: methods }
  })
}

type Answering = (request: IncomingMessage, body: Buffer) => Promise<object>

async function serve(answer: Answering): Promise<Application> {
  const server = createServer(async (request: IncomingMessage, response: ServerResponse) => {
    response.setHeader('content-type', 'application/json')
    try {
      response.end(JSON.stringify(await answer(request, await buffer(request))))
    } catch (error) {
      const { status = 500, code } = error as VerifyError
      response.writeHead(status).end(JSON.stringify({ error: code }))
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

/** A thief on the connection between the gate and an application, who reads every byte. */
export interface Tap extends AsyncDisposable {
  readonly port: number
  /** The last request that begins so, byte for byte (latin1). Browsers ask for icons in between. */
  last(start: string): string
  /** Keeps the next request that begins so from the application. */
  hold(start: string): void
  /** Where the requests go. */
  leadTo(port: number): void
}

/** Starts a tap, which is where the gate takes the application to be. */
export async function startTap(): Promise<Tap> {
  const requests: string[] = []
  const sockets = new Set<Socket>()
  let held: string | undefined
  let target = 0
  const server = createNetServer((client) => {
    let at = -1
    const application = connect(target, '127.0.0.1')
    for (const [socket, other] of [
      [client, application],
      [application, client],
    ] as const) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
    }
    client.on('data', (chunk) => {
      const text = chunk.toString('latin1')
      // The gate writes a head at once, and no second request before the answer to the first.
      if (/^[A-Z]+ \/\S* HTTP\/1\.1\r\n/.test(text)) at = requests.push('') - 1
      const request = (requests[at] ?? '') + text
      requests[at] = request
      if (held === undefined || !request.startsWith(held)) application.write(chunk)
      else if (isWhole(request)) {
        held = undefined
        client.destroy()
      }
    })
    application.pipe(client)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    last: (start) => requests.findLast((request) => request.startsWith(start)) ?? '',
    hold(start) {
      held = start
    },
    leadTo(port) {
      target = port
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

function isWhole(request: string): boolean {
  const [head = '', ...body] = request.split('\r\n\r\n')
  const length = Number(/^content-length: (\d+)$/im.exec(head)?.[1] ?? 0)
  return body.length > 0 && body.join('\r\n\r\n').length >= length
}
