import { once } from 'node:events'
import http from 'node:http'
import https, { type RequestOptions } from 'node:https'
import type { AddressInfo } from 'node:net'
import anyTest, { type ExecutionContext } from 'ava'
import { TokenBindingAgent } from '../../packages/token-binding-tls/index.ts'
import { TokenBindingError } from '../../packages/verify/token-binding.ts'
import { readTokenBindingHeaders } from '../../packages/verify/token-binding-headers.ts'
import { trustedPeers } from '../../src/net/trusted-peers.ts'
import { createTerminator } from '../support/token-binding-terminator.ts'
import { certificate, fetch, listen, skipped } from './support.ts'

const test = skipped ? anyTest.skip : anyTest

/** A backend that knows nothing of TLS and believes its configured peers. */
async function makeBackend(t: ExecutionContext, networks = ['127.0.0.0/8']) {
  const isTrusted = trustedPeers(networks)
  const requests: { body: string; rawHeaders: string[] }[] = []
  const server = http.createServer(async (incoming, outgoing) => {
    const { rawHeaders, socket } = incoming
    const body = (await incoming.toArray()).join('')
    requests.push({ body, rawHeaders })
    outgoing.setHeader('Include-Referred-Token-Binding-ID', 'true')
    try {
      const trusted = isTrusted(socket.remoteAddress)
      const proof = readTokenBindingHeaders(rawHeaders, { trusted })
      if (incoming.url?.startsWith('/login')) {
        outgoing.writeHead(303, { Location: incoming.url.slice('/login?'.length) })
      }
      outgoing.end(JSON.stringify(proof ?? null))
    } catch (error) {
      if (!(error instanceof TokenBindingError)) throw error
      outgoing.writeHead(400).end(JSON.stringify({ refused: error.code }))
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  const { port } = server.address() as AddressInfo
  return { requests, server, url: new URL(`http://127.0.0.1:${port}`) }
}

async function terminate(t: ExecutionContext, networks?: string[]) {
  const backend = await makeBackend(t, networks)
  const port = await listen(t, createTerminator({ tls: certificate, backend: backend.url }))
  const agent = new TokenBindingAgent({ ca: certificate.cert, keepAlive: true })
  const plain = new https.Agent({ ca: certificate.cert })
  t.teardown(() => {
    agent.destroy()
    plain.destroy()
  })
  const url = (host = 'localhost') => `https://${host}:${port}`
  const ask = async (options: RequestOptions = {}, path = '/', body = '') => {
    const answer = await fetch(`${url()}${path}`, { agent, ...options }, body)
    return { status: answer.status, body: answer.body, json: () => JSON.parse(answer.body) }
  }
  return { ...backend, agent, plain, url, ask }
}

const forged = {
  'Sec-Provided-Token-Binding-ID': 'forged',
  'sec-referred-token-binding-id': 'forged',
  'Sec-Other-Token-Binding-ID': '4d.forged',
}

test('a backend learns what the terminator has proven, and sees no message', async (t) => {
  const { ask, requests } = await terminate(t)
  const first = (await ask()).json()
  t.is(first.provided.keyParameters, 'ecdsap256')
  t.deepEqual((await ask()).json(), first)
  const names = requests.flatMap(({ rawHeaders }) => rawHeaders.map((name) => name.toLowerCase()))
  t.false(names.includes('sec-token-binding'))
})

test('what a client writes in the names of the proxy goes nowhere', async (t) => {
  const { ask, plain, requests } = await terminate(t)
  const proven = (await ask()).json()
  t.deepEqual((await ask({ headers: forged })).json(), proven)
  t.is((await ask({ agent: plain, headers: forged })).json(), null)
  t.false(requests.some(({ rawHeaders }) => rawHeaders.join().includes('forged')))
})

test('a client cannot have the headers of the proxy removed', async (t) => {
  const { ask } = await terminate(t)
  const headers = { Connection: 'keep-alive, Sec-Provided-Token-Binding-ID' }
  t.truthy((await ask({ headers })).json()?.provided)
})

test('a message without negotiation goes no further', async (t) => {
  const { ask, plain, requests } = await terminate(t)
  const answer = await ask({ agent: plain, headers: { 'Sec-Token-Binding': 'AIkAAgBBQ' } })
  t.is(answer.status, 400)
  t.regex(answer.body, /not_negotiated/)
  t.is(requests.length, 0)
})

test('two messages go no further', async (t) => {
  const { ask, plain, requests } = await terminate(t)
  const headers = { 'Sec-Token-Binding': ['AIkAAgBBQ', 'AIkAAgBBQ'] }
  const answer = await ask({ agent: plain, headers })
  t.is(answer.status, 400)
  t.regex(answer.body, /repeated_header/)
  t.is(requests.length, 0)
})

test('a backend refuses the headers from a peer that is not configured', async (t) => {
  const { ask } = await terminate(t, ['192.0.2.1'])
  const answer = await ask()
  t.is(answer.status, 400)
  t.deepEqual(answer.json(), { refused: 'untrusted_peer' })
})

test('bodies keep their framing', async (t) => {
  const { ask, requests } = await terminate(t)
  const smuggled = 'GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n'
  for (const headers of [
    { 'Transfer-Encoding': 'chunked' },
    { 'Content-Length': smuggled.length },
    { 'Transfer-Encoding': 'chunked', Connection: 'transfer-encoding' },
  ]) {
    for (const method of ['GET', 'POST']) {
      t.is((await ask({ method, headers }, '/', smuggled)).status, 200)
      t.is(requests.at(-1)?.body, smuggled)
    }
  }
  t.is(requests.length, 6)
})

test('the referred ID crosses two terminators', async (t) => {
  const idp = await terminate(t)
  const rp = await terminate(t)
  const { agent } = rp
  const target = `${idp.url('login.idp.example')}/authorize`
  const atRp = JSON.parse((await fetch(`${rp.url('rp.example')}/`, { agent })).body)
  await fetch(`${rp.url('rp.example')}/login?${target}`, { agent })
  const atIdp = JSON.parse((await fetch(target, { agent })).body)
  t.deepEqual(atIdp.referred, atRp.provided)
  t.not(atIdp.provided.id, atRp.provided.id)
})

test('answers 502 for a backend that is gone', async (t) => {
  const { ask, server } = await terminate(t)
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
  t.is((await ask()).status, 502)
})
