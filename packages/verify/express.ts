/** Middleware for express 5 and 4, and for whatever else speaks connect. */
import { type Admission, admit, admitFurther, checkAdapter } from './answer.ts'
import {
  type AdapterOptions,
  type NodeRequest,
  type NodeResponse,
  nodeRequest,
  writeAnswer,
  writeHeaders,
} from './node.ts'
import { checkDemand, checkStepUp, type Requirements } from './requirements.ts'
import type { Verified, Verifier } from './verifier.ts'

declare global {
  namespace Express {
    interface Request {
      /** What `expressVerify` has verified; absent on routes that it does not guard. */
      auth?: Verified | undefined
    }
  }
}

/** What is needed of an express request; `auth` is where the result goes. */
export type ExpressRequest = NodeRequest & { auth?: Verified | undefined }

type Next = (error?: unknown) => void
type Middleware = (request: ExpressRequest, response: NodeResponse, next: Next) => void

/**
 * Makes express middleware that lets a request on only if it verifies, with the result in
 * `req.auth`. It does NOT check scopes; `requiredScopes` and `stepUp` make middleware that does,
 * for routes behind it.
 *
 * @example
 * ```ts
 * const verify = expressVerify(createVerifier({ issuer, audience }))
 * app.use(verify)
 * app.post('/notes', verify.requiredScopes('notes:write'), handler)
 * ```
 */
export function expressVerify(verifier: Verifier, options: AdapterOptions<ExpressRequest> = {}) {
  checkAdapter(verifier, options)
  /**
   * express 4 does not look at promises, and an unhandled rejection ends the process: what is no
   * refusal goes to `next`, what writing the answer throws included.
   */
  const middleware =
    (attempt: (request: ExpressRequest) => Promise<Admission>): Middleware =>
    (request, response, next) => {
      attempt(request)
        .then((admission) => {
          if (admission.answer !== undefined) return writeAnswer(response, admission.answer)
          request.auth = admission.auth
          writeHeaders(response, admission.auth)
          next()
        })
        .catch(next)
    }

  const demand = (requirements: Requirements) =>
    middleware((request) => admitFurther(verifier, request.auth, requirements))

  return Object.assign(
    middleware((request) => admit(verifier, nodeRequest(request), () => options.facts?.(request))),
    {
      /** Middleware for routes that need all these scopes. */
      requiredScopes: (...scopes: string[]) => demand(checkDemand('requiredScopes', { scopes })),
      /** Middleware for routes that need a recent or stronger authentication (RFC 9470). */
      stepUp: (requirements: Pick<Requirements, 'acrValues' | 'maxAge'>) =>
        demand(checkStepUp(requirements)),
    },
  )
}
