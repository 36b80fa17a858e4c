import type { IncomingMessage } from 'node:http'
import { type Agent, request as httpsRequest } from 'node:https'
import type { LookupFunction } from 'node:net'
import { Readable } from 'node:stream'

/** A `fetch` through an agent of node:https; it follows no redirects. Every name is loopback. */
export function agentFetch(agent: Agent): typeof globalThis.fetch {
  return async (input, init) => {
    const request = new Request(input, init)
    const body = Buffer.from(await request.arrayBuffer())
    const incoming = await new Promise<IncomingMessage>((resolve, reject) => {
      const headers = Object.fromEntries(request.headers)
      httpsRequest(request.url, { agent, lookup: loopback, method: request.method, headers })
        .on('response', resolve)
        .on('error', reject)
        .end(body)
    })
    return asResponse(incoming)
  }
}

const loopback: LookupFunction = (_name, { all }, callback) => {
  if (all) callback(null, [{ address: '127.0.0.1', family: 4 }])
  else callback(null, '127.0.0.1', 4)
}

function asResponse(incoming: IncomingMessage): Response {
  const { statusCode: status = 0, headersDistinct } = incoming
  const headers = new Headers()
  for (const [name, values = []] of Object.entries(headersDistinct)) {
    for (const value of values) headers.append(name, value)
  }
  const isEmpty = status === 204 || status === 304
  if (isEmpty) incoming.resume()
  const body = isEmpty ? null : (Readable.toWeb(incoming) as ReadableStream)
  return new Response(body, { status, headers })
}
