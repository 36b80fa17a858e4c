import { Agent, request } from 'node:https'
import { doctorHeader, doctorPath, type Observation } from './observation.ts'

export type Sent = Observation | string

/** What the server saw, or a sentence for when nothing can be said about it. */
export function send(
  url: string,
  code: string,
  headers: readonly string[] = [],
  agent = new Agent(),
  method = 'GET',
): Promise<Sent> {
  const target = new URL(url + doctorPath)
  return new Promise((resolve) => {
    const sent = request(target, {
      method,
      agent,
      headers: ['Host', target.host, doctorHeader, code, ...headers],
    })
    sent.on('error', (error: NodeJS.ErrnoException) =>
      resolve(`${url} cannot be reached (${error.code ?? error.message}).`),
    )
    sent.on('response', async (response) => {
      const text = (await response.toArray()).join('')
      resolve(
        response.statusCode === 200
          ? (JSON.parse(text) as Observation)
          : `${target.href} answered ${response.statusCode}: the code is not one of this ` +
              'server or has expired, or the proxy refuses the request or sends it elsewhere.',
      )
    })
    sent.end()
  })
}
