import { readFileSync } from 'node:fs'
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type ServerResponse,
} from 'node:http'
import http2 from 'node:http2'
import type { AddressInfo, Server } from 'node:net'
import Router from '@koa/router'
import test, { type ExecutionContext } from 'ava'
import express, { type Express } from 'express'
import express4 from 'express4'
import fastify from 'fastify'
import { Hono } from 'hono'
import Koa from 'koa'
import { ClientCertificateError } from '../../packages/verify/client-certificate.ts'
import { createDPoPNonces } from '../../packages/verify/dpop-nonce.ts'
import { VerifyError, verifyErrorCodes } from '../../packages/verify/errors.ts'
import type { VerifyEvent } from '../../packages/verify/events.ts'
import { expressVerify } from '../../packages/verify/express.ts'
import { fastifyVerify } from '../../packages/verify/fastify.ts'
import { fetchVerify } from '../../packages/verify/fetch.ts'
import { koaVerify } from '../../packages/verify/koa.ts'
import { nodeVerify } from '../../packages/verify/node.ts'
import { adapters } from '../support/verify/adapters.ts'
import {
  accessToken,
  audience,
  dpopProof,
  issuer,
  start,
  url,
  verifierWith,
} from '../support/verify/fixtures.ts'
import { sendHttp1, sendHttp2 } from '../support/verify/raw-http.ts'

function request(target = url, token = accessToken(), claims: Record<string, unknown> = {}) {
  const proof = dpopProof(token, { htu: `${audience}${target.split('?')[0]}`, ...claims })
  const headers = [
    ['Authorization', `DPoP ${token}`],
    ['DPoP', proof],
  ] as const
  return { method: 'GET', target, headers }
}

const part = (text: string) => Buffer.from(text).toString('base64url')
/** Deep enough to overflow the stack of code that recurses. */
const nested = `{"iss":${'['.repeat(5900)}${']'.repeat(5900)}}`

const overHttp = Object.entries(adapters).filter(([name]) => name !== 'core')

for (const [name, adapter] of Object.entries(adapters)) {
  test(`${name} hands on what was verified`, async (t) => {
    await using target = await adapter(verifierWith())
    const reply = await target.send(request())
    t.is(reply.status, 200)
    t.is(reply.body, '{"sub":"alice"}')
  })

  test(`${name} asks for scopes where a route needs them`, async (t) => {
    await using target = await adapter(verifierWith())
    const refused = await target.send(request('/admin'))
    t.is(refused.status, 403)
    t.is(JSON.parse(refused.body).error, 'insufficient_scope')
    const token = accessToken({ scope: 'notes:read admin' })
    t.is((await target.send(request('/admin', token))).status, 200)
  })

  test(`${name} rejects an unsigned token of nested arrays`, async (t) => {
    await using target = await adapter(verifierWith())
    for (const token of [`${part('{}')}.${part(nested)}.AA`, `${part(nested)}.${part('{}')}.AA`]) {
      const { status, body } = await target.send(request(url, token))
      t.is(status, 401)
      t.is(JSON.parse(body).error, 'invalid_token')
    }
  })

  test(`${name} rejects two Authorization header fields`, async (t) => {
    const everywhere = { tokenLocations: ['header', 'query'], allowBearer: true } as const
    await using target = await adapter(
      verifierWith({ ...everywhere, allowUnboundTokenInQuery: true }),
    )
    const bearer = accessToken({ cnf: undefined })
    const basic = ['Authorization', 'Basic YTpi'] as const
    const token = ['Authorization', `Bearer ${bearer}`] as const
    for (const fields of [
      [token, token],
      [token, basic],
      [basic, token],
    ]) {
      // The client of HTTP/2 sends no field twice; something on the way may have joined the two.
      const joined = fields.map(([, value]) => value).join(', ')
      const headers = name.endsWith('h2') ? [['Authorization', joined] as const] : fields
      for (const requestTarget of ['/', `/?access_token=${bearer}`]) {
        const { status, body } = await target.send({
          method: 'GET',
          target: requestTarget,
          headers,
        })
        t.is(status, 400, `${headers}`)
        t.is(JSON.parse(body).error, 'invalid_request')
      }
    }
    t.is((await target.send({ method: 'GET', target: '/', headers: [token] })).status, 200)
  })
}

for (const [name, adapter] of overHttp) {
  test(`${name} answers with challenges that other origins may read`, async (t) => {
    await using target = await adapter(verifierWith({ dpop: { algorithms: ['ES256'] } }))
    const { status, headers, body } = await target.send({ method: 'GET', target: url, headers: [] })
    t.is(status, 401)
    t.is(headers['www-authenticate']?.join(', '), 'Bearer, DPoP algs="ES256"')
    t.is(headers['access-control-expose-headers']?.[0], 'WWW-Authenticate, DPoP-Nonce')
    t.is(headers['cache-control']?.[0], 'no-store')
    t.regex(headers['content-type']?.[0] ?? '', /^application\/json/)
    t.is(JSON.parse(body).error_description, 'Request has no access token')
  })

  test(`${name} hands out nonces`, async (t) => {
    const nonces = createDPoPNonces({ secrets: [Buffer.alloc(32, 1)] })
    await using target = await adapter(verifierWith({ dpop: { nonces } }))
    const refused = await target.send(request())
    const nonce = refused.headers['dpop-nonce']?.[0]
    t.is(JSON.parse(refused.body).error, 'use_dpop_nonce')
    t.is((await target.send(request(url, accessToken(), { nonce }))).status, 200)

    const old = nonces.current(start - 150)
    const { headers } = await target.send(request(url, accessToken(), { nonce: old }))
    t.is(headers['dpop-nonce']?.[0], nonce)
    t.is(headers['cache-control']?.[0], 'no-store')
  })

  test(`${name} publishes the metadata of the resource`, async (t) => {
    await using target = await adapter(verifierWith({ metadata: {} }))
    const path = '/.well-known/oauth-protected-resource'
    const { status, headers, body } = await target.send({
      method: 'GET',
      target: path,
      headers: [],
    })
    t.is(status, 200)
    t.is(headers['access-control-allow-origin']?.[0], '*')
    t.like(JSON.parse(body), { resource: audience, authorization_servers: [issuer] })
  })

  test(`${name} lets everything pass in observe mode, and reports it`, async (t) => {
    const events: VerifyEvent[] = []
    const onEvent = (event: VerifyEvent) => events.push(event)
    await using target = await adapter(verifierWith({ mode: 'observe', onEvent }))
    const unknown = await target.send({ method: 'GET', target: '/admin', headers: [] })
    t.is(unknown.status, 200)
    t.is(unknown.body, '{}')
    t.is((await target.send(request('/admin'))).status, 200)
    t.like(events, [
      { type: 'refused', code: 'credentials_missing', enforced: false },
      { type: 'accepted' },
      { type: 'refused', code: 'insufficient_scope', enforced: false },
    ])
  })

  test(`${name} keeps what a query token brings out of caches`, async (t) => {
    const options = { tokenLocations: ['query'], allowBearer: true } as const
    const verifier = verifierWith({ ...options, allowUnboundTokenInQuery: true })
    await using target = await adapter(verifier)
    const token = accessToken({ cnf: undefined })
    const sent = { method: 'GET', target: `/?access_token=${token}`, headers: [] }
    const { status, headers } = await target.send(sent)
    t.is(status, 200)
    t.is(headers['cache-control']?.[0], 'no-store')
  })

  test(`${name} rejects a certificate that an untrusted peer has forwarded`, async (t) => {
    const facts = () => {
      throw new ClientCertificateError('untrusted_peer', 'not from the proxy')
    }
    const events: VerifyEvent[] = []
    const onEvent = (event: VerifyEvent) => events.push(event)
    await using target = await adapter(verifierWith({ onEvent }), facts)
    t.is((await target.send(request())).status, 400)
    t.like(events, [{ type: 'refused', code: 'facts_refused' }])
  })

  test(`${name} works behind a proxy that strips a prefix`, async (t) => {
    await using target = await adapter(verifierWith({ publicPaths: { '/': '/api' } }))
    const seen = { htu: `${audience}/api/notes` }
    t.is((await target.send(request('/notes', accessToken(), seen))).status, 200)
    t.is((await target.send(request('/notes'))).status, 401)
  })
}

async function serve(app: Koa) {
  const server = createServer(app.callback())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { origin, [Symbol.asyncDispose]: async () => void server.close() }
}

function makeApp(): Koa {
  const app = new Koa()
  app.use(koaVerify(verifierWith()))
  app.use((ctx) => {
    ctx.body = { sub: ctx.state.auth.claims.sub }
  })
  return app
}

test('lets a valid request through, with what was verified', async (t) => {
  await using server = await serve(makeApp())
  const token = accessToken()
  const headers = { authorization: `DPoP ${token}`, dpop: dpopProof(token) }
  const response = await fetch(`${server.origin}/notes?limit=3`, { headers })
  t.is(response.status, 200)
  t.deepEqual(await response.json(), { sub: 'alice' })
})

test('answers a refused request with its challenges', async (t) => {
  await using server = await serve(makeApp())
  const response = await fetch(`${server.origin}/notes`)
  t.is(response.status, 401)
  t.regex(response.headers.get('www-authenticate') ?? '', /^Bearer, DPoP algs="ES256 /)
  t.is(response.headers.get('access-control-expose-headers'), 'WWW-Authenticate, DPoP-Nonce')
  t.is(response.headers.get('cache-control'), 'no-store')
})

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

function headersFor(path: string): Record<string, string> {
  const token = accessToken({ acr: 'gold', auth_time: start })
  return { authorization: `DPoP ${token}`, dpop: dpopProof(token, { htu: `${audience}${path}` }) }
}

async function mountedAsk(listener: RequestListener, path: string, htu = path): Promise<number> {
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
    t.is(await mountedAsk(app, '/api/notes'), 200)
    t.is(await mountedAsk(app, '/api/notes', '/notes'), 401)
  })

  test(`${name} gets errors that are no refusals`, async (t) => {
    const app: Express = make()
    app.use(expressVerify(verifierWith(), { facts: () => Promise.reject(new Error('broken')) }))
    app.use(((error, _request, response, _next) => {
      response.status(500).json({ message: error.message })
    }) as express.ErrorRequestHandler)
    t.is(await mountedAsk(app, '/notes'), 500)
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
    t.is(await mountedAsk(app, '/gold'), 200)
    t.is(await mountedAsk(app, '/platinum'), 401)
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
  t.is(await mountedAsk(app.callback(), '/api/notes'), 200)
  t.is(await mountedAsk(app.callback(), '/api/notes', '/notes'), 401)
  t.is(await mountedAsk(app.callback(), '/api/platinum'), 401)
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
  t.is(await mountedAsk(listener, '/api/notes'), 200)
  t.is(await mountedAsk(listener, '/api/notes', '/notes'), 401)
})

test('a route that asks for scopes of an unverified request is an error of the program', async (t) => {
  const verify = koaVerify(verifierWith())
  const context = { state: {} } as Parameters<typeof verify>[0]
  await t.throwsAsync(
    verify.requiredScopes('a')(context, async () => {}),
    { instanceOf: TypeError },
  )
})

const readme = readFileSync(new URL('../../packages/verify/README.md', import.meta.url), 'utf8')
const rows = [...readme.matchAll(/^\| `(\w+)` \| (\d+) \| (?:`(\w+)`)? ?\| (.+) \|$/gm)]

test('the table of refusals has every code, its status and its error', (t) => {
  const documented = rows.map(([, code, status, error]) => ({
    code,
    status: Number(status),
    error,
  }))
  const actual = verifyErrorCodes.map((code) => {
    const { status, error } = new VerifyError(code, '')
    return { code, status, error }
  })
  const sorted = (list: readonly object[]) => list.map((row) => JSON.stringify(row)).sort()
  t.deepEqual(sorted(documented), sorted(actual))
})

test('every framework has a quick start of ten lines or fewer', (t) => {
  const [, start = ''] = readme.split('## Quick start')
  const blocks = [...(start.split('\n## ')[0] ?? '').matchAll(/```js\n([\s\S]*?)```/g)]
  t.is(blocks.length, 6)
  for (const [, code = ''] of blocks) {
    t.true(code.split('\n').filter((line) => line.trim() !== '').length <= 10, code)
  }
})
