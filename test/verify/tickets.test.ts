import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import test from 'ava'
import express from 'express'
import { type WebSocket as ServerSocket, WebSocketServer } from 'ws'
import { expressVerify } from '../../packages/verify/express.ts'
import { createLeases, type LeaseEnd, type LeaseOptions } from '../../packages/verify/leases.ts'
import { createMemoryReplayStore } from '../../packages/verify/replay.ts'
import { createTickets, type TicketOptions } from '../../packages/verify/ticket.ts'
import { beginEvents } from '../../packages/verify/ticket-events.ts'
import { upgradeWithTicket } from '../../packages/verify/ticket-ws.ts'
import type { Verified, VerifyRequest } from '../../packages/verify/verifier.ts'
import { makeCertificate } from '../support/verify/certificates.ts'
import {
  accessToken,
  audience,
  bearerRequest,
  dpopRequest,
  start,
  verifierWith,
} from '../support/verify/fixtures.ts'

const secrets = [Buffer.alloc(32, 1)]
const stream = '/stream?room=1'
let seconds = start

function ticketsWith(options: Partial<TicketOptions> = {}, verifier = verifierWith()) {
  return createTickets(verifier, { secrets, now: () => seconds * 1000, ...options })
}

const verified = (claims = {}) => verifierWith().verify(dpopRequest(accessToken(claims)))
const withTicket = (ticket: string, target = stream): VerifyRequest => ({
  method: 'GET',
  url: `${target}${target.includes('?') ? '&' : '?'}ticket=${ticket}`,
  headers: [],
})

test('opens the URL that it was issued for, in the name of its token', async (t) => {
  const tickets = ticketsWith()
  const ticket = tickets.issue(await verified({ sub: 'bob' }), { url: stream })
  const found = await tickets.verify(withTicket(ticket))
  t.is(found.claims.sub, 'bob')
  t.deepEqual(found.methods, ['dpop'])
  t.deepEqual(found.responseHeaders, {
    'Cache-Control': 'no-store',
    'Referrer-Policy': 'no-referrer',
  })
  t.notThrows(() => tickets.checkRequirements(found, { scopes: ['notes:read'] }))
  t.throws(() => tickets.checkRequirements(found, { scopes: ['admin'] }), {
    code: 'insufficient_scope',
  })
})

for (const [title, url] of Object.entries({
  'an absolute URL': `${audience}${stream}`,
  'the URL of a WebSocket': `wss://api.example${stream}`,
  'a path': stream,
  'a path that is spelt in another way': '/%73tream?room=1',
})) {
  test(`is issued for ${title}`, async (t) => {
    const tickets = ticketsWith()
    const ticket = tickets.issue(await verified(), { url })
    t.is((await tickets.verify(withTicket(ticket))).claims.sub, 'alice')
  })
}

for (const [title, target] of Object.entries({
  'a URL of another origin': { url: 'https://api.example.evil/stream' },
  'a URL with user information': { url: 'https://api.example@evil.example/stream' },
  'another scheme': { url: 'http://api.example/stream' },
  'a path that a browser reads as a host': { url: '//evil.example/stream' },
  'a URL that has a ticket': { url: '/stream?ticket=a' },
  'a URL of more than 2,048 characters': { url: `/${'a'.repeat(2048)}` },
  'a URL that is no text': { url: 7 as never },
  'a method in lower case': { url: stream, method: 'get' },
  'a list of methods': { url: stream, method: ['GET'] as never },
})) {
  test(`is not issued for ${title}`, async (t) => {
    const holder = await verified()
    t.throws(() => ticketsWith().issue(holder, target), { code: 'ticket_target' })
  })
}

test('is not issued longer than a URL may be', async (t) => {
  const holder = await verified({ note: 'a'.repeat(4096) })
  t.throws(() => ticketsWith().issue(holder, { url: stream }), { instanceOf: RangeError })
  const few = ticketsWith({ claims: ({ iss, sub }) => ({ iss, sub }) as never })
  const ticket = few.issue(holder, { url: stream })
  t.deepEqual((await few.verify(withTicket(ticket))).claims, {
    iss: 'https://as.example',
    sub: 'alice',
  })
})

/** What is wrong with one ticket in a request that is right otherwise. */
const refusals: Record<
  string,
  { change: (ticket: string) => Partial<VerifyRequest> & { at?: number }; code: string }
> = {
  'no ticket': { change: () => ({ url: stream }), code: 'ticket_missing' },
  'two tickets': {
    change: (ticket) => ({ url: `${stream}&ticket=${ticket}&ticket=${ticket}` }),
    code: 'ticket_malformed',
  },
  'a ticket whose last byte was changed': {
    change: (ticket) => ({
      url: `${stream}&ticket=${ticket.slice(0, -4)}${ticket.endsWith('AAAA') ? 'BBBB' : 'AAAA'}`,
    }),
    code: 'ticket_malformed',
  },
  'another spelling of a ticket': {
    change: (ticket) => ({ url: `${stream}&ticket=${ticket}=` }),
    code: 'ticket_malformed',
  },
  'a ticket that is shorter than a seal': {
    change: () => ({ url: `${stream}&ticket=AAAA` }),
    code: 'ticket_malformed',
  },
  'an access token in the place of a ticket': {
    change: () => ({ url: `${stream}&ticket=${accessToken()}` }),
    code: 'ticket_malformed',
  },
  'another query': {
    change: (ticket) => ({ url: `/stream?room=2&ticket=${ticket}` }),
    code: 'ticket_request',
  },
  'another method': { change: () => ({ method: 'POST' }), code: 'ticket_request' },
  'its last moment': { change: () => ({ at: start + 10 }), code: 'ticket_expired' },
}

for (const [title, { change, code }] of Object.entries(refusals)) {
  test.serial(`rejects ${title}`, async (t) => {
    const tickets = ticketsWith()
    const ticket = tickets.issue(await verified(), { url: stream })
    const { at = start, ...request } = change(ticket)
    seconds = at
    await t.throwsAsync(tickets.verify({ ...withTicket(ticket), ...request }), { code })
    seconds = start
    t.is((await tickets.verify(withTicket(ticket))).claims.sub, 'alice', 'it was not used up')
  })
}

test('opens no other path than its own', async (t) => {
  const tickets = ticketsWith()
  const ticket = tickets.issue(await verified(), { url: stream })
  const elsewhere = { url: `/other?room=1&ticket=${ticket}` }
  await t.throwsAsync(tickets.verify({ ...withTicket(ticket), ...elsewhere }), {
    code: 'ticket_request',
  })
  t.is((await tickets.verify(withTicket(ticket))).claims.sub, 'alice', 'it was not used up')
})

test.serial('ends with the access token that it was exchanged for', async (t) => {
  const tickets = ticketsWith({ lifetime: 60 })
  const ticket = tickets.issue(await verified({ exp: start + 5 }), { url: stream })
  seconds = start + 5
  await t.throwsAsync(tickets.verify(withTicket(ticket)), { code: 'ticket_expired' })
  seconds = start
})

test('accepts one of sixteen uses at once, on two nodes with one store', async (t) => {
  const replay = { ...createMemoryReplayStore(), shared: true } as const
  const nodes = [ticketsWith({ replay, replicas: 2 }), ticketsWith({ replay, replicas: 2 })]
  const [first] = nodes as [ReturnType<typeof ticketsWith>]
  const ticket = first.issue(await verified(), { url: stream })
  const uses = Array.from({ length: 16 }, (_, at) => nodes[at % 2]?.verify(withTicket(ticket)))
  const outcomes = await Promise.allSettled(uses)
  t.is(outcomes.filter(({ status }) => status === 'fulfilled').length, 1)
  const codes = outcomes.flatMap((each) => (each.status === 'rejected' ? each.reason.code : []))
  t.deepEqual([...new Set(codes)], ['ticket_replayed'])
})

test('rejects every ticket while its store fails', async (t) => {
  const consume = () => Promise.reject(new Error('no connection'))
  const tickets = ticketsWith({ replay: { shared: true, consume } })
  const ticket = tickets.issue(await verified(), { url: stream })
  await t.throwsAsync(tickets.verify(withTicket(ticket)), { code: 'replay_store_unavailable' })
})

test('opens what the secret before the first one has sealed, and no other', async (t) => {
  const [old, fresh] = [Buffer.alloc(32, 2), Buffer.alloc(32, 3)]
  const ticket = ticketsWith({ secrets: [old] }).issue(await verified(), { url: stream })
  await t.throwsAsync(ticketsWith({ secrets: [fresh] }).verify(withTicket(ticket)), {
    code: 'ticket_malformed',
  })
  t.is((await ticketsWith({ secrets: [fresh, old] }).verify(withTicket(ticket))).methods[0], 'dpop')
})

test('needs the certificate that its token is bound to', async (t) => {
  const [mine, other] = [await makeCertificate('mine'), await makeCertificate('other')]
  const cnf = { 'x5t#S256': createHash('sha256').update(mine.der).digest('base64url') }
  const token = accessToken({ cnf })
  const verifier = verifierWith()
  const holder = await verifier.verify({ ...bearerRequest(token), certificate: mine.der })
  const tickets = ticketsWith()
  const ticket = tickets.issue(holder, { url: stream })
  await t.throwsAsync(tickets.verify(withTicket(ticket)), { code: 'certificate_missing' })
  await t.throwsAsync(tickets.verify({ ...withTicket(ticket), certificate: other.der }), {
    code: 'certificate_mismatch',
  })
  const found = await tickets.verify({ ...withTicket(ticket), certificate: mine.der })
  t.deepEqual(found.methods, ['mtls'])
})

test('knows the public URL where a proxy rewrites paths', async (t) => {
  const tickets = ticketsWith({}, verifierWith({ publicPaths: { '/': '/api' } }))
  const ticket = tickets.issue(await verified(), { url: `${audience}/api/stream` })
  t.is((await tickets.verify(withTicket(ticket, '/stream'))).claims.sub, 'alice')
})

for (const [title, options] of Object.entries({
  'a short secret': { secrets: [Buffer.alloc(31)] },
  'a lifetime of more than a minute': { lifetime: 61 },
  'several replicas with a store of one process': { replicas: 2 },
  'no replica': { replicas: 0 },
  'half a replica': {
    replicas: 1.5,
    replay: { ...createMemoryReplayStore(), shared: true } as const,
  },
  'an unknown option': { lifetimes: 5 },
})) {
  test(`does not start with ${title}`, (t) => {
    t.throws(() => ticketsWith(options), { instanceOf: TypeError })
  })
}

/** Leases whose second passes when the test says so. */
function leasesWith(options: LeaseOptions = {}) {
  let clock = start
  let sweep = () => {}
  const leases = createLeases({
    now: () => clock * 1000,
    everySecond: (given) => {
      sweep = given
      return () => {}
    },
    ...options,
  })
  const pass = async (by: number) => {
    clock += by
    sweep()
    await new Promise(setImmediate)
  }
  return { leases, pass }
}

test('a connection ends with its token, once', async (t) => {
  const { leases, pass } = leasesWith()
  const ends: LeaseEnd[] = []
  leases.hold(await verified({ exp: start + 60 }), (reason) => ends.push(reason))
  await pass(59)
  t.deepEqual(ends, [])
  await pass(1)
  await pass(1)
  t.deepEqual(ends, ['expired'])
  t.is(leases.size, 0)
})

test('a connection continues with a newer token of the same holder, and with no other', async (t) => {
  const { leases, pass } = leasesWith({ proofEvery: 300 })
  const ends: LeaseEnd[] = []
  const lease = leases.hold(await verified({ exp: start + 400 }), (reason) => ends.push(reason))
  await pass(200)
  const later = { exp: start + 1000 }
  t.true(lease.renew(await verified(later)))
  const holder = await verified(later)
  const changed = (changes: object, confirmations = holder.token.confirmations) => ({
    ...holder,
    token: { ...holder.token, claims: { ...holder.claims, ...changes }, confirmations },
  })
  t.false(lease.renew(changed({ sub: 'bob' })))
  t.false(lease.renew(changed({ client_id: 'other' })))
  t.false(lease.renew(changed({}, [{ method: 'dpop', jkt: 'A'.repeat(43) }])))
  t.false(lease.renew(changed({}, [])))
  const elsewhere = { ...holder.token, issuer: 'https://other.example' }
  t.false(lease.renew({ ...holder, token: elsewhere }))
  await pass(299)
  t.deepEqual(ends, [])
  await pass(1)
  t.deepEqual(ends, ['proof_overdue'])
  t.false(lease.renew(holder), 'it has ended')
})

test('a connection ends when its token is revoked, by a poll or by a feed', async (t) => {
  const revoked = new Set<unknown>()
  const isRevoked = async ({ claims }: { claims: { jti?: string } }) => revoked.has(claims.jti)
  const { leases, pass } = leasesWith({ isRevoked, checkEvery: 30 })
  const ends: string[] = []
  for (const jti of ['a', 'b', 'c']) {
    leases.hold(await verified({ jti }), (reason) => ends.push(`${jti} ${reason}`))
  }
  leases.revoke(({ claims }) => claims.jti === 'b')
  t.deepEqual(ends, ['b revoked'])
  revoked.add('a')
  await pass(29)
  t.is(ends.length, 1)
  await pass(1)
  t.deepEqual(ends, ['b revoked', 'a revoked'])
})

test('a connection ends when nobody can say three times whether its token is revoked', async (t) => {
  const isRevoked = () => Promise.reject(new Error('no answer'))
  const { leases, pass } = leasesWith({ isRevoked, checkEvery: 1 })
  const ends: LeaseEnd[] = []
  leases.hold(await verified(), (reason) => ends.push(reason))
  await pass(1)
  await pass(1)
  t.deepEqual(ends, [])
  await pass(1)
  t.deepEqual(ends, ['revocation_unavailable'])
})

async function listen(app: Parameters<typeof createServer>[1]) {
  const server = createServer(app)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    server,
    port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

test('a WebSocket opens with a ticket, once, and closes when its lease ends', async (t) => {
  const tickets = ticketsWith()
  const { leases } = leasesWith()
  const sockets = new WebSocketServer({ noServer: true })
  sockets.on('connection', (socket: ServerSocket, _request: unknown, auth: Verified) =>
    socket.send(`hello ${auth.claims.sub}`),
  )
  await using target = await listen(undefined)
  target.server.on('upgrade', upgradeWithTicket(tickets, sockets, { leases }))
  const ticket = tickets.issue(await verified(), { url: stream })
  const at = `ws://127.0.0.1:${target.port}${stream}&ticket=${ticket}`

  const socket = new WebSocket(at)
  const [message] = await once(socket, 'message')
  t.is(message.data, 'hello alice')
  const again = new WebSocket(at)
  await once(again, 'error')
  t.is(again.readyState, WebSocket.CLOSED)
  const closed = once(socket, 'close')
  leases.revoke(() => true)
  const [{ code, reason }] = await closed
  t.deepEqual({ code, reason }, { code: 1008, reason: 'revoked' })
  t.is(leases.size, 0)
})

test('a WebSocket without a ticket, or without a scope, is answered as HTTP', async (t) => {
  const tickets = ticketsWith()
  const sockets = new WebSocketServer({ noServer: true })
  await using target = await listen(undefined)
  const requirements = { scopes: ['admin'] }
  target.server.on('upgrade', upgradeWithTicket(tickets, sockets, { requirements }))
  const upgrade = async (url: string) => {
    const headers = { connection: 'Upgrade', upgrade: 'websocket' }
    const request = httpRequest({ port: target.port, host: '127.0.0.1', path: url, headers }).end()
    const [response] = await once(request, 'response')
    response.resume()
    return response.statusCode
  }
  t.is(await upgrade(stream), 401)
  const ticket = tickets.issue(await verified(), { url: stream })
  t.is(await upgrade(`${stream}&ticket=${ticket}`), 403)
})

test('a stream of events rejects a name that would be more than one line', async (t) => {
  const lines: string[] = []
  const response = {
    writeHead() {},
    write: (text: string) => lines.push(text),
    once() {},
    end() {},
  }
  const { leases } = leasesWith()
  const events = beginEvents(response as never, await verified(), leases)
  t.throws(() => events.send(1, 'note\ndata: 2'), { instanceOf: TypeError })
  events.send(1, 'note')
  t.deepEqual(lines.slice(1), ['event: note\ndata: 1\n\n'])
})

test('a stream of events opens with a ticket, once, and says why it ends', async (t) => {
  const { leases } = leasesWith()
  const tickets = ticketsWith()
  const app = express()
  app.get('/stream', expressVerify(tickets), (request, response) => {
    beginEvents(response, request.auth as never, leases).send({ room: request.query.room }, 'note')
  })
  await using target = await listen(app)
  const ticket = tickets.issue(await verified(), { url: stream })
  const at = `http://127.0.0.1:${target.port}${stream}&ticket=${ticket}`
  const response = await fetch(at)
  t.is(response.headers.get('content-type'), 'text/event-stream')
  t.is(response.headers.get('referrer-policy'), 'no-referrer')
  t.is((await fetch(at)).status, 401)
  leases.revoke(() => true)
  t.is(
    await response.text(),
    ':\n\nevent: note\ndata: {"room":"1"}\n\nevent: lease-ended\ndata: "revoked"\n\n',
  )
})
