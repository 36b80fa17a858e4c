// WebSockets and event streams end with what has opened them.
import { hash } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import test from 'ava'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { WebSocket, WebSocketServer } from 'ws'
import {
  createMemorySessionStore,
  type Session,
  type SessionStore,
} from '../../packages/gate/browser/sessions.ts'
import { createStreams, type Holder, sessionHolder } from '../../packages/gate/streams.ts'
import { startApplication, startGate, type TestGate } from '../support/gate.ts'
import {
  app,
  type BrowserGate,
  type GateBrowser,
  startBrowserGate,
} from '../support/gate-browsers.ts'
import { useTestServer } from '../support/server.ts'
import { accessToken, audience, dpopProof, start } from '../support/verify/fixtures.ts'

const server = useTestServer(test)
const opened = new AsyncDisposableStack()
test.after.always(() => opened.disposeAsync())

const memory = createMemorySessionStore({ capacity: 100 })
let isStoreGone = false
const sessions: SessionStore = {
  ...memory,
  async find(...parameters) {
    if (isStoreGone) throw new Error('the store is gone')
    return memory.find(...parameters)
  },
}
let providerKey: Awaited<ReturnType<typeof generateKeyPair>>
const fetchWithKey: typeof globalThis.fetch = async (input, init) => {
  const response = await fetch(input, init)
  if (new URL(String(input)).pathname !== '/jwks') return response
  const { keys } = (await response.json()) as { keys: object[] }
  const own = { ...(await exportJWK(providerKey.publicKey)), kid: 'own', alg: 'ES256' }
  return Response.json({ keys: [...keys, own] })
}

let it: BrowserGate

/** Streams that never end by themselves. */
function serveStreams({ server: application, handlers }: BrowserGate['application']): void {
  const sockets = new WebSocketServer({ noServer: true })
  application.on('upgrade', (request, socket, head) => {
    sockets.handleUpgrade(request, socket, head, (client) => client.send('open'))
  })
  handlers.set('/events', (_request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream; charset=utf-8' })
    response.write('data: open\n\n')
  })
  handlers.set('/file', (_request, response) => {
    response.writeHead(200, { 'Content-Type': 'application/octet-stream' })
    response.write('begun')
    finishFile = () => response.end('ended')
  })
}
let finishFile = () => {}

test.before(async () => {
  providerKey = await generateKeyPair('ES256')
  it = opened.use(
    await startBrowserGate(server, {
      options: { sessions, fetch: fetchWithKey },
      application: { routes: [{ path: '/staff', groups: ['staff'] }] },
    }),
  )
  serveStreams(it.application)
})

interface Gate {
  readonly port: number
  readonly host: string
}
const ofBrowsers = (): Gate => ({ port: it.gate.port, host: 'app.example' })

async function openEvents({ port, host }: Gate, headers: Record<string, string>, path = '/events') {
  const sent = httpRequest({
    ...{ port, host: '127.0.0.1', path, agent: false },
    headers: { host, accept: 'text/event-stream', ...headers },
  })
  sent.end()
  const [answer] = (await once(sent, 'response')) as [IncomingMessage]
  if (answer.statusCode !== 200) throw new Error(`events: ${answer.statusCode}`)
  const closed = new Promise((resolve) => answer.once('close', resolve))
  // It is cut off.
  answer.on('error', () => {})
  await once(answer, 'data')
  answer.resume()
  return { closed, answer, isOpen: () => !answer.closed }
}

async function openSocket({ port, host }: Gate, headers: Record<string, string>) {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/socket`, { headers: { host, ...headers } })
  const closed = once(socket, 'close')
  await once(socket, 'message')
  return { closed, isOpen: () => socket.readyState === WebSocket.OPEN }
}

const cookiesOf = async (browser: GateBrowser) => ({
  cookie: await browser.jar.getCookieString(app),
  origin: app,
  'sec-fetch-site': 'same-origin',
})

/** Both kinds of streams of one browser. */
async function openBoth(browser: GateBrowser) {
  const headers = await cookiesOf(browser)
  const [socket, events] = [
    await openSocket(ofBrowsers(), headers),
    await openEvents(ofBrowsers(), headers),
  ]
  return {
    closed: Promise.all([socket.closed, events.closed]),
    isOpen: () => socket.isOpen() && events.isOpen(),
  }
}

async function signedIn(): Promise<GateBrowser> {
  const browser = it.newBrowser()
  await browser.signIn()
  return browser
}

async function sessionOf(browser: GateBrowser): Promise<Session> {
  const [secret = ''] = ((await browser.cookie('__Host-gate')) ?? '').split('.')
  const id = hash('sha256', secret, 'base64url')
  const session = await memory.find(id, it.now())
  if (session === undefined) throw new Error('the browser has no session')
  return session
}

const ends = () =>
  it.gate.events.flatMap((each) => (each.type === 'stream_ended' ? [each.reason] : []))

test.serial('ends the streams of a session that signs out, and no others', async (t) => {
  const browser = await signedIn()
  const other = await openBoth(await signedIn())
  const streams = await openBoth(browser)
  await browser.send('/.gate/sign-out', {
    method: 'POST',
    headers: {
      'sec-fetch-site': 'same-origin',
      'content-type': 'application/x-www-form-urlencoded',
    },
    body: '',
  })
  // Nobody has to look.
  isStoreGone = true
  await streams.closed
  isStoreGone = false
  t.deepEqual(ends().slice(-2), ['revoked', 'revoked'])
  t.true(other.isOpen())
})

test.serial('ends the streams of sessions that a logout token names', async (t) => {
  const browser = await signedIn()
  const streams = await openBoth(browser)
  const { subject } = await sessionOf(browser)
  const claims = { events: { 'http://schemas.openid.net/event/backchannel-logout': {} } }
  const token = await new SignJWT({ ...claims, sub: subject })
    .setProtectedHeader({ alg: 'ES256', kid: 'own', typ: 'logout+jwt' })
    .setIssuer(server.issuer)
    .setAudience(it.clientId)
    .setIssuedAt(Math.floor(it.now() / 1000))
    .setExpirationTime(Math.floor(it.now() / 1000) + 60)
    .setJti('streams')
    .sign(providerKey.privateKey)
  const body = new URLSearchParams({ logout_token: token })
  const answer = await it.fetch(`${app}/.gate/backchannel-logout`, { method: 'POST', body })
  t.is(answer.status, 200)
  // Nobody has to look.
  isStoreGone = true
  await streams.closed
  isStoreGone = false
  t.is(ends().at(-1), 'revoked')
})

test.serial(
  'ends streams within half a minute when another gate has ended their session',
  async (t) => {
    const browser = await signedIn()
    const streams = await openBoth(browser)
    const { id } = await sessionOf(browser)
    await memory.end(id)
    t.true(streams.isOpen())
    it.advance(31_000)
    await streams.closed
    t.is(ends().at(-1), 'revoked')
  },
)

test.serial(
  'ends streams when the idle life or the absolute life of their session ends',
  async (t) => {
    const streams = await openBoth(await signedIn())
    it.advance(3600_000)
    await streams.closed
    const browser = await signedIn()
    const { endsAtMs } = await sessionOf(browser)
    const last = await openBoth(browser)
    it.advance(endsAtMs - it.now())
    await last.closed
    t.is(ends().at(-1), 'expired')
  },
)

test.serial('ends a stream with the proof that opened it, whatever was proven since', async (t) => {
  const browser = await signedIn()
  const answer = await browser.register()
  const { session_identifier: session } = (await answer.json()) as { session_identifier: string }
  it.advance(4000)
  // With a copy of the whole jar.
  const thief = await openBoth(browser.copy())
  it.advance(300_000)
  t.is((await browser.refresh(session)).status, 200)
  const renewed = await openBoth(browser)
  it.advance(297_000)
  await thief.closed
  t.is(ends().at(-1), 'expired')
  t.true(renewed.isOpen())
})

test.serial(
  'ends a stream that was opened before the key of its session was registered',
  async (t) => {
    const browser = await signedIn()
    const streams = await openBoth(browser)
    await browser.register()
    it.advance(31_000)
    await streams.closed
    t.is(ends().at(-1), 'revoked')
  },
)

test.serial('ends a stream whose session has got another key in place of its own', async (t) => {
  const browser = await signedIn()
  await browser.register()
  const streams = await openBoth(browser)
  const { key, ...before } = await sessionOf(browser)
  t.truthy(key)
  const other = key && { ...key, jkt: 'another' }
  await memory.end(before.id)
  await memory.insert({ ...before, key: other }, 10, before.startedAtMs)
  it.advance(31_000)
  await streams.closed
  t.is(ends().at(-1), 'revoked')
})

test.serial(
  'ends a stream opened while a key was being registered, without its proof',
  async (t) => {
    const browser = await signedIn()
    await browser.register()
    const early = await openBoth(browser.copy((name) => name === '__Host-gate'))
    it.advance(3000)
    await early.closed
    t.is(ends().at(-1), 'expired')
  },
)

test.serial('ends a stream whose route asks for groups that the session has lost', async (t) => {
  const browser = await signedIn()
  const before = await sessionOf(browser)
  const changed = { ...before, claims: { ...before.claims, groups: ['staff'] } }
  t.true(await memory.replace({ ...changed, version: before.version + 1 }))
  it.advance(6000)
  it.application.handlers.set('/staff', it.application.handlers.get('/events') ?? (() => {}))
  const stream = await openEvents(ofBrowsers(), await cookiesOf(browser), '/staff')
  const plain = await openEvents(ofBrowsers(), await cookiesOf(browser))
  t.true(await memory.replace({ ...before, version: before.version + 2 }))
  it.advance(31_000)
  await stream.closed
  t.is(ends().at(-1), 'revoked')
  t.true(plain.isOpen())
})

test.serial('ends streams while nobody can say whether their session continues', async (t) => {
  const streams = await openBoth(await signedIn())
  isStoreGone = true
  const advancing = setInterval(() => it.advance(31_000), 1000)
  await streams.closed
  clearInterval(advancing)
  isStoreGone = false
  t.is(ends().at(-1), 'revocation_unavailable')
})

test('ends the streams of an access token when it expires, and no download', async (t) => {
  let nowMs = start * 1000
  const application = opened.use(await startApplication())
  serveStreams(application)
  const api: TestGate = opened.use(
    await startGate(
      { applications: [{ origin: audience, upstream: { url: application.url } }] },
      { now: () => nowMs },
    ),
  )
  const gate = { port: api.port, host: 'api.example' }
  const token = accessToken({ exp: start + 60 })
  const headersFor = (path: string) => ({
    authorization: `DPoP ${token}`,
    dpop: dpopProof(token, { htm: 'GET', htu: audience + path }),
  })
  const events = await openEvents(gate, headersFor('/events'))
  const socket = await openSocket(gate, headersFor('/socket'))
  const file = await openEvents(gate, headersFor('/file'), '/file')
  nowMs += 60_000
  await Promise.all([events.closed, socket.closed])
  t.like(api.events.at(-1), { type: 'stream_ended', application: audience, reason: 'expired' })
  t.true(file.isOpen())
  finishFile()
  await file.closed
  t.true(file.answer.complete)
})

test('holds ten thousand streams by one timer, and forgets those that have ended', async (t) => {
  const timers = () => process.getActiveResourcesInfo().filter((each) => each === 'Timeout').length
  let nowMs = 0
  const ended = new EventEmitter()
  const reasons: string[] = []
  const before = timers()
  using streams = createStreams({
    now: () => nowMs,
    report: (event) => event.type === 'stream_ended' && reasons.push(event.reason),
  })
  const session = (at: number) =>
    ({
      ...{ id: `s${at}`, application: app, issuer: 'https://as.example', subject: `p${at}` },
      endsAtMs: 1_000_000,
    }) as Session
  const holder = (at: number): Holder =>
    sessionHolder(session(at), { untilMs: 1_000_000, isOver: async () => false })
  let left = 10_000
  const releases = Array.from({ length: left }, (_, at) =>
    streams.hold(holder(at), () => {
      left -= 1
      if (left === 5000) ended.emit('half')
    }),
  )
  t.true(timers() - before <= 1)
  for (const release of releases.slice(0, 5000)) release()
  const half = once(ended, 'half')
  nowMs = 1_000_000
  await half
  t.is(reasons.length, 5000)
})
