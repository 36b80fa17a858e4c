import { createServer } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { createGateVerifier } from '@holdfast/verify/gate'

const gate = createGateVerifier({
  audience: 'https://api.example',
  jwksUri: 'https://api.example/.well-known/holdfast-gate/jwks.json',
})

const server = createServer(async (request, response) => {
  const { method, url, rawHeaders: headers } = request
  // The gate sends a length with every body that it has signed.
  const length = Number(request.headers['content-length'] ?? 0)
  if (request.headers['transfer-encoding'] || length > 65_536) {
    return response.writeHead(413, { Connection: 'close' }).end()
  }
  try {
    const body = await buffer(request)
    const { identity } = await gate.verify({ method, url, headers, body })
    response.end(`hello ${identity.claims.sub}`)
  } catch (error) {
    response.writeHead(error.status ?? 500).end(error.code)
  }
})

export { server }
