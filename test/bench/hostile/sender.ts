import { Agent, request } from 'node:http'

export interface Sent {
  readonly method?: string
  /** Of the request line, as it is. */
  readonly target: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

export interface Answered {
  readonly status: number
  readonly headers: Headers
  readonly text: string
}

export interface Sender {
  send(sent: Sent): Promise<Answered>
  /** The same for a browser, whose proxy says that it is at `address`. */
  fetchFrom(address?: string): typeof globalThis.fetch
}

const patienceMs = 30_000

/** Sends requests that nothing tidies up, from an address of loopback. */
export function createSender(
  issuer: string,
  { localAddress, connections }: { localAddress: string; connections: number },
): Sender {
  const { hostname, port } = new URL(issuer)
  const agent = new Agent({ keepAlive: true, maxSockets: connections })

  function send({ method = 'GET', target, headers = {}, body }: Sent): Promise<Answered> {
    const { promise, resolve, reject } = Promise.withResolvers<Answered>()
    const length = body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }
    const outgoing = request(
      {
        agent,
        hostname,
        port,
        localAddress,
        method,
        path: target,
        headers: { ...headers, ...length },
      },
      (incoming) => {
        const chunks: Buffer[] = []
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
        incoming.on('error', reject)
        incoming.on('end', () => {
          const text = Buffer.concat(chunks).toString()
          resolve({
            status: incoming.statusCode ?? 0,
            headers: headersOf(incoming.rawHeaders),
            text,
          })
        })
      },
    )
    const timer = setTimeout(() => outgoing.destroy(new Error('timeout')), patienceMs)
    outgoing.on('error', reject)
    outgoing.on('close', () => clearTimeout(timer))
    outgoing.end(body)
    return promise
  }

  return {
    send,
    fetchFrom: (address) => async (input, init) => {
      const asked = new Request(input, init)
      const { pathname, search } = new URL(asked.url)
      const { status, headers, text } = await send({
        method: asked.method,
        target: pathname + search,
        headers: {
          ...Object.fromEntries(asked.headers),
          ...(init?.headers as Record<string, string>),
          ...(address && { 'x-forwarded-for': address }),
        },
        ...(asked.method === 'POST' && { body: await asked.text() }),
      })
      return new Response(text || null, { status, headers })
    },
  }
}

function headersOf(raw: readonly string[]): Headers {
  const headers = new Headers()
  for (let at = 0; at < raw.length; at += 2) headers.append(raw[at] ?? '', raw[at + 1] ?? '')
  return headers
}

/** How a request ended that has no answer. */
export function failureOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  return code ?? message.split(':')[0] ?? ''
}

/** A form as its body and what says so. */
export function form(fields: Record<string, string>): Pick<Sent, 'body' | 'headers'> {
  return {
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams(fields).toString(),
  }
}
