import { createServer, type IncomingMessage, type RequestListener } from 'node:http'
import http2 from 'node:http2'
import type { AddressInfo, Server } from 'node:net'
import { serve } from '@hono/node-server'
import express from 'express'
import express4 from 'express4'
import fastify, { type FastifyRequest } from 'fastify'
import { Hono } from 'hono'
import Koa from 'koa'
import type { Facts } from '../../../packages/verify/answer.ts'
import { expressVerify } from '../../../packages/verify/express.ts'
import { fastifyVerify } from '../../../packages/verify/fastify.ts'
import { fetchVerify } from '../../../packages/verify/fetch.ts'
import { koaVerify } from '../../../packages/verify/koa.ts'
import { type NodeRequest, nodeVerify } from '../../../packages/verify/node.ts'
import type { Verified, Verifier } from '../../../packages/verify/verifier.ts'
import { type Adapter, core, type Target } from './core-adapter.ts'
import { sendHttp1, sendHttp2 } from './raw-http.ts'

const maxHeaderSize = 65_536
const answer = (auth: Verified | undefined) => ({ sub: auth?.claims.sub })

async function readBody(request: AsyncIterable<unknown>): Promise<string> {
  let text = ''
  for await (const chunk of request) text += chunk
  return text
}

async function listen(server: Server, send = sendHttp1): Promise<Target> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    send: (request) => send(port, request),
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  }
}

function nodeListener(verifier: Verifier, facts: () => Facts) {
  const protect = nodeVerify<NodeRequest, import('node:http').ServerResponse>(verifier, { facts })
  const open = protect((_, response, auth) => response.end(JSON.stringify(answer(auth))))
  const admin = protect((_, response, auth) => response.end(JSON.stringify(answer(auth))), {
    scopes: ['admin'],
  })
  return async (request: IncomingMessage, response: import('node:http').ServerResponse) => {
    const parsed = Object.assign(request, { body: await readBody(request) })
    await (request.url === '/admin' ? admin : open)(parsed, response)
  }
}

function koaApp(verifier: Verifier, facts: () => Facts): Koa {
  const verify = koaVerify(verifier, { facts })
  const admin = verify.requiredScopes('admin')
  const app = new Koa()
  app.use(async (context, next) => {
    Object.assign(context.request, { body: await readBody(context.req) })
    await next()
  })
  app.use(verify)
  app.use((context, next) => (context.path === '/admin' ? admin(context, next) : next()))
  app.use((context) => {
    context.body = answer(context.state.auth)
  })
  return app
}

/** express 4 and 5 have the same interface here; the types are those of 5. */
function expressApp(make: typeof express, verifier: Verifier, facts: () => Facts) {
  const verify = expressVerify(verifier, { facts })
  const app = make()
  app.use(make.urlencoded({ extended: true }))
  app.use(verify)
  app.use('/admin', verify.requiredScopes('admin'))
  app.use((request, response) => {
    response.json(answer(request.auth))
  })
  return app
}

async function fastifyTarget(verifier: Verifier, facts: () => Facts, h2: boolean) {
  const servers: Server[] = []
  const app = fastify({
    serverFactory: (handler: RequestListener) => {
      const server = h2
        ? http2.createServer(handler as never)
        : createServer({ maxHeaderSize }, handler)
      servers.push(server)
      return server as ReturnType<typeof createServer>
    },
  })
  const verify = fastifyVerify(verifier, { facts })
  app.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'string' },
    (_, body, done) => done(null, body),
  )
  app.decorateRequest('auth')
  app.addHook('preHandler', verify)
  const handler = async (request: FastifyRequest) => answer(request.auth)
  app.all('/admin', { preHandler: verify.requiredScopes('admin') }, handler)
  app.all('/*', handler)
  await app.ready()
  const target = await listen(servers[0] as Server, h2 ? sendHttp2 : sendHttp1)
  const close = async () => {
    await target[Symbol.asyncDispose]()
    await app.close()
  }
  return { ...target, [Symbol.asyncDispose]: close }
}

function makeFetchHandler(verifier: Verifier, facts: () => Facts) {
  const verify = fetchVerify(verifier, {
    facts: async (request) => ({ body: await request.clone().text(), ...facts() }),
  })
  return async (request: Request): Promise<Response> => {
    const scopes = new URL(request.url).pathname === '/admin' ? ['admin'] : []
    const { response, auth } = await verify(request, { scopes })
    return response ?? Response.json(answer(auth), { headers: auth?.responseHeaders ?? {} })
  }
}

const none = () => ({})

/** Every way in which a service may use the library. */
export const adapters: Readonly<Record<string, Adapter>> = {
  core,
  node: async (verifier, facts = none) =>
    listen(createServer({ maxHeaderSize }, nodeListener(verifier, facts))),
  'node-h2': async (verifier, facts = none) =>
    listen(http2.createServer(nodeListener(verifier, facts) as never), sendHttp2),
  koa: async (verifier, facts = none) =>
    listen(createServer({ maxHeaderSize }, koaApp(verifier, facts).callback())),
  'koa-h2': async (verifier, facts = none) =>
    listen(http2.createServer(koaApp(verifier, facts).callback()), sendHttp2),
  express: async (verifier, facts = none) =>
    listen(createServer({ maxHeaderSize }, expressApp(express, verifier, facts))),
  express4: async (verifier, facts = none) =>
    listen(createServer({ maxHeaderSize }, expressApp(express4, verifier, facts))),
  fastify: (verifier, facts = none) => fastifyTarget(verifier, facts, false),
  'fastify-h2': (verifier, facts = none) => fastifyTarget(verifier, facts, true),
  fetch: async (verifier, facts = none) => {
    const handle = makeFetchHandler(verifier, facts)
    return {
      async send({ method, target, headers, body }) {
        const list = new Headers()
        for (const [name, value] of headers) list.append(name, value)
        const url = target.startsWith('/') ? `http://backend.internal${target}` : target
        const request = new Request(url, { method, headers: list, ...(body && { body }) })
        const response = await handle(request)
        return {
          status: response.status,
          headers: Object.fromEntries(
            [...response.headers].map(([name, value]) => [name, [value]]),
          ),
          body: await response.text(),
        }
      },
      [Symbol.asyncDispose]: async () => {},
    }
  },
  hono: async (verifier, facts = none) => {
    const handle = makeFetchHandler(verifier, facts)
    const app = new Hono()
    app.all('*', (context) => handle(context.req.raw))
    const server = await new Promise<Server>((resolve) => {
      const options = {
        fetch: app.fetch,
        port: 0,
        hostname: '127.0.0.1',
        serverOptions: { maxHeaderSize },
      }
      const started = serve(options, () => resolve(started as unknown as Server))
    })
    const { port } = server.address() as AddressInfo
    return {
      send: (request) => sendHttp1(port, request),
      [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
    }
  },
}
