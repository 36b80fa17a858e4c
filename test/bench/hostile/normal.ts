/*
 * The normal load, in a process of its own: tokens for a service, refreshes by apps, and people who
 * sign in with a password and give consent, each from an address that the proxy names. Every request
 * is due at a time, and its latency counts from there, however late the one before it was answered.
 */
import { randomUUID } from 'node:crypto'
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import { createPerson, obtainCode, refreshing } from '../../support/flow.ts'
import { type Key, makeKey } from '../token/load.ts'
import type { Latencies, NormalReport } from './child.ts'
import { keepPace } from './pace.ts'
import type { Target } from './release.ts'
import { createSender, failureOf, form } from './sender.ts'

const rates = { 'client credentials': 20, refresh: 10, 'sign-in': 0.5 }
type Operation = keyof typeof rates
const operations = Object.keys(rates) as Operation[]

const chainCount = 20
const app = { client_id: 'app' }

const target = JSON.parse(process.argv[2] ?? '') as Target
const sender = createSender(target.issuer, { localAddress: '127.0.0.1', connections: 128 })
const serviceKey = makeKey()
let people = 0
let requests = 0

/** An address of a network of its own. */
const addressOf = (number: number) => `10.${number >> 8}.${number & 255}.7`

async function askToken(
  key: Key,
  address: string,
  fields: Record<string, string>,
  authorization?: string,
) {
  const { headers, body = '' } = form(fields)
  const dpop = key.sign(
    { typ: 'dpop+jwt', alg: 'ES256', jwk: key.jwk },
    {
      htm: 'POST',
      htu: `${target.issuer}/token`,
      jti: randomUUID(),
      iat: Math.floor(Date.now() / 1000),
    },
  )
  const { status, text } = await sender.send({
    method: 'POST',
    target: '/token',
    headers: {
      ...headers,
      dpop,
      'x-forwarded-for': address,
      ...(authorization && { authorization }),
    },
    body,
  })
  if (status !== 200) throw new Error(String(status))
  return JSON.parse(text) as { refresh_token?: string }
}

/** Somebody signs in who has never been here, from a new address. */
async function signIn(key: Key): Promise<string> {
  people += 1
  const address = addressOf(people)
  const credentials = {
    email: `person-${(people % target.accounts) + 1}@example.com`,
    password: target.password,
  }
  const person = createPerson(target, { credentials, fetch: sender.fetchFrom(address) })
  const { exchange } = await obtainCode(person, app)
  return (await askToken(key, address, exchange)).refresh_token ?? ''
}

interface Chain {
  readonly key: Key
  readonly address: string
  /** Of the refresh before: no chain refreshes twice at once. Undefined when the chain has ended. */
  token: Promise<string | undefined>
}

const chains: Chain[] = []

/** A client that cannot be served tries its token again; one whose token is refused signs in. */
async function refresh(): Promise<void> {
  const chain = chains[requests % chains.length] as Chain
  const before = chain.token
  const refreshed = before.then(async (token) => {
    const used = refreshing(app, token ?? (await signIn(chain.key)))
    return (await askToken(chain.key, chain.address, used)).refresh_token
  })
  chain.token = refreshed.catch((error: unknown) =>
    failureOf(error) === '400' ? undefined : before,
  )
  await refreshed
}

const work: Record<Operation, () => Promise<unknown>> = {
  'client credentials': () =>
    askToken(
      serviceKey,
      addressOf(requests % 5000),
      { grant_type: 'client_credentials' },
      `Basic ${btoa(`service:${encodeURIComponent(target.secret)}`)}`,
    ),
  refresh,
  'sign-in': () => signIn(makeKey()),
}

interface Bucket {
  readonly latencies: Record<Operation, RecordableHistogram>
  readonly failures: Record<string, number>
  readonly running: Set<Promise<void>>
}

const emptyBucket = (): Bucket => ({
  latencies: Object.fromEntries(operations.map((name) => [name, createHistogram()])) as Record<
    Operation,
    RecordableHistogram
  >,
  failures: {},
  running: new Set(),
})

const buckets = new Map<string, Bucket>()
let bucket = emptyBucket()

function begin(operation: Operation, dueMs: number): void {
  const { latencies, failures, running } = bucket
  requests += 1
  const done = work[operation]().then(
    () => latencies[operation].record(Math.max(1, Math.round((performance.now() - dueMs) * 1000))),
    (error: unknown) => {
      const failure = `${operation}: ${failureOf(error)}`
      failures[failure] = (failures[failure] ?? 0) + 1
    },
  )
  running.add(done)
  void done.then(() => running.delete(done))
}

const milliseconds = (microseconds: number) => Math.round(microseconds / 100) / 10

function summarize(histogram: RecordableHistogram): Latencies {
  if (histogram.count === 0) return { count: 0, p50_ms: null, p99_ms: null, max_ms: null }
  return {
    count: histogram.count,
    p50_ms: milliseconds(histogram.percentile(50)),
    p99_ms: milliseconds(histogram.percentile(99)),
    max_ms: milliseconds(histogram.max),
  }
}

async function report(): Promise<Record<string, NormalReport>> {
  const phases: Record<string, NormalReport> = {}
  for (const [name, { latencies, failures, running }] of buckets) {
    await Promise.all(running)
    const entries = operations.map((operation) => [operation, summarize(latencies[operation])])
    phases[name] = { operations: Object.fromEntries(entries), failures }
  }
  return phases
}

const ends: (() => void)[] = []

process.on('message', async (order: string) => {
  if (order === 'end') return process.disconnect()
  if (order === 'report') {
    for (const end of ends) end()
    process.send?.(await report())
    return
  }
  bucket = emptyBucket()
  buckets.set(order, bucket)
  if (ends.length > 0) return
  for (const operation of operations) {
    ends.push(keepPace(rates[operation], (dueMs) => begin(operation, dueMs)))
  }
})

while (chains.length < chainCount) {
  const key = makeKey()
  const token = await signIn(key)
  chains.push({ key, address: addressOf(people), token: Promise.resolve(token) })
}
process.send?.('ready')
