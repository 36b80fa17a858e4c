import { createServer } from 'node:http'
import { createVerifier } from '@holdfast/verify'
import { nodeVerify } from '@holdfast/verify/node'

const verifier = createVerifier({ issuer: 'https://as.example', audience: 'https://api.example' })
const protect = nodeVerify(verifier)
const show = (_req, res, auth) => res.end(JSON.stringify(auth.claims))
const server = createServer(protect(show, { scopes: ['notes:read'] }))

export { server }
