import { execFile, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import https from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import anyTest, { type ExecutionContext } from 'ava'
import { equip, TokenBindingAgent, tokenBindingOf } from '../../packages/token-binding-tls/index.ts'
import { verifyTokenBinding } from '../../packages/verify/token-binding.ts'
import {
  certificate,
  type Echo,
  echo,
  fetch,
  keepSessions,
  listen,
  missing,
  skipped,
} from './support.ts'

/*
 * Our two ends against GnuTLS. It negotiates, exports and signs by itself; agreement means that
 * both read the RFCs alike.
 */

const folder = mkdtempSync(join(tmpdir(), 'gnutls-peer-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
const peer = join(folder, 'gnutls-peer')

function compilePeer(): boolean {
  const source = fileURLToPath(new URL('gnutls-peer.c', import.meta.url))
  try {
    execFileSync('gcc', ['-Wall', '-Wextra', '-Werror', '-o', peer, source, '-lgnutls'], {
      stdio: 'pipe',
    })
    return true
  } catch (error) {
    const { code, stderr } = error as { code?: string; stderr?: Buffer }
    const absent = code === 'ENOENT' || /gnutls\/gnutls\.h|-lgnutls/.test(String(stderr))
    if (!absent) throw error
    return false
  }
}

const runnable =
  skipped === undefined &&
  missing(compilePeer(), 'no gcc or no GnuTLS: apt-get install gcc libgnutls28-dev') === undefined
const test = runnable ? anyTest : anyTest.skip

const tls12 = 'NORMAL:-VERS-ALL:+VERS-TLS1.2'
const tls13 = 'NORMAL:-VERS-ALL:+VERS-TLS1.3'

interface Facts {
  readonly protocol: string
  readonly extension: string | null
  readonly extendedMasterSecret: boolean
  readonly safeRenegotiation: boolean
  readonly resumed: boolean
  readonly ekm: string
  readonly id: string
  readonly response: Echo
  readonly alert?: number
}

/** Runs the client, and gives what each of its connections saw. */
async function runClient(
  port: number,
  priorities: string,
  offer: string,
  ...more: string[]
): Promise<[Facts, ...Facts[]]> {
  const run = promisify(execFile)
  const { stdout } = await run(peer, ['client', String(port), priorities, offer, ...more]).catch(
    (error: { stdout: string }) => error,
  )
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line)) as [Facts, ...Facts[]]
}

async function serve(t: ExecutionContext, options: { tls13Draft?: boolean } = {}) {
  const server = equip(() => https.createServer(certificate, echo), options)
  keepSessions(server)
  const ekms: (string | undefined)[] = []
  server.on('secureConnection', (socket) => {
    ekms.push(tokenBindingOf(socket)?.ekm.toString('hex'))
  })
  return { port: await listen(t, server), ekms }
}

test('GnuTLS gets the answer, the keying material and the acceptance it expects', async (t) => {
  const { port, ekms } = await serve(t)
  const [facts] = await runClient(port, tls12, '010003020100')
  t.like(facts, {
    protocol: 'TLS1.2',
    extension: '01000102',
    extendedMasterSecret: true,
    safeRenegotiation: true,
  })
  t.deepEqual(ekms, [facts.ekm])
  t.is(facts.response.negotiated, 'ecdsap256')
  t.is(facts.response.proof?.provided.id, facts.id)
})

test('GnuTLS agrees over TLS 1.3 as well, where that is configured', async (t) => {
  const { port, ekms } = await serve(t, { tls13Draft: true })
  const [facts] = await runClient(port, tls13, '01000102')
  t.like(facts, { protocol: 'TLS1.3', extension: '01000102' })
  t.deepEqual(ekms, [facts.ekm])
  t.is(facts.response.proof?.provided.id, facts.id)
})

test('GnuTLS gets no answer over TLS 1.3 by RFC 8472 alone', async (t) => {
  const { port } = await serve(t)
  const [facts] = await runClient(port, tls13, '01000102')
  t.like(facts, { protocol: 'TLS1.3', extension: null })
  t.is(facts.response.refused, 'not_negotiated')
})

test('GnuTLS gets no answer without the extended master secret', async (t) => {
  const { port } = await serve(t)
  const [facts] = await runClient(port, `${tls12}:%NO_SESSION_HASH`, '01000102')
  t.like(facts, { extension: null, extendedMasterSecret: false })
  t.is(facts.response.refused, 'not_negotiated')
})

test('GnuTLS gets no answer without renegotiation_info', async (t) => {
  const { port } = await serve(t)
  const [facts] = await runClient(port, `${tls12}:%DISABLE_SAFE_RENEGOTIATION`, '01000102')
  t.like(facts, { extension: null, safeRenegotiation: false })
})

test('GnuTLS gets no answer to a draft version, and an alert for a malformed offer', async (t) => {
  const { port } = await serve(t)
  const [draft] = await runClient(port, tls12, '00120102')
  t.is(draft.extension, null)
  for (const priorities of [tls12, tls13]) {
    const { port: strict } = await serve(t, { tls13Draft: true })
    const [malformed] = await runClient(strict, priorities, '01000202')
    t.is(malformed.alert, 50)
  }
})

for (const [name, priorities, options] of [
  ['a ticket of TLS 1.2', tls12, {}],
  ['a session id of TLS 1.2', `${tls12}:%NO_TICKETS`, {}],
  ['a ticket of TLS 1.3', tls13, { tls13Draft: true }],
] as const) {
  test(`GnuTLS resumes with ${name} and negotiates anew`, async (t) => {
    const { port, ekms } = await serve(t, options)
    const [first, second] = await runClient(port, priorities, '01000102', 'resume')
    t.like(second, { resumed: true, extension: '01000102' })
    t.not(second?.ekm, first.ekm)
    t.deepEqual(ekms, [first.ekm, second?.ekm])
    t.is(second?.response.proof?.provided.id, first.id)
  })
}

// The agent against a server that is not ours

const files = [join(folder, 'certificate.pem'), join(folder, 'key.pem')] as const
writeFileSync(files[0], certificate.cert)
writeFileSync(files[1], certificate.key)

async function startServer(t: ExecutionContext, priorities: string, answer: string) {
  const child = spawn(peer, ['server', priorities, answer, ...files])
  t.teardown(() => child.kill())
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
  const next = async () => JSON.parse((await lines.next()).value ?? 'null')
  const { port } = await next()
  const agent = new TokenBindingAgent({ ca: certificate.cert, tls13Draft: true })
  t.teardown(() => agent.destroy())
  return { url: `https://localhost:${port}/`, agent, next, ended: once(child, 'exit') }
}

for (const priorities of [tls12, tls13]) {
  test(`the agent proves its key to GnuTLS over ${priorities.slice(-6)}`, async (t) => {
    const { url, agent, next } = await startServer(t, priorities, '01000102')
    t.is((await fetch(url, { agent })).status, 200)
    const { extension, ekm, message } = await next()
    t.is(extension, '010003020100')
    const connection = { negotiated: 'ecdsap256', ekm: Buffer.from(ekm, 'hex') } as const
    t.notThrows(() => verifyTokenBinding(message, connection))
  })
}

test('the agent continues without Token Binding where GnuTLS has a draft version', async (t) => {
  const { url, agent, next } = await startServer(t, tls12, '000d0102')
  t.is((await fetch(url, { agent })).status, 200)
  t.like(await next(), { requested: true, message: '' })
})

test('the agent leaves a server that negotiates without the extended master secret', async (t) => {
  const { url, agent, next } = await startServer(t, `${tls12}:%NO_SESSION_HASH`, '01000102')
  await t.throwsAsync(fetch(url, { agent }), { code: 'unsafe_negotiation' })
  t.like(await next(), { extendedMasterSecret: false, requested: false, message: '' })
})
