// An API that accepts a token only with a proof of the key that the token is bound to.
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import { createVerifier } from '@holdfast/verify'
import { expressVerify } from '@holdfast/verify/express'
import express from 'express'

const { ISSUER = 'https://localhost:9443', API = 'https://localhost:3001' } = process.env
const { APP = 'http://127.0.0.1:3002', TLS_CERT = 'api.pem', TLS_KEY = 'api-key.pem' } = process.env

const app = express()

// A browser asks first (CORS), without a token: answer before the verifier.
app.use((req, res, next) => {
  res.set('Access-Control-Allow-Origin', APP)
  res.set('Access-Control-Allow-Headers', 'Authorization, DPoP')
  res.set('Access-Control-Expose-Headers', 'DPoP-Nonce, WWW-Authenticate')
  if (req.method === 'OPTIONS') return res.sendStatus(204)
  next()
})

const verify = expressVerify(createVerifier({ issuer: ISSUER, audience: API }))
app.use(verify)
app.get('/orders', verify.requiredScopes('read'), (req, res) => {
  const { claims, methods } = req.auth
  res.json({ orders: ['a harbour map'], client: claims.client_id, proven: methods })
})

const certificate = { cert: readFileSync(TLS_CERT), key: readFileSync(TLS_KEY) }
// For tokens that are bound to certificates: ask for one, and let the verifier compare it.
const mtls = { requestCert: true, rejectUnauthorized: false }
createServer({ ...certificate, ...mtls }, app).listen(new URL(API).port, () => {
  console.log(`The API listens at ${API}`)
})
