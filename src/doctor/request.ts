import { Agent, request } from 'node:https'
import { doctorHeader, doctorPath, type Observation } from './observation.ts'

/** Milliseconds. */
export const defaultPatience = 10_000

/** A deployment, by the public address of it or of a part of it. */
export interface Target {
  readonly url: string
  readonly code: string
  /** Milliseconds after which an answer is no longer waited for. */
  readonly patience?: number
}

export type Sent = Observation | string

/** What the server saw, or a sentence for when nothing can be said about it. */
export async function send(
  { url, code, patience = defaultPatience }: Target,
  headers: readonly string[] = [],
  agent = new Agent(),
  method = 'GET',
): Promise<Sent> {
  const target = new URL(url + doctorPath)
  const signal = AbortSignal.timeout(patience)
  try {
    const { status, text } = await exchange(target, {
      method,
      agent,
      signal,
      headers: ['Host', target.host, doctorHeader, code, ...headers],
    })
    if (status === 200) return observed(text) ?? `${target.href} is not a page of this server.`
    return (
      `${target.href} answered ${status}: the code is not one of this server or has expired, or ` +
      'the proxy refuses the request or sends it elsewhere.'
    )
  } catch (error) {
    if (signal.aborted) return `${url} does not answer within ${patience / 1000} seconds.`
    return unreachable(url, error as NodeJS.ErrnoException)
  }
}

const untrusted = /^(?:UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_)/

/** A sentence for a connection that failed, with what to do about a certificate of a private authority. */
export function unreachable(url: string, { code, message }: NodeJS.ErrnoException): string {
  const sentence = `${url} cannot be reached (${code ?? message}).`
  return untrusted.test(code ?? '')
    ? `${sentence} Where a private authority issued its certificate, name the authority's file in NODE_EXTRA_CA_CERTS.`
    : sentence
}

function exchange(
  target: URL,
  options: Parameters<typeof request>[1] & object,
): Promise<{ status: number | undefined; text: string }> {
  return new Promise((resolve, reject) => {
    const sent = request(target, options)
    sent.on('error', reject)
    sent.on('response', (response) => {
      const { statusCode: status } = response
      response.toArray().then((parts) => resolve({ status, text: parts.join('') }), reject)
    })
    sent.end()
  })
}

/** Undefined for an answer that is not the server's: a proxy's own page, perhaps. */
function observed(text: string): Observation | undefined {
  try {
    const found = JSON.parse(text) as Partial<Observation> | null
    return found?.dpop && found.tokenBinding ? (found as Observation) : undefined
  } catch {
    return undefined
  }
}
