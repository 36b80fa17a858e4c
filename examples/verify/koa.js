import { createVerifier } from '@holdfast/verify'
import { koaVerify } from '@holdfast/verify/koa'
import Koa from 'koa'

const verifier = createVerifier({ issuer: 'https://as.example', audience: 'https://api.example' })
const verify = koaVerify(verifier)
const app = new Koa()
app.use(verify)
app.use(verify.requiredScopes('notes:read'))
app.use((ctx) => Object.assign(ctx, { body: ctx.state.auth.claims }))

export { app }
