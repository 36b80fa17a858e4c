/** Middleware for Koa. */
import { VerifyError } from './errors.ts'
import { type NodeRequest, nodeRequest, refusalHeaders } from './node.ts'
import type { Verified, Verifier, VerifyRequest } from './verifier.ts'

/** What is needed of a Koa context. */
export type KoaContext = {
  req: NodeRequest
  originalUrl: string
  state: { auth?: Verified }
  status: number
  body: unknown
  request: { body?: unknown }
  set(headers: Record<string, string | string[]>): void
}

/** Options of {@link koaVerify}. */
export type KoaVerifyOptions = Readonly<{
  /** Facts that only the application knows, such as a verified Token Binding. */
  facts?: (context: KoaContext) => Partial<VerifyRequest>
}>

/**
 * Makes Koa middleware that lets a request on only if it verifies, with the result in
 * `ctx.state.auth`.
 *
 * It does NOT check scopes.
 *
 * @example
 * ```ts
 * app.use(koaVerify(createVerifier({ issuer, audience })))
 * app.use((ctx) => { ctx.body = `hello ${ctx.state.auth.claims.sub}` })
 * ```
 */
export function koaVerify(verifier: Verifier, options: KoaVerifyOptions = {}) {
  return async (context: KoaContext, next: () => Promise<unknown>): Promise<void> => {
    try {
      context.state.auth = await verifier.verify({
        ...nodeRequest(context.req),
        url: context.originalUrl,
        ...options.facts?.(context),
      })
    } catch (error) {
      if (!(error instanceof VerifyError)) throw error
      context.status = error.status
      context.set(refusalHeaders(error))
      context.body = { error: error.error ?? 'unauthorized', error_description: error.message }
      return
    }
    await next()
  }
}
