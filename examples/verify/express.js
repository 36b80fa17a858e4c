import { createVerifier } from '@holdfast/verify'
import { expressVerify } from '@holdfast/verify/express'
import express from 'express'

const verifier = createVerifier({ issuer: 'https://as.example', audience: 'https://api.example' })
const verify = expressVerify(verifier)
const app = express()
app.use(verify)
app.get('/notes', verify.requiredScopes('notes:read'), (req, res) => res.json(req.auth.claims))

export { app }
