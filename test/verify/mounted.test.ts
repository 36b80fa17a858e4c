import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import Router from '@koa/router'
import test from 'ava'
import express, { type Express } from 'express'
import express4 from 'express4'
import fastify from 'fastify'
import { Hono } from 'hono'
import Koa from 'koa'
import { expressVerify } from '../../packages/verify/express.ts'
import { fastifyVerify } from '../../packages/verify/fastify.ts'
import { fetchVerify } from '../../packages/verify/fetch.ts'
import { koaVerify } from '../../packages/verify/koa.ts'
import { nodeVerify } from '../../packages/verify/node.ts'
import { accessToken, audience, dpopProof, start, verifierWith } from '../support/verify/world.ts'

function headersFor(path: string): Record<string, string> {
  const token = accessToken({ acr: 'gold', auth_time: start })
  return { authorization: `DPoP ${token}`, dpop: dpopProof(token, { htu: `${audience}${path}` }) }
}

async function ask(listener: RequestListener, path: string, htu = path): Promise<number> {
  const server = createServer(listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const response = await fetch(`http://127.0.0.1:${port}${path}`, { headers: headersFor(htu) })
  await response.text()
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
  return response.status
}

for (const [name, make] of [
  ['express', express],
  ['express 4', express4],
] as const) {
  test(`${name} sees the whole path when mounted`, async (t) => {
    const router = make.Router()
    router.use(expressVerify(verifierWith()))
    router.get('/notes', (_request, response) => {
      response.json({})
    })
    const app: Express = make()
    app.use('/api', router)
    t.is(await ask(app, '/api/notes'), 200)
    t.is(await ask(app, '/api/notes', '/notes'), 401)
  })

  test(`${name} gets errors that are no refusals`, async (t) => {
    const app: Express = make()
    app.use(expressVerify(verifierWith(), { facts: () => Promise.reject(new Error('broken')) }))
    app.use(((error, _request, response, _next) => {
      response.status(500).json({ message: error.message })
    }) as express.ErrorRequestHandler)
    t.is(await ask(app, '/notes'), 500)
  })

  test(`${name} asks for a stronger authentication`, async (t) => {
    const verify = expressVerify(verifierWith())
    const app: Express = make()
    app.use(verify)
    app.get('/gold', verify.stepUp({ acrValues: ['gold'], maxAge: 10 }), (_request, response) => {
      response.json({})
    })
    app.get('/platinum', verify.stepUp({ acrValues: ['platinum'] }), (_request, response) => {
      response.json({})
    })
    t.is(await ask(app, '/gold'), 200)
    t.is(await ask(app, '/platinum'), 401)
  })
}

test('koa sees the whole path behind a router with a prefix', async (t) => {
  const verify = koaVerify(verifierWith())
  const router = new Router({ prefix: '/api' })
  router.use(verify)
  router.get('/notes', verify.stepUp({ acrValues: ['gold'] }), (context) => {
    context.body = {}
  })
  router.get('/platinum', verify.stepUp({ acrValues: ['platinum'] }), (context) => {
    context.body = {}
  })
  const app = new Koa().use(router.routes())
  t.is(await ask(app.callback(), '/api/notes'), 200)
  t.is(await ask(app.callback(), '/api/notes', '/notes'), 401)
  t.is(await ask(app.callback(), '/api/platinum'), 401)
})

test('fastify sees the whole path in a plugin with a prefix', async (t) => {
  const verify = fastifyVerify(verifierWith())
  const app = fastify()
  await app.register(
    async (api) => {
      api.decorateRequest('auth')
      api.addHook('onRequest', verify)
      api.get('/notes', { preHandler: verify.stepUp({ acrValues: ['gold'] }) }, async () => ({}))
      api.get(
        '/platinum',
        { preHandler: verify.stepUp({ acrValues: ['platinum'] }) },
        async () => ({}),
      )
    },
    { prefix: '/api' },
  )
  for (const [path, htu, status] of [
    ['/api/notes', '/api/notes', 200],
    ['/api/notes', '/notes', 401],
    ['/api/platinum', '/api/platinum', 401],
  ] as const) {
    const reply = await app.inject({ method: 'GET', url: path, headers: headersFor(htu) })
    t.is(reply.statusCode, status)
  }
  await app.close()
})

test('hono sees the whole path in a route of another app', async (t) => {
  const verify = fetchVerify(verifierWith())
  const api = new Hono()
  api.use(async (context, next) => {
    const { response } = await verify(context.req.raw)
    if (response !== undefined) return response
    return next()
  })
  api.get('/notes', (context) => context.json({}))
  const app = new Hono().route('/api', api)
  const status = async (htu: string) =>
    (await app.request('http://backend.internal/api/notes', { headers: headersFor(htu) })).status
  t.is(await status('/api/notes'), 200)
  t.is(await status('/notes'), 401)
})

test('plain node sees the whole path', async (t) => {
  const protect = nodeVerify(verifierWith())
  const listener = protect((_request, response, auth) => response.end(auth.claims.sub ?? ''))
  t.is(await ask(listener, '/api/notes'), 200)
  t.is(await ask(listener, '/api/notes', '/notes'), 401)
})

test('a route that asks for scopes of an unverified request is an error of the program', async (t) => {
  const verify = koaVerify(verifierWith())
  const context = { state: {} } as Parameters<typeof verify>[0]
  await t.throwsAsync(
    verify.requiredScopes('a')(context, async () => {}),
    { instanceOf: TypeError },
  )
})
