/** Hooks for fastify. */
// Types alone: what is augmented below must be known.
import type {} from 'fastify'
import { type Admission, admit, admitFurther, checkAdapter } from './answer.ts'
import { type AdapterOptions, type NodeRequest, nodeRequest } from './node.ts'
import { checkDemand, checkStepUp, type Requirements } from './requirements.ts'
import type { Verified, Verifier } from './verifier.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** What `fastifyVerify` has verified; absent on routes that it does not guard. */
    auth?: Verified | undefined
  }
}

/** What is needed of a fastify request; `auth` is where the result goes. */
export type FastifyRequest = {
  raw: NodeRequest
  body?: unknown
  auth?: Verified | undefined
}

/** What is needed of a fastify reply. */
export type FastifyReply = {
  code(status: number): unknown
  headers(headers: Readonly<Record<string, string | string[]>>): unknown
  send(body: string): unknown
}

/**
 * Makes a fastify hook that lets a request on only if it verifies, with the result in
 * `request.auth`: an `onRequest` hook, or a `preHandler` if tokens may come in a form body.
 *
 * It does NOT check scopes; `requiredScopes` and `stepUp` make `preHandler` hooks that do.
 *
 * @example
 * ```ts
 * const verify = fastifyVerify(createVerifier({ issuer, audience }))
 * app.decorateRequest('auth')
 * app.addHook('onRequest', verify)
 * app.post('/notes', { preHandler: verify.requiredScopes('notes:write') }, handler)
 * ```
 */
export function fastifyVerify(verifier: Verifier, options: AdapterOptions<FastifyRequest> = {}) {
  checkAdapter(verifier, options)
  const hook =
    (attempt: (request: FastifyRequest) => Promise<Admission>) =>
    async (request: FastifyRequest, reply: FastifyReply): Promise<unknown> => {
      const admission = await attempt(request)
      if (admission.answer !== undefined) {
        const { status, headers, body } = admission.answer
        reply.code(status)
        reply.headers(headers)
        return reply.send(body)
      }
      request.auth = admission.auth
      if (admission.auth !== undefined) reply.headers(admission.auth.responseHeaders)
      return undefined
    }

  const demand = (requirements: Requirements) =>
    hook((request) => admitFurther(verifier, request.auth, requirements))

  return Object.assign(
    hook((request) => {
      const { method, url, rawHeaders, socket } = request.raw
      const raw = { method, url, rawHeaders, socket, body: request.body }
      return admit(verifier, nodeRequest(raw), () => options.facts?.(request))
    }),
    {
      /** Hook for routes that need all these scopes. */
      requiredScopes: (...scopes: string[]) => demand(checkDemand('requiredScopes', { scopes })),
      /** Hook for routes that need a recent or stronger authentication (RFC 9470). */
      stepUp: (requirements: Pick<Requirements, 'acrValues' | 'maxAge'>) =>
        demand(checkStepUp(requirements)),
    },
  )
}
