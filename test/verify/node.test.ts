import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import http2 from 'node:http2'
import type { AddressInfo, Server } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import express from 'express'
import { expressVerify } from '../../packages/verify/express.ts'
import { nodeVerify } from '../../packages/verify/node.ts'
import { sendHttp1, sendHttp2 } from '../support/verify/raw-http.ts'
import { accessToken, dpopProof, url, verifierWith } from '../support/verify/world.ts'

const secret = new Error('a secret of the application')

type Handler = (request: IncomingMessage, response: ServerResponse) => unknown
type Options = Parameters<typeof nodeVerify<IncomingMessage, ServerResponse>>[1]

async function ask(t: ExecutionContext, handler: Handler, options: Options = {}, h2 = false) {
  const rejected: unknown[] = []
  const errors: unknown[] = []
  const protect = nodeVerify<IncomingMessage, ServerResponse>(verifierWith(), {
    onError: (error) => errors.push(error),
    ...options,
  })
  const protectedHandler = protect(handler)
  const listener = (request: IncomingMessage, response: ServerResponse) => {
    protectedHandler(request, response).catch((error) => rejected.push(error))
  }
  const server: Server = h2 ? http2.createServer(listener as never) : createServer(listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const token = accessToken()
  const headers = [
    ['Authorization', `DPoP ${token}`],
    ['DPoP', dpopProof(token)],
  ] as const
  const { port } = server.address() as AddressInfo
  const reply = await (h2 ? sendHttp2 : sendHttp1)(port, { method: 'GET', target: url, headers })
  t.deepEqual(rejected, [])
  return { ...reply, errors }
}

for (const [what, handler] of [
  ['throws', () => Promise.reject(secret)],
  [
    'rejects',
    () => {
      throw secret
    },
  ],
] as const) {
  for (const h2 of [false, true]) {
    test(`answers 500 when the handler ${what}, ${h2 ? 'HTTP/2' : 'HTTP/1.1'}`, async (t) => {
      const { status, body, errors } = await ask(t, handler, {}, h2)
      t.is(status, 500)
      t.is(body, '{"error":"server_error"}')
      t.deepEqual(errors, [secret])
    })
  }
}

test('removes the header fields of the response that failed', async (t) => {
  const { status, headers } = await ask(t, (_request, response) => {
    response.setHeader('Set-Cookie', 'session=1')
    throw secret
  })
  t.is(status, 500)
  t.is(headers['set-cookie'], undefined)
  t.deepEqual(headers['cache-control'], ['no-store'])
})

test('cuts off a response that had begun', async (t) => {
  const { status, body } = await ask(t, async (_request, response) => {
    response.writeHead(200, { 'Content-Length': '100' })
    await new Promise((resolve) => response.write('the first part', resolve))
    throw secret
  })
  t.is(status, 200)
  t.is(body, 'the first part')
})

test('keeps a response that was complete', async (t) => {
  const { status, body, errors } = await ask(t, (_request, response) => {
    response.end('whole')
    throw secret
  })
  t.is(status, 200)
  t.is(body, 'whole')
  t.deepEqual(errors, [secret])
})

test('answers 500 when facts fail, and when the listener for errors fails as well', async (t) => {
  const failing = () => {
    throw secret
  }
  const { status } = await ask(t, () => t.fail(), { facts: failing, onError: failing })
  t.is(status, 500)
})

test('express gets the error when an answer cannot be written', async (t) => {
  const app = express()
  const verify = expressVerify(verifierWith())
  app.use((request, response, next) => {
    response.json({ early: true })
    verify(request, response, next)
  })
  const { promise, resolve } = Promise.withResolvers<unknown>()
  app.use(((error: unknown, _request: unknown, _response: unknown, _next: unknown) => {
    resolve(error)
  }) as express.ErrorRequestHandler)
  const server = createServer(app)
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  await sendHttp1(port, { method: 'GET', target: '/', headers: [] })
  t.is(((await promise) as { code?: string }).code, 'ERR_HTTP_HEADERS_SENT')
})
