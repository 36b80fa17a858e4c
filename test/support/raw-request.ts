import { connect } from 'node:net'
import { connect as connectSecurely } from 'node:tls'

export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  // biome-ignore lint/suspicious/noExplicitAny: JSON of any shape, which the tests take apart
  readonly json: any
}

export interface SendOptions {
  /** Whether the client ends its side at once. */
  readonly cutOff?: boolean
  /** Authorities, PEM, for a server that speaks TLS. */
  readonly ca?: string
  /** Milliseconds without a byte after which nothing more is waited for; 0 for no end. */
  readonly patienceMs?: number
}

/** Sends bytes as they are, and reads what comes until the connection is closed. */
export async function sendBytes(
  origin: string,
  bytes: string | Buffer,
  { cutOff = false, ca, patienceMs = 0 }: SendOptions = {},
): Promise<Answer> {
  const { port } = new URL(origin)
  const socket =
    ca === undefined
      ? connect(Number(port), '127.0.0.1')
      : connectSecurely({ port: Number(port), host: '127.0.0.1', servername: 'localhost', ca })
  socket.setTimeout(patienceMs, () => socket.destroy())
  const { promise: closed, resolve } = Promise.withResolvers<void>()
  socket.on('close', () => resolve())
  // A server that refuses what it has not read to the end may reset the connection.
  socket.on('error', () => {})
  const chunks: Buffer[] = []
  socket.on('data', (chunk) => chunks.push(chunk))
  socket.write(bytes)
  if (cutOff) socket.end()
  await closed
  const [head = '', ...body] = Buffer.concat(chunks).toString().split('\r\n\r\n')
  const [line = '', ...lines] = head.split('\r\n')
  const headers = new Headers(
    lines.map((text) => [
      text.slice(0, text.indexOf(':')),
      text.slice(text.indexOf(':') + 1).trim(),
    ]),
  )
  const whole = body.join('\r\n\r\n')
  const text = headers.get('transfer-encoding')
    ? whole.replace(/^[0-9a-f]+\r\n|\r\n0\r\n\r\n$/g, '')
    : whole
  return { status: Number(line.split(' ')[1]), headers, text, json: parse(text) }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

export interface RawRequest {
  readonly method?: string
  readonly target: string
  readonly headers?: readonly string[]
  readonly host?: string
  readonly type?: string | undefined
  readonly body?: string | Buffer
}

/** Sends a request whose target and headers nothing tidies up. */
export function sendRequest(
  origin: string,
  {
    method = 'GET',
    target,
    headers = [],
    host = new URL(origin).host,
    type = 'application/x-www-form-urlencoded',
    body,
  }: RawRequest,
): Promise<Answer> {
  const lines = [`${method} ${target} HTTP/1.1`, `Host: ${host}`, 'Connection: close']
  if (body !== undefined) {
    lines.push(`Content-Length: ${Buffer.byteLength(body)}`)
    if (type) lines.push(`Content-Type: ${type}`)
  }
  const head = Buffer.from(`${[...lines, ...headers].join('\r\n')}\r\n\r\n`, 'latin1')
  return sendBytes(origin, Buffer.concat([head, Buffer.from(body ?? '')]))
}
