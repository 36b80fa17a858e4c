import { createVerifier } from '@holdfast/verify'
import { fastifyVerify } from '@holdfast/verify/fastify'
import fastify from 'fastify'

const verifier = createVerifier({ issuer: 'https://as.example', audience: 'https://api.example' })
const verify = fastifyVerify(verifier)
const app = fastify()
app.decorateRequest('auth')
app.addHook('onRequest', verify)
const onlyReaders = { preHandler: verify.requiredScopes('notes:read') }
app.get('/notes', onlyReaders, async (req) => req.auth.claims)

export { app }
