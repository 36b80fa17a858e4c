// The programs of examples/verify, with an issuer that answers in this process.
import { hash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import { signGateRequest } from '../../packages/verify/gate.ts'
import { parseTokenBindingId } from '../../packages/verify/token-binding.ts'
import { gateKey } from '../support/gate.ts'
import { makeEcKey, tokenBindingId } from '../support/token-binding-messages.ts'
import { accessToken, audience, dpopProof, issuer, jwks } from '../support/verify/fixtures.ts'

const load = (file: string) =>
  import(new URL(`../../examples/verify/${file}`, import.meta.url).href)

const published: Record<string, unknown> = {
  [`${issuer}/.well-known/oauth-authorization-server`]: { issuer, jwks_uri: `${issuer}/jwks` },
  [`${issuer}/jwks`]: jwks,
  [`${audience}/.well-known/holdfast-gate/jwks.json`]: { keys: [gateKey.publicJwk] },
}
const { fetch } = globalThis
globalThis.fetch = async (input, init) => {
  const url = String(input)
  if (!url.startsWith('https://')) return fetch(input, init)
  return url in published ? Response.json(published[url]) : new Response(null, { status: 404 })
}

/** The header fields of a request that the API accepts. */
function headersOf(scope: string) {
  const now = Math.floor(Date.now() / 1000)
  const token = accessToken({ iat: now, exp: now + 60, scope })
  return { authorization: `DPoP ${token}`, dpop: dpopProof(token, { iat: now }) }
}

type Send = (headers: Record<string, string>) => Promise<Response>

/** Sends the requests that every quick start must tell apart. */
async function guards(t: ExecutionContext, send: Send): Promise<void> {
  const accepted = await send(headersOf('notes:read'))
  t.is(accepted.status, 200)
  t.like(await accepted.json(), { sub: 'alice' })
  const { authorization } = headersOf('notes:read')
  t.is((await send({ authorization: authorization.replace('DPoP', 'Bearer') })).status, 401)
  t.is((await send(headersOf('other'))).status, 403)
}

async function listening(t: ExecutionContext, server: Server): Promise<Send> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close().closeAllConnections())
  const { port } = server.address() as AddressInfo
  return (headers) => fetch(`http://127.0.0.1:${port}/notes`, { headers })
}

test('guards an application behind a gate', async (t) => {
  const send = await listening(t, (await load('gate.js')).server)
  const signed = signGateRequest(
    { method: 'GET', targetUri: `${audience}/notes`, headers: [] },
    {
      ...{ key: gateKey.key, keyId: gateKey.keyId, audience, lifetime: 10 },
      identity: { claims: { iss: issuer, sub: 'alice' }, methods: ['dpop'] },
      digest: hash('sha256', '', 'buffer'),
      now: Date.now() / 1000,
    },
  )
  const headers = Object.fromEntries(
    signed.flatMap((name, at) => (at % 2 === 0 ? [[name, signed[at + 1] as string]] : [])),
  )
  t.is(await (await send(headers)).text(), 'hello alice')
  t.is(await (await send(headers)).text(), 'gate_replayed')
})

test('guards an express API', async (t) => {
  await guards(t, await listening(t, createServer((await load('express.js')).app)))
})

test('guards a koa API', async (t) => {
  await guards(t, await listening(t, createServer((await load('koa.js')).app.callback())))
})

test('guards a fastify API', async (t) => {
  const { app } = await load('fastify.js')
  await guards(t, async (headers) => {
    const { statusCode, body } = await app.inject({ url: '/notes', headers })
    return new Response(body, { status: statusCode })
  })
})

test('guards a Hono API', async (t) => {
  const { app } = await load('hono.js')
  await guards(t, async (headers) => app.request('/notes', { headers }))
})

test('guards a route handler of Next', async (t) => {
  const { GET } = await load('next-route.js')
  await guards(t, (headers) => GET(new Request(`${audience}/notes`, { headers })))
})

test('guards a server of node:http', async (t) => {
  await guards(t, await listening(t, (await load('node.js')).server))
})

test('has options that the verifier accepts', async (t) => {
  const options = await load('options.js')
  const verifier = options.withEvents({ warn() {} })
  const { authorization, dpop } = headersOf('notes:read')
  const rawHeaders = ['Authorization', authorization, 'DPoP', dpop]
  const request = { method: 'GET', url: '/notes', rawHeaders }
  const { claims, methods } = await options.withoutFramework(verifier, request, {})
  t.is(claims.sub, 'alice')
  t.deepEqual(methods, ['dpop'])
  t.is(typeof options.behindProxy(verifier), 'function')
  t.is(typeof options.behindNginx(), 'function')
  t.truthy(options.withReplicas({}, { query() {} }).inPostgres)
  const nonces = options.withNonces(Buffer.alloc(32, 1).toString('base64'))
  await t.throwsAsync(nonces.verify({ ...request, headers: rawHeaders }), { code: 'dpop_nonce' })
  for (const make of [options.withIntrospection, options.withSeveralIssuers]) t.truthy(make('s'))
  await t.throwsAsync(options.checkIdToken('no JWT', 'n', { deviceKeyThumbprint: 'x' }), {
    code: 'token_malformed',
  })
})

test('verifies Token Bindings of requests and of logins', async (t) => {
  const { beginLogin, finishLogin, verifyRequest } = await load('token-binding.js')
  const connection = { negotiated: undefined, ekm: new Uint8Array(32) }
  const request = { method: 'GET', url: '/notes', rawHeaders: [] }
  await t.throwsAsync(async () => verifyRequest(connection, request, { issuer, audience }), {
    code: 'credentials_missing',
  })
  const id = tokenBindingId(makeEcKey()).toString('base64url')
  const proof = { provided: parseTokenBindingId(id) }
  const response = { writeHead: () => response, end() {} }
  t.is(
    beginLogin(proof, response, ({ code_challenge }: Record<string, string>) => code_challenge),
    id,
  )
  const redeem = async (verifier: string) => ({ id_token: `for ${t.is(verifier, id)}` })
  await t.throwsAsync(finishLogin(id, proof, redeem, { issuer, clientId: 'rp', nonce: 'n' }), {
    code: 'token_malformed',
  })
})

test('opens streams by ticket', async (t) => {
  const { streams } = await load('tickets.js')
  const server = streams({ secret: Buffer.alloc(32, 1), issuer, audience, isRevoked: () => false })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close().closeAllConnections())
  const { port } = server.address() as AddressInfo
  const here = `127.0.0.1:${port}`
  const ticketFor = async (url: string) => {
    const now = Math.floor(Date.now() / 1000)
    const token = accessToken({ iat: now, exp: now + 60 })
    const proof = dpopProof(token, { iat: now, htm: 'POST', htu: `${audience}/tickets` })
    const response = await fetch(`http://${here}/tickets`, {
      method: 'POST',
      headers: {
        authorization: `DPoP ${token}`,
        dpop: proof,
        'content-type': 'application/json',
      },
      body: JSON.stringify({ url }),
    })
    t.is(response.status, 200)
    return `${url}?ticket=${((await response.json()) as { ticket: string }).ticket}`
  }
  const events = await fetch(`http://${here}${await ticketFor('/events')}`)
  t.is(events.status, 200)
  await events.body?.cancel()
  const socket = new WebSocket(`ws://${here}${await ticketFor('/chat')}`)
  const [{ data }] = await once(socket, 'message')
  t.is(data, 'hello alice')
  socket.close()
})

test('guards an MCP server', async (t) => {
  const { mcpServer } = await load('mcp.js')
  const handleRequest = (_req: unknown, res: { end(text: string): void }, body: unknown) =>
    res.end(JSON.stringify(body))
  const resource = `${audience}/mcp`
  const server = createServer(mcpServer({ transport: { handleRequest }, issuer, resource }))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close().closeAllConnections())
  const { port } = server.address() as AddressInfo
  const send = (nonce?: string | null) => {
    const now = Math.floor(Date.now() / 1000)
    const token = accessToken({ iat: now, exp: now + 60, aud: resource, scope: 'mcp:tools' })
    const proof = { iat: now, htm: 'POST', htu: resource, ...(nonce && { nonce }) }
    return fetch(`http://127.0.0.1:${port}/mcp`, {
      method: 'POST',
      headers: { authorization: `DPoP ${token}`, dpop: dpopProof(token, proof) },
      body: '{"method":"tools/list"}',
    })
  }
  const challenge = await send()
  t.is(challenge.status, 401)
  const response = await send(challenge.headers.get('dpop-nonce'))
  t.deepEqual(await response.json(), { method: 'tools/list' })
})
