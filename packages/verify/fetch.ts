/** Servers that turn a fetch `Request` into a `Response`: Hono, edge runtimes with Node's crypto. */
import { admit, admitFurther, checkAdapter, toResponse } from './answer.ts'
import type { AdapterOptions } from './node.ts'
import { checkRequirements, type Requirements } from './requirements.ts'
import type { Verified, Verifier } from './verifier.ts'

/**
 * Either a response to give at once, or permission to continue; then the response should carry
 * `auth.responseHeaders`. In observe mode both may be missing.
 */
export type FetchAdmission = Readonly<{
  response: Response | undefined
  auth: Verified | undefined
}>

/**
 * Makes a function that decides about a fetch `Request`.
 *
 * Its body is not read: a token in a form counts only if `facts` passes the form on. A `Request`
 * knows nothing of its connection, so that a certificate has to come through `facts` as well.
 *
 * @example
 * ```ts
 * const verify = fetchVerify(createVerifier({ issuer, audience }))
 * app.use(async (c, next) => {
 *   const { response, auth } = await verify(c.req.raw, { scopes: ['notes:read'] })
 *   c.set('auth', auth)
 *   return response ?? next()
 * })
 * ```
 */
export function fetchVerify(verifier: Verifier, options: AdapterOptions<Request> = {}) {
  checkAdapter(verifier, options)
  return async (request: Request, requirements: Requirements = {}): Promise<FetchAdmission> => {
    checkRequirements(requirements)
    const { method, url, headers } = request
    const plain = { method, url, headers }
    const admission = await admit(verifier, plain, () => options.facts?.(request))
    const further = admission.answer
      ? admission
      : await admitFurther(verifier, admission.auth, requirements)
    return further.answer
      ? { response: toResponse(further.answer), auth: undefined }
      : { response: undefined, auth: further.auth }
  }
}
