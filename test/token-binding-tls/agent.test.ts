import { createHash } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import https from 'node:https'
import net, { type AddressInfo } from 'node:net'
import anyTest, { type ExecutionContext } from 'ava'
import {
  createMemoryKeys,
  equip,
  type KeyParameters,
  TokenBindingAgent,
  type TokenBindingAgentOptions,
} from '../../packages/token-binding-tls/index.ts'
import { certificate, echo, fetch, fetchProof, listen, lookup, skipped } from './support.ts'

const test = skipped ? anyTest.skip : anyTest

const kinds: KeyParameters[] = ['ecdsap256', 'rsa2048_pss', 'rsa2048_pkcs1.5']

function makeAgent(t: ExecutionContext, options: TokenBindingAgentOptions = {}) {
  const agent = new TokenBindingAgent({ ca: certificate.cert, keepAlive: true, ...options })
  t.teardown(() => agent.destroy())
  return agent
}

async function serveAndCount(t: ExecutionContext) {
  const server = equip(() => https.createServer(certificate, echo))
  let connections = 0
  server.on('secureConnection', () => {
    connections += 1
  })
  return { port: await listen(t, server), connections: () => connections }
}

const serve = (t: ExecutionContext, options: { tls13Draft?: boolean } = {}) =>
  listen(
    t,
    equip(() => https.createServer(certificate, echo), options),
  )

for (const kind of kinds) {
  test(`proves a key of kind ${kind} over TLS 1.2`, async (t) => {
    const port = await serve(t)
    const agent = makeAgent(t, { keyParameters: [kind] })
    const answer = await fetchProof(`https://localhost:${port}/`, { agent })
    t.like(answer, { negotiated: kind, protocol: 'TLSv1.2', refused: null })
    t.like(answer.proof, { provided: { keyParameters: kind }, other: [] })
  })

  test(`proves a key of kind ${kind} over TLS 1.3, where both sides asked for it`, async (t) => {
    const port = await serve(t, { tls13Draft: true })
    const agent = makeAgent(t, { keyParameters: [kind], tls13Draft: true })
    const answer = await fetchProof(`https://localhost:${port}/`, { agent })
    t.like(answer, { negotiated: kind, protocol: 'TLSv1.3', refused: null })
    t.is(answer.proof?.provided.keyParameters, kind)
  })
}

test('proves the same key on every request and connection to a registered domain', async (t) => {
  const port = await serve(t)
  const agent = makeAgent(t, { maxSockets: 1 })
  const keys = createMemoryKeys()
  const [one, other] = [makeAgent(t, { keys }), makeAgent(t, { keys })]
  const ids = new Set<string | undefined>()
  const sameAgent = [`https://login.idp.example:${port}/`, `https://api.idp.example:${port}/a`]
  for (const url of [...sameAgent, ...sameAgent]) {
    ids.add((await fetchProof(url, { agent })).proof?.provided.tbh)
  }
  t.is(ids.size, 1)
  const shared = await Promise.all(
    [one, other].map((sharing) => fetchProof(sameAgent[0] ?? '', { agent: sharing })),
  )
  t.is(shared[0]?.proof?.provided.id, shared[1]?.proof?.provided.id)
  t.not(shared[0]?.proof?.provided.tbh, [...ids][0])
})

test('proves another key to another registered domain', async (t) => {
  const port = await serve(t)
  const agent = makeAgent(t)
  const idp = await fetchProof(`https://login.idp.example:${port}/`, { agent })
  const rp = await fetchProof(`https://rp.example:${port}/`, { agent })
  t.truthy(rp.proof)
  t.not(rp.proof?.provided.id, idp.proof?.provided.id)
})

test('proves on requests that were waiting for a connection', async (t) => {
  const { port, connections } = await serveAndCount(t)
  const agent = makeAgent(t, { maxSockets: 1 })
  const answers = await Promise.all(
    ['/a', '/b', '/c'].map((path) => fetchProof(`https://localhost:${port}${path}`, { agent })),
  )
  t.is(connections(), 1)
  for (const { proof } of answers) t.is(proof?.provided.id, answers[0]?.proof?.provided.id)
  t.truthy(answers[0]?.proof)
})

test('proves on requests with a body, sent at once or in pieces', async (t) => {
  const bodies: string[] = []
  const server = equip(() =>
    https.createServer(certificate, async (incoming, outgoing) => {
      bodies.push((await incoming.toArray()).join(''))
      echo(incoming, outgoing)
    }),
  )
  const port = await listen(t, server)
  const agent = makeAgent(t)
  const url = `https://localhost:${port}/`
  const post = await fetch(url, { agent, method: 'POST' }, 'grant_type=code')
  t.truthy(JSON.parse(post.body).proof)

  const pieces = await new Promise<string>((resolve, reject) => {
    const outgoing = https.request(url, { agent, lookup, method: 'POST' }, async (response) => {
      resolve((await response.toArray()).join(''))
    })
    outgoing.on('error', reject)
    outgoing.write('one ')
    outgoing.write(Buffer.from('two'))
    outgoing.end()
  })
  t.truthy(JSON.parse(pieces).proof)

  // Headers as a list: node:http writes the head in the constructor.
  const list = await fetch(url, { agent, method: 'POST', headers: ['Host', 'x', 'a', 'b'] }, '')
  t.truthy(JSON.parse(list.body).proof)
  t.deepEqual(bodies, ['grant_type=code', 'one two', ''])
})

test('sends nothing to a server that did not negotiate', async (t) => {
  const plain = https.createServer(certificate, (incoming, outgoing) => {
    outgoing.end(JSON.stringify(incoming.headers))
  })
  const port = await listen(t, plain)
  const { body } = await fetch(`https://localhost:${port}/`, { agent: makeAgent(t) })
  t.is(JSON.parse(body)['sec-token-binding'], undefined)
})

test('stays below TLS 1.3 unless it was told otherwise', async (t) => {
  const port = await serve(t, { tls13Draft: true })
  const answer = await fetchProof(`https://localhost:${port}/`, { agent: makeAgent(t) })
  t.like(answer, { protocol: 'TLSv1.2', negotiated: 'ecdsap256' })
})

test('fails a request, and nothing else, where there is no server or no trust', async (t) => {
  const port = await serve(t)
  const url = `https://localhost:${port}/`
  const distrusting = makeAgent(t, { ca: [] })
  await t.throwsAsync(fetch(url, { agent: distrusting }), { code: 'DEPTH_ZERO_SELF_SIGNED_CERT' })

  const closed = http.createServer()
  await new Promise<void>((resolve) => closed.listen(0, '127.0.0.1', resolve))
  const { port: unused } = closed.address() as AddressInfo
  await new Promise((resolve) => closed.close(resolve))
  await t.throwsAsync(fetch(`https://localhost:${unused}/`, { agent: makeAgent(t) }), {
    code: 'ECONNREFUSED',
  })
})

test('fails a request whose key cannot be had', async (t) => {
  const port = await serve(t)
  const keys = { keyFor: () => Promise.reject(new Error('the token is locked')) }
  await t.throwsAsync(fetch(`https://localhost:${port}/`, { agent: makeAgent(t, { keys }) }), {
    message: 'the token is locked',
  })
})

test('fails a request whose connection ends within the handshake', async (t) => {
  const rude = https.createServer(certificate)
  rude.on('connection', (socket) => socket.destroy())
  const port = await listen(t, rude)
  await t.throwsAsync(fetch(`https://localhost:${port}/`, { agent: makeAgent(t) }))
})

/** Accepts connections, and never says anything. */
async function silence(t: ExecutionContext): Promise<string> {
  const server = net.createServer((socket) => void socket.on('error', () => {}))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => void server.close())
  return `https://localhost:${(server.address() as AddressInfo).port}/`
}

test('a request can be aborted while the handshake stalls', async (t) => {
  const url = await silence(t)
  const controller = new AbortController()
  const outgoing = https.get(url, { agent: makeAgent(t), lookup, signal: controller.signal })
  const failure = once(outgoing, 'response')
  setImmediate(() => controller.abort())
  await t.throwsAsync(failure, { name: 'AbortError' })
})

test('a request can time out while the handshake stalls', async (t) => {
  const url = await silence(t)
  const outgoing = https.get(url, { agent: makeAgent(t), lookup, timeout: 1 })
  await once(outgoing, 'timeout')
  const failure = once(outgoing, 'response')
  outgoing.destroy()
  await t.throwsAsync(failure, { code: 'ECONNRESET' })
})

test('an aborted request leaves a usable agent', async (t) => {
  const port = await serve(t)
  const agent = makeAgent(t)
  const url = `https://localhost:${port}/`
  const controller = new AbortController()
  const aborted = fetch(url, { agent, signal: controller.signal })
  controller.abort()
  await t.throwsAsync(aborted, { name: 'AbortError' })
  t.truthy((await fetchProof(url, { agent })).proof)
})

test('fails a request that brings a message of its own', async (t) => {
  const port = await serve(t)
  const url = `https://localhost:${port}/`
  for (const headers of [{ 'sec-token-binding': 'x' }, ['Host', 'x', 'Sec-Token-Binding', 'x']]) {
    await t.throwsAsync(fetch(url, { agent: makeAgent(t), headers }), { code: 'header_not_placed' })
  }
  // Not ended yet, so its head is not written yet.
  const headers = { 'sec-token-binding': 'x' }
  const outgoing = https.request(url, { agent: makeAgent(t), lookup, headers })
  await t.throwsAsync(once(outgoing, 'response'), { code: 'header_not_placed' })
})

test('rejects unknown kinds of keys', (t) => {
  const keyParameters = ['ecdsap384' as KeyParameters]
  t.throws(() => new TokenBindingAgent({ keyParameters }), { instanceOf: TypeError })
  t.throws(() => new TokenBindingAgent({ keyParameters: [] }), { instanceOf: TypeError })
})

// RFC 8473 section 5.3

interface Redirect {
  readonly status?: number
  readonly include?: string
  readonly location?: string
}

/** A relying party that sends its visitors to the identity provider, and says who they are. */
async function federation(t: ExecutionContext, { status = 302, include, location }: Redirect = {}) {
  const idp = await serve(t)
  const target = location ?? `https://login.idp.example:${idp}/authorize?client_id=rp`
  const consumer = equip(() =>
    https.createServer(certificate, (incoming, outgoing) => {
      if (incoming.url === '/echo') {
        echo(incoming, outgoing)
        return
      }
      outgoing.writeHead(status, {
        Location: target,
        'Include-Referred-Token-Binding-ID': include ?? 'true',
      })
      outgoing.end()
    }),
  )
  const rp = await listen(t, consumer)
  const agent = makeAgent(t)
  const { proof } = await fetchProof(`https://rp.example:${rp}/echo`, { agent })
  await fetch(`https://rp.example:${rp}/login`, { agent })
  return {
    agent,
    target,
    atConsumer: proof?.provided,
    provider: `https://login.idp.example:${idp}`,
    visit: (url: string) => fetchProof(url, { agent }),
  }
}

test('sends the referred binding of the server that asked for it, once', async (t) => {
  const { visit, target, atConsumer } = await federation(t)
  const first = await visit(target)
  t.truthy(first.proof?.provided)
  t.deepEqual(first.proof?.referred, atConsumer)
  t.not(first.proof?.provided.id, atConsumer?.id)
  t.is((await visit(target)).proof?.referred, undefined)
})

test('reads the header in any case, and no other value', async (t) => {
  const upper = await federation(t, { include: 'TRUE' })
  t.truthy((await upper.visit(upper.target)).proof?.referred)
  for (const include of ['false', '1', 'true, true', '']) {
    const { visit, target } = await federation(t, { include })
    t.is((await visit(target)).proof?.referred, undefined)
  }
})

test('ignores the header outside of redirects', async (t) => {
  for (const status of [200, 201, 400, 500]) {
    const { visit, target } = await federation(t, { status })
    t.is((await visit(target)).proof?.referred, undefined)
  }
})

test('takes the fragment of the target for no part of it', async (t) => {
  const { provider } = await federation(t)
  const { visit } = await federation(t, { location: `${provider}/a#b` })
  t.truthy((await visit(`${provider}/a`)).proof?.referred)
})

test('tells the consumer to nobody but the target of its redirect', async (t) => {
  const { visit, provider } = await federation(t)
  t.is((await visit(`${provider}/other`)).proof?.referred, undefined)
})

test('tells the consumer to no server whose path looks like the target', async (t) => {
  const { visit, target } = await federation(t)
  const port = await serve(t)
  const { host, pathname, search } = new URL(target)
  const lookalike = await visit(`https://rp.example:${port}//${host}${pathname}${search}`)
  t.is(lookalike.proof?.referred, undefined)
  t.truthy((await visit(target)).proof?.referred)
})

test('tells nothing to a target without Token Binding', async (t) => {
  const seen: http.IncomingHttpHeaders[] = []
  const plain = https.createServer(certificate, (incoming, outgoing) => {
    seen.push(incoming.headers)
    outgoing.end('{}')
  })
  const port = await listen(t, plain)
  const { visit, target } = await federation(t, { location: `https://localhost:${port}/` })
  await visit(target)
  t.is(seen[0]?.['sec-token-binding'], undefined)
})

test('a response that nobody listens for does not hold the connection', async (t) => {
  const { port, connections } = await serveAndCount(t)
  const agent = makeAgent(t, { maxSockets: 1 })
  const url = `https://localhost:${port}/`
  https.get(url, { agent, lookup })
  t.truthy((await fetchProof(url, { agent })).proof)
  t.is(connections(), 1)
})

test('the hash of an ID is what the server sees', async (t) => {
  const port = await serve(t)
  const keys = createMemoryKeys()
  const { proof } = await fetchProof(`https://localhost:${port}/`, {
    agent: makeAgent(t, { keys }),
  })
  const { id } = await keys.keyFor('localhost', 'ecdsap256')
  t.is(proof?.provided.tbh, createHash('sha256').update(id).digest('base64url'))
})
