import { createVerifier, type VerifierOptions } from '@holdfast/verify'
import { type KoaContext, koaVerify } from '@holdfast/verify/koa'
import type { AdapterOptions } from '@holdfast/verify/node'
import Koa, { type Middleware } from 'koa'
import getRawBody from 'raw-body'

export interface ApiOptions extends VerifierOptions {
  readonly before?: Middleware
  readonly facts?: AdapterOptions<KoaContext>['facts']
}

/** The demo's API: it tells whoever proves their key who they are. */
export function createApi({ before, facts, ...options }: ApiOptions): Koa {
  const api = new Koa()
  const verifier = createVerifier(options)
  if (before) api.use(before)
  // Tokens in a form are looked for only in a body that somebody has read.
  api.use(async (ctx, next) => {
    const body = await getRawBody(ctx.req, { limit: '16kb', encoding: 'utf8' })
    Object.assign(ctx.request, { body })
    await next()
  })
  api.use(koaVerify(verifier, facts ? { facts } : {}))
  api.use((ctx) => {
    const { claims, methods } = ctx.state.auth
    ctx.body = { sub: claims.sub, scope: claims.scope, proven: methods }
  })
  return api
}
