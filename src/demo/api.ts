import Koa from 'koa'
import getRawBody from 'raw-body'
import { createVerifier } from '../verify/index.ts'
import { koaVerify } from '../verify/koa.ts'

/** The demo's API: it tells whoever proves their key who they are. */
export function createApi({ issuer, audience }: { issuer: string; audience: string }): Koa {
  const api = new Koa()
  const verifier = createVerifier({ issuer, audience })
  // Tokens in a form are looked for only in a body that somebody has read.
  api.use(async (ctx, next) => {
    const body = await getRawBody(ctx.req, { limit: '16kb', encoding: 'utf8' })
    Object.assign(ctx.request, { body })
    await next()
  })
  api.use(koaVerify(verifier))
  api.use((ctx) => {
    const { claims, methods } = ctx.state.auth
    ctx.body = { sub: claims.sub, scope: claims.scope, proven: methods }
  })
  return api
}
