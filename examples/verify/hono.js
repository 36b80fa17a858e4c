import { createVerifier } from '@holdfast/verify'
import { fetchVerify } from '@holdfast/verify/fetch'
import { Hono } from 'hono'

const verifier = createVerifier({ issuer: 'https://as.example', audience: 'https://api.example' })
const verify = fetchVerify(verifier)
const app = new Hono()
app.get('/notes', async (c) => {
  const { response, auth } = await verify(c.req.raw, { scopes: ['notes:read'] })
  return response ?? c.json(auth.claims)
})

export { app }
