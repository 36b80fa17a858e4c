/** A process of its own that serves one protected resource with express, for `http.ts`. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import express, { type RequestHandler } from 'express'
import { expressVerify } from '../../../packages/verify/express.ts'
import { createVerifier } from '../../../packages/verify/verifier.ts'
import { makeJoseByHand, startAuth0 } from './peers.ts'
import { audience, issuer } from './requests.ts'

const [, , name, keySet = ''] = process.argv
const jwks = JSON.parse(keySet)

async function middleware(): Promise<RequestHandler> {
  if (name === 'ours') {
    return expressVerify(createVerifier({ issuer, audience, jwks })) as RequestHandler
  }
  if (name === 'auth0') return (await startAuth0(jwks)).middleware
  const joseByHand = makeJoseByHand(jwks)
  return (request, _response, next) => {
    const [, token = ''] = (request.get('authorization') ?? '').split(' ')
    const proof = request.get('dpop') ?? ''
    const uri = `${audience}${request.originalUrl.split('?')[0]}`
    joseByHand({ method: request.method, uri, token, proof }).then(() => next(), next)
  }
}

const app = express()
app.disable('x-powered-by')
app.set('trust proxy', true)
app.use(await middleware())
app.use((_request, response) => {
  response.json({})
})
const server = createServer(app)
server.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port))
process.on('message', () => process.send?.(process.cpuUsage()))
