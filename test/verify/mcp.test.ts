import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import express from 'express'
import { createLeases } from '../../packages/verify/leases.ts'
import { createMcpGuard, type McpGuard, type McpGuardOptions } from '../../packages/verify/mcp.ts'
import { accessToken, dpopProof, issuer, jwks, start } from '../support/verify/fixtures.ts'

const resource = 'https://mcp.example/mcp'
const metadataPath = '/.well-known/oauth-protected-resource/mcp'

function guardWith(options: Partial<McpGuardOptions> = {}): McpGuard {
  const scopes = ['mcp:tools']
  const tools = { delete_note: ['notes:write'] }
  const now = () => start * 1000
  return createMcpGuard({ issuer, jwks, resource, scopes, tools, now, ...options })
}

const call = (name: string) => ({
  jsonrpc: '2.0',
  id: 1,
  method: 'tools/call',
  params: { name, arguments: {} },
})

/** An MCP server by express that answers with what it was handed. */
async function serve(t: ExecutionContext, app: express.Express) {
  const server = createServer(app)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close().closeAllConnections())
  const { port } = server.address() as AddressInfo
  return (path: string, init: RequestInit = {}) => fetch(`http://127.0.0.1:${port}${path}`, init)
}

function appWith(guard: McpGuard): express.Express {
  const app = express()
  app.use(guard.middleware as express.RequestHandler)
  app.all('/mcp', (request, response) => {
    const { clientId, scopes, token } = request.auth as never as Record<string, unknown>
    response.json({ clientId, scopes, token, body: request.body ?? null })
  })
  return app
}

type Send = Awaited<ReturnType<typeof serve>>

/** A message with a token and a proof that has the nonce of the server. */
async function post(
  send: Send,
  message: unknown,
  {
    claims = {},
    nonce = true,
    body = JSON.stringify(message),
    scheme = 'DPoP',
    path = '/mcp',
  } = {},
) {
  const token = accessToken({ aud: resource, scope: 'mcp:tools', ...claims })
  const attempt = (given?: string | null) => {
    const own = { htm: 'POST', htu: `https://mcp.example${path}`, ...(given && { nonce: given }) }
    const headers = {
      authorization: `${scheme} ${token}`,
      dpop: dpopProof(token, own),
      'content-type': 'application/json',
    }
    return send(path, { method: 'POST', headers, body })
  }
  const first = await attempt()
  return nonce ? attempt(first.headers.get('dpop-nonce')) : first
}

test('guards an MCP server, and hands on who is calling', async (t) => {
  const send = await serve(t, appWith(guardWith()))
  const response = await post(send, call('list_notes'))
  t.is(response.status, 200)
  t.deepEqual(await response.json(), {
    clientId: 'app',
    scopes: ['mcp:tools'],
    token: '',
    body: call('list_notes'),
  })
  t.is(response.headers.get('access-control-allow-origin'), '*')
})

test('says in its metadata and in the challenge what a client has to ask for', async (t) => {
  const send = await serve(t, appWith(guardWith()))
  const challenge = await send('/mcp', { method: 'POST' })
  t.is(challenge.status, 401)
  const [bearer, dpop] = (challenge.headers.get('www-authenticate') ?? '').split(/, (?=DPoP)/)
  const at = `resource_metadata="https://mcp.example${metadataPath}"`
  t.is(bearer, `Bearer scope="mcp:tools", ${at}`)
  t.regex(dpop ?? '', /^DPoP scope="mcp:tools", algs="[^"]*ES256[^"]*", resource_metadata=/)
  const metadata = await send(metadataPath)
  t.is(metadata.headers.get('access-control-allow-origin'), '*')
  t.like(await metadata.json(), {
    resource,
    authorization_servers: [issuer],
    scopes_supported: ['mcp:tools', 'notes:write'],
  })
})

test('answers preflight requests, and no others, without a token', async (t) => {
  const send = await serve(t, appWith(guardWith()))
  const response = await send('/mcp', { method: 'OPTIONS' })
  t.is(response.status, 204)
  t.is(response.headers.get('access-control-allow-headers'), 'Authorization, *')
  t.is(await response.text(), '')
  for (const method of ['GET', 'POST', 'DELETE', 'HEAD']) {
    t.is((await send('/mcp', { method })).status, 401, method)
  }
  for (const path of ['/MCP', '/mcp/', '/%6dcp', `${metadataPath}/more`]) {
    t.is((await send(path)).status, 401, path)
  }
})

for (const [title, change, status, error] of [
  ['a proof without its nonce', { nonce: false }, 401, 'use_dpop_nonce'],
  ['a token of another resource', { claims: { aud: 'https://mcp.example' } }, 401, 'invalid_token'],
  ['a token without a scope', { claims: { scope: 'openid' } }, 403, 'insufficient_scope'],
  ['a bearer token', { claims: { cnf: undefined }, scheme: 'Bearer' }, 401, 'invalid_token'],
  ['a bound token as a bearer token', { scheme: 'Bearer' }, 401, 'invalid_token'],
] as const) {
  test(`rejects ${title}`, async (t) => {
    const send = await serve(t, appWith(guardWith()))
    const response = await post(send, call('list_notes'), change)
    t.is(response.status, status)
    t.like(await response.json(), { error })
    t.truthy(response.headers.get('access-control-allow-origin'))
  })
}

for (const [title, message] of Object.entries({
  'a call of a tool': call('delete_note'),
  'one call of several': [call('list_notes'), call('delete_note')],
})) {
  test(`asks for the scopes of ${title}`, async (t) => {
    const send = await serve(t, appWith(guardWith()))
    const refused = await post(send, message)
    t.is(refused.status, 403)
    t.regex(
      refused.headers.get('www-authenticate') ?? '',
      /DPoP error="insufficient_scope", .*scope="mcp:tools notes:write"/,
    )
    const claims = { scope: 'mcp:tools notes:write' }
    t.is((await post(send, message, { claims })).status, 200)
  })
}

test('asks for the scopes of a tool where a parser has read the message before', async (t) => {
  const app = express()
  app.use(express.json())
  app.use(guardWith().middleware as express.RequestHandler, (_request, response) => {
    response.end()
  })
  const send = await serve(t, app)
  t.is((await post(send, call('list_notes'))).status, 200)
  t.is((await post(send, call('delete_note'))).status, 403)
})

test('rejects a message that is not JSON, and one that is too large', async (t) => {
  const send = await serve(t, appWith(guardWith()))
  const malformed = await post(send, undefined, { body: '{"method":' })
  t.is(malformed.status, 400)
  t.is(((await malformed.json()) as { error: { code: number } }).error.code, -32700)
  const large = await post(send, undefined, { body: `"${'a'.repeat(4 * 1024 * 1024)}"` })
  t.is(large.status, 413)
})

test('accepts bearer tokens only by a switch that warns', async (t) => {
  const warnings: string[] = []
  const guard = guardWith({
    dangerouslyAcceptBearerTokens: true,
    warn: (message) => warnings.push(message),
  })
  t.regex(warnings.join(), /mcp\.example\/mcp accepts access tokens that are bound to no key/)
  const send = await serve(t, appWith(guard))
  const claims = { cnf: undefined }
  t.is((await post(send, call('list_notes'), { claims, scheme: 'Bearer' })).status, 200)
  t.is((await post(send, call('list_notes'), { scheme: 'Bearer' })).status, 401)
  t.like(await (await send(metadataPath)).json(), { dpop_bound_access_tokens_required: false })
})

test('keeps the tokens of several servers in one process apart', async (t) => {
  const other = guardWith({ resource: 'https://mcp.example/other' })
  const guard = guardWith()
  const app = express()
  app.use(guard.metadata as express.RequestHandler, other.metadata as express.RequestHandler)
  for (const [path, each] of Object.entries({ '/mcp': guard, '/other': other })) {
    app.use(path, each.middleware as express.RequestHandler, (_request, response) => {
      response.end()
    })
  }
  const send = await serve(t, app)
  const claims = { aud: 'https://mcp.example/other' }
  t.is((await post(send, call('list_notes'))).status, 200)
  t.is((await post(send, call('list_notes'), { claims, path: '/other' })).status, 200)
  t.is((await post(send, call('list_notes'), { claims })).status, 401)
  t.is((await post(send, call('list_notes'), { path: '/other' })).status, 401)
  t.like(await (await send('/.well-known/oauth-protected-resource/other')).json(), {
    resource: 'https://mcp.example/other',
  })
  t.is((await send(metadataPath)).status, 200)
})

test('ends a response that is open when the token ends', async (t) => {
  let sweep = () => {}
  let now = start
  const leases = createLeases({
    now: () => now * 1000,
    everySecond: (given) => {
      sweep = given
      return () => {}
    },
  })
  const app = express()
  app.use(guardWith({ leases }).middleware as express.RequestHandler, (_request, response) => {
    response.write('open\n')
  })
  const send = await serve(t, app)
  const response = await post(send, call('list_notes'), { claims: { exp: start + 60 } })
  t.is(leases.size, 1)
  now = start + 60
  sweep()
  t.is(await response.text(), 'open\n')
})

test('guards servers of fetch requests', async (t) => {
  const guard = guardWith()
  const challenge = await guard.fetch(new Request(resource, { method: 'POST' }))
  t.is(challenge.response?.status, 401)
  t.is((await guard.fetch(new Request(resource, { method: 'OPTIONS' }))).response?.status, 204)
  const send: Send = async (_path, init) => {
    const { response, ...admission } = await guard.fetch(new Request(resource, init))
    return response ?? Response.json(admission)
  }
  const admission = await post(send, call('list_notes'))
  t.is(admission.status, 200)
  t.like(await admission.json(), { authInfo: { clientId: 'app' }, body: call('list_notes') })
  t.is((await post(send, call('delete_note'))).status, 403)
  t.is((await post(send, undefined, { body: '{' })).status, 400)
  // A GET has no message to look at.
  const token = accessToken({ aud: resource, scope: 'mcp:tools' })
  const get = (nonce?: string) => {
    const dpop = dpopProof(token, { htu: resource, ...(nonce && { nonce }) })
    return guard.fetch(new Request(resource, { headers: { authorization: `DPoP ${token}`, dpop } }))
  }
  const asked = await get()
  t.is((await get(asked.response?.headers.get('dpop-nonce') ?? '')).response, undefined)
})

test('says what is wrong with options that only look like some', (t) => {
  t.throws(() => createMcpGuard(null as never), { message: /must be an object/ })
  t.throws(() => guardWith({ resource: [resource] as never }), { message: /resource is needed/ })
})

for (const [title, options] of Object.entries({
  'bearer tokens by the name that verifiers have': { allowBearer: true },
  'bearer tokens of one issuer': {
    issuer: undefined,
    issuers: [{ issuer, jwks, allowBearer: true }],
  },
  'an audience beside the resource': { audience: 'https://api.example' },
  'tokens in the query': { tokenLocations: ['query'] },
  'requests that are only observed': { mode: 'observe' },
  'several replicas, each with nonces of its own': {
    replicas: 2,
    replay: { shared: true, consume: () => 'fresh' },
  },
  'scopes of a tool that are none': { tools: { delete_note: [] } },
  'an unknown option': { scope: ['mcp:tools'] },
})) {
  test(`does not start with ${title}`, (t) => {
    t.throws(() => guardWith(options as never), { instanceOf: TypeError })
  })
}
