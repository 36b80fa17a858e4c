/**
 * What a proxy asks about: a request of its client, in the shape in which this kind of proxy asks.
 * One shape is configured and the fields of the others are not looked at: through a proxy that does
 * not write them, a client could.
 */
import { Http2ServerRequest } from 'node:http2'
import type { Answer } from './browser/answers.ts'
import type { Asked } from './edge.ts'
import type { InboundRequest } from './exchange.ts'
import { type Fields, valuesOf } from './headers.ts'
import { http2Asked } from './http2.ts'
import { Refusal } from './refusal.ts'

/** The proxies that the gate understands. */
export const proxies = ['nginx', 'haproxy', 'envoy', 'envoy-grpc', 'traefik', 'caddy'] as const

/** One of {@link proxies}. */
export type ProxyKind = (typeof proxies)[number]

/** Fields with the method, the host and the target that the client wrote. */
const original = ['x-original-method', 'x-original-host', 'x-original-uri'] as const
const forwarded = ['x-forwarded-method', 'x-forwarded-host', 'x-forwarded-uri'] as const

/** Envoy sends the request itself, without its body; by gRPC, see `envoy/ext-authz.ts`. */
const fieldsOf: Readonly<
  Record<Exclude<ProxyKind, 'envoy' | 'envoy-grpc'>, readonly [string, string, string]>
> = {
  nginx: original,
  haproxy: original,
  traefik: forwarded,
  caddy: forwarded,
}

/** What a proxy is answered that asks about a request of its client. */
export type Decision =
  | Readonly<{
      kind: 'pass'
      /** For the application, instead of the client's. */
      fields: Fields
      /** Fields that may be in the request: the client's that pass, and `fields`. */
      kept: Fields
      /** For the client, with the answer of the application. */
      answerFields: Fields
    }>
  | Readonly<{ kind: 'answer'; answer: Answer }>

/** How a request that passes is answered over HTTP. */
export function passed(
  { fields, answerFields }: Extract<Decision, { kind: 'pass' }>,
  proxy: ProxyKind | undefined,
): Answer {
  // The other proxies remove what the answer does not have.
  const isKept = proxy !== 'envoy' || valuesOf(fields, 'cookie').length > 0
  const removed = isKept ? [] : ['X-Envoy-Auth-Headers-To-Remove', 'cookie']
  return { status: 200, fields: [...fields, ...removed, ...answerFields], body: '' }
}

/**
 * Reads the request that a proxy asks about. It does NOT check who asks.
 *
 * @throws {@link Refusal} `asked` where the proxy did not say it, or said it twice.
 */
export function readAsked(request: InboundRequest, proxy: ProxyKind): Asked {
  const { rawHeaders: fields, socket } = request
  if (proxy === 'envoy' || proxy === 'envoy-grpc') return ownRequest(request)
  const [method, host, url] = fieldsOf[proxy].map((name) => {
    const [value, ...more] = valuesOf(fields, name)
    if (value === undefined || more.length > 0) throw new Refusal('asked')
    return value
  }) as [string, string, string]
  return { method, url, hosts: [host], fields, socket, protocol: '1.1' }
}

/** A request that is its own subject. @throws {@link Refusal} `version`: Node reads HTTP/2.0 in a line as well. */
export function ownRequest(request: InboundRequest): Asked {
  if (request instanceof Http2ServerRequest) return http2Asked(request)
  const { method = '', url = '', rawHeaders: fields, socket } = request
  if (request.httpVersionMajor !== 1) throw new Refusal('version')
  return { method, url, hosts: valuesOf(fields, 'host'), fields, socket, protocol: '1.1' }
}

/** nginx can answer nothing but 401 and 403; a browser it then sends to the gate itself (docker/gate). */
export function forProxy(proxy: ProxyKind, answer: Answer): Answer {
  if (proxy !== 'nginx') return answer
  const status = answer.status >= 300 && answer.status < 400 ? 401 : statusFor(proxy, answer.status)
  return { ...answer, status }
}

/** nginx knows 401 and 403 only, and makes a failure of its own of any other refusal. */
export function statusFor(proxy: ProxyKind, status: number): number {
  return proxy === 'nginx' && status >= 400 && status < 500 && status !== 401 ? 403 : status
}
