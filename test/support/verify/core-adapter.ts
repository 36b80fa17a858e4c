import type { Facts } from '../../../packages/verify/answer.ts'
import { VerifyError } from '../../../packages/verify/errors.ts'
import type { Verifier } from '../../../packages/verify/verifier.ts'
import type { Reply, Sent } from './raw-http.ts'

/** A running service that answers `{"sub":…}`, and `/admin` only to scope `admin`. */
export type Target = AsyncDisposable & Readonly<{ send(request: Sent): Promise<Reply> }>

/** Starts a service in one framework; `facts` stand for what a TLS layer would know. */
export type Adapter = (verifier: Verifier, facts?: () => Facts) => Promise<Target>

/** No framework at all: plain data in, a result or an error out. */
export const core: Adapter = async (verifier, facts = () => ({})) => ({
  async send({ method, target, headers, body }) {
    const request = { method, url: target, headers, ...(body && { body }), ...facts() }
    try {
      const { claims, ...rest } = await verifier.verify(request)
      const requirements = target === '/admin' ? { scopes: ['admin'] } : {}
      verifier.checkRequirements({ claims, ...rest }, requirements)
      return { status: 200, headers: {}, body: JSON.stringify({ sub: claims.sub }) }
    } catch (error) {
      if (!(error instanceof VerifyError)) throw error
      const headers = { 'www-authenticate': error.challenges }
      return { status: error.status, headers, body: JSON.stringify({ error: error.error }) }
    }
  },
  [Symbol.asyncDispose]: async () => {},
})
