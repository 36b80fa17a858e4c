import { createHash } from 'node:crypto'
import http2 from 'node:http2'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import test from 'ava'
import { type NodeRequest, nodeVerify } from '../../packages/verify/node.ts'
import { makeCertificate, type TestCertificate } from '../support/verify/certificates.ts'
import { accessToken, verifierWith } from '../support/verify/world.ts'

const server = await makeCertificate('localhost')
const client = await makeCertificate('client')
const thief = await makeCertificate('thief')
const thumbprint = createHash('sha256').update(client.der).digest('base64url')
const headers = { authorization: `Bearer ${accessToken({ cnf: { 'x5t#S256': thumbprint } })}` }

// RFC 8705 section 7.2: self-signed certificates have no chain that could be validated.
const tls = { cert: server.cert, key: server.key, requestCert: true, rejectUnauthorized: false }
const protect = nodeVerify<NodeRequest, import('node:http').ServerResponse>(verifierWith())
const listener = protect((_request, response, auth) => response.end(auth.methods.join()))

type Sending = (port: number, certificate?: TestCertificate) => Promise<number>

const overHttp1: Sending = (port, certificate) =>
  new Promise((resolve, reject) => {
    const { cert, key } = certificate ?? {}
    const options = { port, headers, ca: server.cert, cert, key, agent: false }
    https
      .get({ host: 'localhost', ...options }, (response) => {
        response.resume()
        response.on('end', () => resolve(response.statusCode ?? 0))
      })
      .on('error', reject)
  })

const overHttp2: Sending = (port, certificate) =>
  new Promise((resolve, reject) => {
    const { cert, key } = certificate ?? {}
    const ours = cert && key ? { cert, key } : {}
    const session = http2.connect(`https://localhost:${port}`, { ca: server.cert, ...ours })
    session.on('error', reject)
    const stream = session.request({ ':path': '/notes', ...headers })
    stream.on('error', reject)
    stream.on('response', (response) => {
      resolve(Number(response[':status']))
      session.close()
    })
    stream.resume()
  })

for (const [name, start, send] of [
  ['HTTP/1.1', () => https.createServer(tls, listener), overHttp1],
  ['HTTP/2', () => http2.createSecureServer(tls, listener as never), overHttp2],
] as const) {
  test(`accepts a bound token only on a connection with its certificate, over ${name}`, async (t) => {
    const listening = start()
    await new Promise<void>((resolve) => listening.listen(0, 'localhost', resolve))
    const { port } = listening.address() as AddressInfo
    t.is(await send(port, client), 200)
    t.is(await send(port, client), 200)
    t.is(await send(port, thief), 401)
    t.is(await send(port), 401)
    await new Promise((resolve) => listening.close(resolve))
  })
}
