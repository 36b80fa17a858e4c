import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import https from 'node:https'
import anyTest, { type ExecutionContext } from 'ava'
import { decodeJwt } from 'jose'
import {
  createMemoryKeys,
  equip,
  TokenBindingAgent,
} from '../../packages/token-binding-tls/index.ts'
import { includeReferredTokenBindingId } from '../../packages/verify/token-binding-login.ts'
import { agentFetch } from '../support/agent-fetch.ts'
import { createPerson, obtainCode, post, refreshing } from '../support/flow.ts'
import { type TestServer, useTestServer } from '../support/server.ts'
import { forwarded, newId } from '../support/token-binding.ts'
import { certificate, listen, skipped } from '../token-binding-tls/support.ts'

const test = skipped ? anyTest.skip : anyTest

const modes = ['tls', 'tls13-draft'] as const
type Mode = (typeof modes)[number]

const serverWith = (mode: Mode) =>
  useTestServer(anyTest, { HOLDFAST_TLS: 'on', HOLDFAST_TOKEN_BINDING: mode })
const servers = skipped
  ? undefined
  : { tls: serverWith('tls'), 'tls13-draft': serverWith('tls13-draft') }

async function connectTo(t: ExecutionContext, mode: Mode) {
  const server = servers?.[mode] as TestServer
  const ca = [await readFile(server.authorityFile ?? '', 'utf8'), certificate.cert]
  return {
    server,
    client: await server.addClient({ binding_method: 'token-binding' }),
    plain: agentFetch(new https.Agent({ ca })),
    /** A client or browser with keys of its own, or those of another on new connections. */
    connect(keys = createMemoryKeys()) {
      const tls13Draft = mode === 'tls13-draft'
      const agent = new TokenBindingAgent({ ca, keys, tls13Draft, keepAlive: true })
      t.teardown(() => agent.destroy())
      return agentFetch(agent)
    },
  }
}

/** What an agent with these keys says on a connection with another server of the same name. */
async function recordMessage(t: ExecutionContext, fetch: typeof globalThis.fetch): Promise<string> {
  const server = equip(() =>
    https.createServer(certificate, ({ headers }, response) =>
      response.end(headers['sec-token-binding']),
    ),
  )
  return (await fetch(`https://localhost:${await listen(t, server)}/`)).text()
}

/** A server that has its own key of the client shown where it sends them (RFC 8473 section 5.3). */
async function serveReferrer(t: ExecutionContext, location: string, mode: Mode): Promise<string> {
  const headers = { ...includeReferredTokenBindingId, location }
  const server = equip(
    () =>
      https.createServer(certificate, (_, response) => void response.writeHead(303, headers).end()),
    { tls13Draft: mode === 'tls13-draft' },
  )
  return `https://api.idp.example:${await listen(t, server)}/`
}

for (const mode of modes) {
  test(`the keys of real connections bind real tokens, with ${mode}`, async (t) => {
    const { server, client, connect } = await connectTo(t, mode)
    const api = await serveReferrer(t, `${server.issuer}/token`, mode)
    await server.storage.resourceServers.insert({ identifier: api, name: null, scopes: ['read'] })
    const person = createPerson(server, { fetch: connect() })
    const resource = { scope: 'openid read', resource: api }
    const { exchange } = await obtainCode(person, client, resource)
    const keys = createMemoryKeys()
    const fetch = connect(keys)
    const tbhOf = async (domain: string) => {
      const { id } = await keys.keyFor(domain, 'ecdsap256')
      return createHash('sha256').update(id).digest('base64url')
    }

    t.is((await post(server, '/token', { ...exchange, resource: api }, { fetch })).status, 400)
    await fetch(api)
    const { body } = await post(server, '/token', { ...exchange, resource: api }, { fetch })
    t.deepEqual(decodeJwt(body.access_token).cnf, { tbh: await tbhOf('idp.example') })

    const refresh = { ...refreshing(client, body.refresh_token), resource: api }
    const thief = connect()
    t.is((await post(server, '/token', refresh, { fetch: thief })).body.error, 'invalid_grant')
    const elsewhere = connect(keys)
    await elsewhere(api)
    const { body: next } = await post(server, '/token', refresh, { fetch: elsewhere })
    t.deepEqual(decodeJwt(next.access_token).cnf, { tbh: await tbhOf('idp.example') })
  })

  test(`a message is worth nothing on another connection, with ${mode}`, async (t) => {
    const { server, client, connect, plain } = await connectTo(t, mode)
    const fetch = connect()
    const { exchange } = await obtainCode(createPerson(server, { fetch: connect() }), client)
    const { body } = await post(server, '/token', exchange, { fetch })
    const refresh = refreshing(client, body.refresh_token)
    const headers = { 'sec-token-binding': await recordMessage(t, fetch) }
    const refused = await post(server, '/token', refresh, { fetch: plain, headers })
    t.is(refused.status, 400)
    t.is(refused.body.error, 'invalid_request')
    t.is((await post(server, '/token', refresh, { fetch })).status, 200)
  })
}

test('forwarded IDs are refused by a server that terminates TLS itself', async (t) => {
  const { server, client, plain } = await connectTo(t, 'tls')
  const options = { headers: forwarded(newId(), newId()), fetch: plain }
  const refused = await post(server, '/token', refreshing(client, 'any'), options)
  t.is(refused.status, 400)
  t.is(refused.body.error, 'invalid_request')
})
