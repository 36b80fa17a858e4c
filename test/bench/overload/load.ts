/*
 * Connections that ask without a pause, in a process of its own: each sends its next request when
 * the one before is answered. A latency counts from the moment at which the request was given to its
 * connection, so that the time for connecting and what this process is late by are part of it.
 */
import { randomUUID } from 'node:crypto'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { Client, type Dispatcher } from 'undici'
import type { Target } from '../hostile/release.ts'
import { failureOf } from '../hostile/sender.ts'
import { makeKey } from '../token/load.ts'
import type { KindReport, LoadReport, LoadSize } from './result.ts'
import { createTimes } from './times.ts'

type Kind = keyof LoadSize
type Request = Pick<Dispatcher.DispatchOptions, 'method' | 'path' | 'headers' | 'body'>

interface Answer {
  readonly status: number
  readonly saysWhen: boolean
}

const patienceMs = 30_000

const target = JSON.parse(process.argv[2] ?? '') as Target
const size = JSON.parse(process.argv[3] ?? '') as LoadSize
const kinds = Object.keys(size) as Kind[]
const key = makeKey()
const authorization = `Basic ${btoa(`service:${encodeURIComponent(target.secret)}`)}`
const authorizationRequest = new URLSearchParams({
  client_id: 'app',
  response_type: 'code',
  redirect_uri: 'http://127.0.0.1/callback',
  scope: 'openid',
  code_challenge: 'x'.repeat(43),
  code_challenge_method: 'S256',
})
let people = 0

const makers: Record<Kind, () => Request> = {
  tokens: () => ({
    method: 'POST',
    path: '/token',
    headers: {
      authorization,
      'content-type': 'application/x-www-form-urlencoded',
      dpop: key.sign(
        { typ: 'dpop+jwt', alg: 'ES256', jwk: key.jwk },
        {
          htm: 'POST',
          htu: `${target.issuer}/token`,
          jti: randomUUID(),
          iat: Math.floor(Date.now() / 1000),
        },
      ),
    },
    body: 'grant_type=client_credentials',
  }),
  // A proxy names another address for each.
  'sign-ins': () => ({
    method: 'GET',
    path: `/authorize?${authorizationRequest}`,
    headers: { 'x-forwarded-for': `10.${(people >> 8) & 255}.${people++ & 255}.7` },
  }),
}

function ask(client: Client, request: Request): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>()
  let answer: Answer = { status: 0, saysWhen: false }
  client.dispatch(request, {
    onRequestStart() {},
    onResponseStart(_controller, status, headers) {
      answer = { status, saysWhen: headers['retry-after'] !== undefined }
    },
    onResponseData() {},
    onResponseEnd: () => resolve(answer),
    onResponseError: (_controller, error) => reject(error),
  })
  return promise
}

function openMeasures() {
  const other: Record<string, number> = {}
  return { accepted: createTimes(), refused: createTimes(), other }
}

const measured = { tokens: openMeasures(), 'sign-ins': openMeasures() } satisfies Record<
  Kind,
  unknown
>
const connecting = createTimes()
let withoutRetryAfter = 0
let isOver = false

function countOther(kind: Kind, what: string): void {
  const { other } = measured[kind]
  other[what] = (other[what] ?? 0) + 1
}

function count(kind: Kind, { status, saysWhen }: Answer, ms: number): void {
  const { accepted, refused } = measured[kind]
  if (status === 503) {
    refused.record(ms)
    if (!saysWhen) withoutRetryAfter += 1
  } else if (status < 400) accepted.record(ms)
  else countOther(kind, String(status))
}

/** One connection. What was refused was not looked at, and is sent again as it is. */
async function keepAsking(kind: Kind): Promise<void> {
  const client = new Client(target.issuer, {
    bodyTimeout: patienceMs,
    connect: { timeout: patienceMs },
    headersTimeout: patienceMs,
  })
  const opened = performance.now()
  client.once('connect', () => connecting.record(performance.now() - opened))
  let request = makers[kind]()
  while (!isOver) {
    const started = performance.now()
    try {
      const answer = await ask(client, request)
      count(kind, answer, performance.now() - started)
      if (answer.status !== 503) request = makers[kind]()
    } catch (error) {
      countOther(kind, failureOf(error))
    }
  }
  await client.destroy()
}

const delay = monitorEventLoopDelay({ resolution: 1 })

function begin(): () => Promise<LoadReport> {
  const started = performance.now()
  const atStart = performance.eventLoopUtilization()
  delay.enable()
  const running = Promise.all(
    kinds.flatMap((kind) => Array.from({ length: size[kind] }, () => keepAsking(kind))),
  )
  return async () => {
    const seconds = (performance.now() - started) / 1000
    const busy = performance.eventLoopUtilization(atStart).utilization
    const delay_p99_ms = Math.round(delay.percentile(99) / 1e5) / 10
    isOver = true
    await running
    return {
      seconds,
      kinds: { tokens: reportOf('tokens'), 'sign-ins': reportOf('sign-ins') },
      without_retry_after: withoutRetryAfter,
      connecting: connecting.summary(),
      own: { busy, delay_p99_ms },
    }
  }
}

function reportOf(kind: Kind): KindReport {
  const { accepted, refused, other } = measured[kind]
  return { accepted: accepted.summary(), refused: refused.summary(), other }
}

let end: (() => Promise<LoadReport>) | undefined
process.on('message', async (order: string) => {
  if (order === 'report') process.send?.(await end?.())
  else end = begin()
})
process.send?.('ready')
