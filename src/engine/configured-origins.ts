import type { IncomingMessage } from 'node:http'
import type Provider from 'oidc-provider'
import type { Edge } from '../http/edge.ts'

/**
 * Public URLs, DPoP's `htu` among them, come from the configuration: never from `Host`, from
 * `X-Forwarded-*`, or from a request line with an absolute URL.
 */
export function trustConfiguredOrigins(
  engine: Provider,
  { edge }: { edge: Pick<Edge, 'originOf'> },
): void {
  const originOf = ({ req }: { req: IncomingMessage }) => edge.originOf(req)
  type Request = { req: IncomingMessage; originalUrl: string }
  Object.defineProperties(engine.request, {
    protocol: {
      get(this: Request) {
        return originOf(this).protocol.slice(0, -1)
      },
    },
    host: {
      get(this: Request) {
        return originOf(this).host
      },
    },
    origin: {
      get(this: Request) {
        return originOf(this).origin
      },
    },
    href: {
      get(this: Request) {
        return originOf(this).origin + this.originalUrl.replace(/^https?:\/\/[^/?]*/i, '')
      },
    },
  })
}
