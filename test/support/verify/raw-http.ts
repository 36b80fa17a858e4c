import http2 from 'node:http2'
import { connect } from 'node:net'

/** A request as a test wants it on the wire, repeated header fields and all. */
export type Sent = Readonly<{
  method: string
  target: string
  headers: readonly (readonly [string, string])[]
  body?: string
}>

export type Reply = Readonly<{
  status: number
  headers: Readonly<Record<string, readonly string[]>>
  body: string
}>

/** Sends one HTTP/1.1 request byte for byte. No client library would send what an attacker does. */
export async function sendHttp1(
  port: number,
  { method, target, headers, body = '' }: Sent,
  host = 'backend.internal',
): Promise<Reply> {
  const fields = [['Host', host], ['Connection', 'close'], ...headers]
  if (body !== '') fields.push(['Content-Length', String(Buffer.byteLength(body))])
  const head = fields.map(([name, value]) => `${name}: ${value}\r\n`).join('')
  const socket = connect(port, '127.0.0.1')
  socket.write(Buffer.from(`${method} ${target} HTTP/1.1\r\n${head}\r\n${body}`, 'latin1'))
  const chunks: Buffer[] = []
  for await (const chunk of socket) chunks.push(chunk as Buffer)
  return parseReply(Buffer.concat(chunks).toString('latin1'))
}

function parseReply(text: string): Reply {
  const [head = '', ...rest] = text.split('\r\n\r\n')
  const [line = '', ...lines] = head.split('\r\n')
  const headers: Record<string, string[]> = {}
  for (const field of lines) {
    const colon = field.indexOf(':')
    const name = field.slice(0, colon).toLowerCase()
    headers[name] = [...(headers[name] ?? []), field.slice(colon + 1).trim()]
  }
  return { status: Number(line.split(' ')[1]), headers, body: rest.join('\r\n\r\n') }
}

/** Sends one HTTP/2 request without TLS. Repeated header fields cannot be sent this way. */
export async function sendHttp2(port: number, { method, target, headers, body }: Sent) {
  const session = http2.connect(`http://127.0.0.1:${port}`)
  try {
    return await new Promise<Reply>((resolve, reject) => {
      session.on('error', reject)
      const fields = Object.fromEntries(headers.map(([name, value]) => [name.toLowerCase(), value]))
      const stream = session.request({ ':method': method, ':path': target, ...fields })
      let received: http2.IncomingHttpHeaders = {}
      let text = ''
      stream.setEncoding('utf8')
      stream.on('response', (response) => {
        received = response
      })
      stream.on('data', (chunk) => {
        text += chunk
      })
      stream.on('error', reject)
      stream.on('end', () =>
        resolve({
          status: Number(received[':status']),
          headers: Object.fromEntries(
            Object.entries(received).map(([name, value]) => [name, [value].flat().map(String)]),
          ),
          body: text,
        }),
      )
      stream.end(body)
    })
  } finally {
    session.close()
  }
}
