/** Middleware for Koa. */
import { type Admission, admit, admitFurther, checkAdapter } from './answer.ts'
import { type AdapterOptions, type NodeRequest, nodeRequest } from './node.ts'
import { checkDemand, checkStepUp, type Requirements } from './requirements.ts'
import type { Verified, Verifier } from './verifier.ts'

/** What is needed of a Koa context. */
export type KoaContext = {
  req: NodeRequest
  originalUrl: string
  state: { auth?: Verified | undefined }
  status: number
  body: unknown
  /** Body parsers put what they have read into its `body`. */
  request: object
  set(headers: Record<string, string | string[]>): void
}

type Next = () => Promise<unknown>

/**
 * Makes Koa middleware that lets a request on only if it verifies, with the result in
 * `ctx.state.auth`. It does NOT check scopes; `requiredScopes` and `stepUp` make middleware that
 * does, for routes behind it.
 *
 * @example
 * ```ts
 * const verify = koaVerify(createVerifier({ issuer, audience }))
 * app.use(verify)
 * router.post('/notes', verify.requiredScopes('notes:write'), handler)
 * ```
 */
export function koaVerify(verifier: Verifier, options: AdapterOptions<KoaContext> = {}) {
  checkAdapter(verifier, options)
  async function proceed(context: KoaContext, next: Next, admission: Admission): Promise<void> {
    if (admission.answer !== undefined) {
      context.status = admission.answer.status
      context.set(admission.answer.headers)
      context.body = admission.answer.body
      return
    }
    context.state.auth = admission.auth
    if (admission.auth !== undefined) context.set(admission.auth.responseHeaders)
    await next()
  }

  async function verify(context: KoaContext, next: Next): Promise<void> {
    const { method, rawHeaders, socket } = context.req
    const { body } = context.request as { body?: unknown }
    const request = { method, rawHeaders, socket, body, url: context.originalUrl }
    const admission = await admit(verifier, nodeRequest(request), () => options.facts?.(context))
    await proceed(context, next, admission)
  }

  const demand = (requirements: Requirements) => async (context: KoaContext, next: Next) =>
    proceed(context, next, await admitFurther(verifier, context.state.auth, requirements))

  return Object.assign(verify, {
    /** Middleware for routes that need all these scopes. */
    requiredScopes: (...scopes: string[]) => demand(checkDemand('requiredScopes', { scopes })),
    /** Middleware for routes that need a recent or stronger authentication (RFC 9470). */
    stepUp: (requirements: Pick<Requirements, 'acrValues' | 'maxAge'>) =>
      demand(checkStepUp(requirements)),
  })
}
