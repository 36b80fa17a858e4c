// A node of four processes: what one of them does, the others know; and how they start and end.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { Agent, type IncomingMessage, type RequestOptions, request } from 'node:http'
import https from 'node:https'
import { text } from 'node:stream/consumers'
import test from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import { makeProof } from '../../src/doctor/proof.ts'
import { freePort } from '../../src/net/free-port.ts'
import { holdfast, type Serving, serve } from '../support/cli.ts'
import { openTestDatabase, type TestDatabase } from '../support/database.ts'
import { basic, createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { useFolder } from '../support/folder.ts'
import { findLosses, startLoad } from '../support/load.ts'
import { familyOf } from '../support/program.ts'
import { startTestServer } from '../support/server.ts'
import { until } from '../support/until.ts'

const cwd = useFolder(test)
let port: number
let operators: string
let issuer: string
const opened = new AsyncDisposableStack()
let database: TestDatabase
let node: Serving
let app: ClientMetadata
let service: ClientMetadata

const environment = (changes: Record<string, string> = {}) => ({
  cwd,
  env: {
    DATABASE_URL: database.url,
    HOLDFAST_AUTHORIZE_LIMIT: '100000',
    HOLDFAST_DATA: cwd,
    HOLDFAST_ISSUER: issuer,
    HOLDFAST_LOG_LEVEL: 'debug',
    HOLDFAST_LOGIN_LIMIT: '100000',
    HOLDFAST_LONGEST_WAIT_MS: '60000',
    HOLDFAST_METRICS: operators,
    HOLDFAST_PAR_LIMIT: '60',
    HOLDFAST_PORT: String(port),
    HOLDFAST_REFRESH_REUSE_SECONDS: '60',
    HOLDFAST_REFUSAL_LIMIT: '100000',
    HOLDFAST_SECRET: 'the secret of this node, and of nothing else',
    HOLDFAST_TLS: 'off',
    HOLDFAST_WORKERS: '4',
    ...changes,
  },
})

test.before(async () => {
  port = await freePort()
  operators = `127.0.0.1:${await freePort()}`
  issuer = `http://127.0.0.1:${port}`
  database = opened.use(await openTestDatabase())
  await using filling = await startTestServer(environment().env)
  app = await filling.addClient()
  service = await filling.addClient({
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    token_endpoint_auth_method: 'client_secret_basic',
  })
  await filling.close()
  node = await serve(environment())
})
test.after.always('closes the node and its database', async () => {
  await node?.end('SIGTERM')
  await opened.disposeAsync()
})

/** What the processes have logged so far. */
const lines = () =>
  node
    .errors()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))

/** Sends a form on a connection of its own, which the kernel gives to any of the workers. */
const alone: typeof fetch = (url, init) =>
  fetch(url, { ...init, headers: { ...init?.headers, connection: 'close' } })

const sixteen = <T>(use: () => Promise<T>) => Promise.all(Array.from({ length: 16 }, use))

async function metric(name: string): Promise<number> {
  const metrics = await (await fetch(`http://${operators}/metrics`)).text()
  const values = [...metrics.matchAll(new RegExp(`^${name}(?:\\{.*\\})? (\\S+)$`, 'gm'))]
  return values.reduce((sum, [, value]) => sum + Number(value), 0)
}

const workersOf = ({ pid }: Serving) => familyOf(pid).slice(1)

test.serial('limits the heap of each worker', (t) => {
  for (const pid of familyOf(node.pid)) {
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
    t.true(command.includes('--max-old-space-size=256\0--max-semi-space-size=16'), command)
  }
})

test.serial('four processes serve at one port, with one log and one set of metrics', async (t) => {
  t.is(workersOf(node).length, 4)
  t.is(await metric('holdfast_workers'), 4)
  const answers = await sixteen(() =>
    post({ issuer }, '/token', { grant_type: 'nothing' }, { fetch: alone }),
  )
  t.deepEqual([...new Set(answers.map(({ status }) => status))], [400])
  t.is(await metric('holdfast_refusals_total'), 16)
  const refusals = () => lines().filter(({ event }) => event === 'request.refused')
  await until(async () => refusals().length === 16)
  t.true(new Set(refusals().map(({ worker }) => worker)).size > 1)
  // What one process is enough for, one does.
  t.is(lines().filter(({ event }) => event === 'server.starting').length, 1)
  for (const path of ['livez', 'readyz'])
    t.is((await fetch(`http://${operators}/${path}`)).status, 200)
})

test.serial('of sixteen uses of one code or proof at all workers, one succeeds', async (t) => {
  const key = await newKey()
  const { exchange } = await obtainCode(createPerson({ issuer }, { fetch: alone }), app)
  const uses = await sixteen(() => post({ issuer }, '/token', exchange, { key, fetch: alone }))
  t.is(uses.filter(({ status }) => status === 200).length, 1)

  const proof = await makeProof(key, { method: 'POST', url: `${issuer}/token` })
  const asking = { proof, headers: basic(service), fetch: alone }
  const grants = await sixteen(() =>
    post({ issuer }, '/token', { grant_type: 'client_credentials' }, asking),
  )
  t.deepEqual(grants.map(({ status }) => status).sort(), [200, ...Array(15).fill(400)])
})

test.serial('a token that one worker has issued is known to the others', async (t) => {
  const key = await newKey()
  const { exchange } = await obtainCode(createPerson({ issuer }, { fetch: alone }), app)
  const { body } = await post({ issuer }, '/token', exchange, { key, fetch: alone })
  const url = `${issuer}/userinfo`
  const answers = await sixteen(async () => {
    const dpop = await makeProof(key, { method: 'GET', url, accessToken: body.access_token })
    return alone(url, { headers: { authorization: `DPoP ${body.access_token}`, dpop } })
  })
  t.deepEqual([...new Set(answers.map(({ status }) => status))], [200])
  const next = await post({ issuer }, '/token', refreshing(app, body.refresh_token), {
    key,
    fetch: alone,
  })
  t.is(next.status, 200)
})

test.serial('a limit that one worker has used up is used up at all of them', async (t) => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const push = async (options: RequestOptions = {}) => {
    const outgoing = request(`${issuer}/par`, { method: 'POST', ...options }).end()
    const [answer] = (await once(outgoing, 'response')) as [IncomingMessage]
    answer.resume()
    await once(answer, 'end')
    return answer.statusCode
  }
  for (let count = 0; count < 60; count += 1) t.not(await push({ agent }), 429)
  agent.destroy()
  const elsewhere = (await Promise.all(Array.from({ length: 4 }, () => sixteen(push)))).flat()
  // One comes back each second; three other workers would have had 60 each.
  t.true(elsewhere.filter((status) => status !== 429).length < 20)
})

test.serial(
  'a worker that is killed under load is replaced, and nothing answered is lost',
  async (t) => {
    const target = { issuer, app, service }
    const load = startLoad(target, { workers: 4, fetch: alone })
    await load.progress(3)
    const before = await metric('holdfast_grants_total')
    const [victim = 0] = workersOf(node)
    const cleaners = () =>
      new Set(lines().flatMap(({ event, worker }) => (event === 'cleanup' ? [worker] : [])))
    await until(async () => cleaners().has(1))
    t.is(cleaners().size, 1)
    process.kill(victim, 'SIGKILL')
    await load.progress(3)
    await until(async () => (await metric('holdfast_workers')) === 4, 60_000)
    await load.progress(3)
    await load.stop()
    t.deepEqual(load.judge(), [])
    t.deepEqual(
      await findLosses(target, load, { accepted: load.accepted(), chains: load.chains }),
      [],
    )
    t.is(await metric('holdfast_worker_ends_total'), 1)
    t.true((await metric('holdfast_grants_total')) >= before)
    t.regex(
      node.errors(),
      /"event":"worker.ended","worker":1,"pid":\d+,"exitCode":null,"signal":"SIGKILL"/,
    )
    // Another one has taken over what one of them is enough for.
    await until(async () => cleaners().size === 2)
  },
)

test.serial('on SIGTERM every worker finishes the requests that were begun', async (t) => {
  const form = 'grant_type=client_credentials'
  const begun = await sixteen(async () => {
    const outgoing = request(`${issuer}/token`, {
      agent: false,
      method: 'POST',
      headers: {
        'content-length': form.length,
        'content-type': 'application/x-www-form-urlencoded',
        expect: '100-continue',
      },
    })
    outgoing.flushHeaders()
    await once(outgoing, 'continue')
    return outgoing
  })
  const ended = node.end('SIGTERM')
  await until(() =>
    alone(issuer).then(
      () => false,
      () => true,
    ),
  )
  const answers = await Promise.all(
    begun.map(async (outgoing) => {
      const answered = once(outgoing, 'response')
      outgoing.end(form)
      const [response] = (await answered) as [IncomingMessage]
      return JSON.parse(await text(response)).error
    }),
  )
  t.deepEqual([...new Set(answers)], ['invalid_request'])
  const { code, stdout } = await ended
  t.is(code, 0)
  t.regex(stdout, /Finishing requests\.\n$/)
})

test.serial('no worker outlives a primary that is killed, with TLS and certificates', async (t) => {
  const mtlsPort = await freePort()
  const secure = await serve(
    environment({
      HOLDFAST_ISSUER: `https://localhost:${port}`,
      HOLDFAST_MTLS_PORT: String(mtlsPort),
      HOLDFAST_TLS: 'on',
      HOLDFAST_WORKERS: '2',
    }),
  )
  const ca = await readFile(secure.printed('Trust')?.replace('NODE_EXTRA_CA_CERTS=', '') ?? '')
  const look = async (at: number) => {
    const asked = https.get(`https://localhost:${at}/livez`, { ca, agent: false })
    const [answer] = (await once(asked, 'response')) as [IncomingMessage]
    answer.resume()
    return answer.statusCode
  }
  for (const at of [port, mtlsPort]) t.is(await look(at), 200)
  const workers = workersOf(secure)
  t.is(workers.length, 2)
  await secure.end('SIGKILL')
  await until(async () => workers.every((pid) => !isRunning(pid)))
  await t.throwsAsync(look(port), { code: 'ECONNREFUSED' })
})

test.serial('a worker that cannot start ends the node with its error', async (t) => {
  const missing = environment({
    HOLDFAST_ISSUER: `https://localhost:${port}`,
    HOLDFAST_TLS: 'on',
    HOLDFAST_TLS_CERT_FILE: '/nowhere/cert.pem',
    HOLDFAST_TLS_KEY_FILE: '/nowhere/key.pem',
  })
  const { code, stderr } = await holdfast(missing, ['serve'])
  t.is(code, 1)
  t.regex(stderr, /^holdfast: HOLDFAST_TLS_CERT_FILE cannot be read \(ENOENT\)/m)
})

/** One that has ended and that nobody has asked for has no command line any more. */
function isRunning(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8') !== ''
  } catch {
    return false
  }
}
