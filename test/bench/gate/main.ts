/*
 * The gate beside oauth2-proxy and beside nothing, each behind the same nginx and in front of the same
 * application, in turns: 1,000 and 10,000 bound sessions, and a DPoP proof a request. Requests and
 * proofs are made before a round begins. What is judged are ratios of a round's neighbours, medians
 * over the rounds; the exit code is 1 when a gate of `result.ts` does not hold.
 *
 * oauth2-proxy is that of OAUTH2_PROXY, or is built by Go, once.
 *
 * npm run bench:gate -- [--json] [--quick] [--profile FOLDER]
 */
import { parseArgs } from 'node:util'
import { asTable } from '../../../src/commands/table.ts'
import { freePort } from '../../../src/net/free-port.ts'
import { accessToken, audience, dpopProof, jwks } from '../../support/verify/fixtures.ts'
import { startGateProcess } from './gate-process.ts'
import { cpuMs, load, median, residentMb } from './measure.ts'
import { startNginx } from './nginx.ts'
import { startOauth2Proxy } from './oauth2-proxy.ts'

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    profile: { type: 'string' },
  },
})
const [rounds, requests] = values.quick ? [3, 1500] : [9, 4000]

await using opened = new AsyncDisposableStack()
const upstreamPort = await freePort()
const upstream = `http://127.0.0.1:${upstreamPort}`
const few = opened.use(
  await startGateProcess({ upstream, sessions: 1000, jwks, profile: values.profile }),
)
const many = opened.use(await startGateProcess({ upstream, sessions: 10_000, jwks }))
// Its sessions are in its cookies: their number changes nothing in its memory.
const other = opened.use(await startOauth2Proxy(upstream, 200))
const application = opened.use(await startNginx({ application: upstreamPort }))

type Headers = Record<string, string>

interface Contender {
  readonly name: string
  readonly pid: number | undefined
  readonly backend: number
  headers(count: number): Headers[]
}

const withCookies = (cookies: readonly string[]) => (count: number) =>
  Array.from({ length: count }, (_, at) => ({ cookie: cookies[at % cookies.length] ?? '' }))

function proofs(count: number): Headers[] {
  const iat = Math.floor(Date.now() / 1000)
  const token = accessToken({ iat, exp: iat + 3600 })
  return Array.from({ length: count }, () => ({
    authorization: `DPoP ${token}`,
    dpop: dpopProof(token, { iat, htu: `${audience}/` }),
  }))
}

const contenders: readonly Contender[] = [
  { name: 'nginx alone', pid: undefined, backend: upstreamPort, headers: withCookies(['a=1']) },
  {
    name: 'oauth2-proxy',
    pid: other.pid,
    backend: other.port,
    headers: withCookies(other.cookies),
  },
  ...[
    {
      name: 'gate, 1,000 sessions',
      pid: few.pid,
      backend: few.port,
      headers: withCookies(few.cookies),
    },
    {
      name: 'gate, 10,000 sessions',
      pid: many.pid,
      backend: many.port,
      headers: withCookies(many.cookies),
    },
    { name: 'gate, DPoP', pid: few.pid, backend: few.port, headers: proofs },
  ],
]

interface Sample {
  readonly perSecond: number
  /** Microseconds of CPU of the contender alone for one request, and with nginx. */
  readonly cpu: number
  readonly all: number
  readonly p99Ms: number
}

const samples = new Map<string, Sample[]>(contenders.map(({ name }) => [name, []]))
const nginx = new Map(
  await Promise.all(
    contenders.map(async ({ name, backend }) => {
      const port = await freePort()
      const started = opened.use(await startNginx({ port, backend, host: new URL(audience).host }))
      return [name, { port, pids: started.pids }] as const
    }),
  ),
)

async function round({ name, pid, headers }: Contender, count: number): Promise<Sample> {
  const { port, pids } = nginx.get(name) ?? { port: 0, pids: [] }
  const prepared = headers(count)
  const own = pid === undefined ? [] : [pid]
  const [before, frontBefore] = [await cpuMs(own), await cpuMs(pids)]
  const { seconds, p99Ms } = await load(`http://127.0.0.1:${port}`, prepared)
  const [spent, front] = [(await cpuMs(own)) - before, (await cpuMs(pids)) - frontBefore]
  return {
    perSecond: count / seconds,
    cpu: (spent * 1000) / count,
    all: ((spent + front) * 1000) / count,
    p99Ms,
  }
}

for (const contender of contenders) await round(contender, requests)
const lookUpsBefore = await few.lookUps()
const startedMs = performance.now()
for (let at = 0; at < rounds; at += 1) {
  for (const contender of contenders) {
    samples.get(contender.name)?.push(await round(contender, requests))
  }
}
const lookUps = (await few.lookUps()) - lookUpsBefore
const staleTimes = (performance.now() - startedMs) / 5000
const memory = {
  'oauth2-proxy': await residentMb(other.pid),
  'gate, 1,000 sessions': await residentMb(few.pid),
  'gate, 10,000 sessions': await residentMb(many.pid),
}
await application[Symbol.asyncDispose]()

const of = (name: string, what: keyof Sample) => (samples.get(name) ?? []).map((each) => each[what])
/** Requests for a second of CPU beside oauth2-proxy, the median of the rounds. */
const against = (name: string, what: 'cpu' | 'all') =>
  median(of('oauth2-proxy', what).map((cpu, at) => cpu / (of(name, what)[at] ?? Number.NaN)))
const gates = [
  ...(['gate, 1,000 sessions', 'gate, 10,000 sessions'] as const).map((name) => ({
    ...{ name: `${name}: requests for each second of CPU, beside oauth2-proxy` },
    ...{ value: against(name, 'cpu'), least: 0.8 },
  })),
  {
    name: 'gate, DPoP: requests for each second of CPU, beside oauth2-proxy',
    ...{ value: against('gate, DPoP', 'cpu'), least: 0.6 },
  },
  {
    // Each session is looked up once in five seconds, and no request beyond that.
    name: 'requests with a session for each look at the store that is due',
    ...{ value: (1000 * (staleTimes + 1)) / Math.max(lookUps, 1), least: 1 },
  },
]
const rows = contenders.map(({ name }) => ({
  name,
  perSecond: Math.round(median(of(name, 'perSecond'))),
  cpuMicroseconds: Math.round(median(of(name, 'cpu'))),
  withNginxMicroseconds: Math.round(median(of(name, 'all'))),
  p99Ms: Number(median(of(name, 'p99Ms')).toFixed(1)),
}))
if (values.json) {
  console.log(JSON.stringify({ rounds, requests, rows, memory, lookUps, gates }, null, 2))
} else {
  const columns = ['', 'requests/s', 'CPU, µs', 'with nginx, µs', 'p99, ms']
  console.log(
    asTable(
      columns,
      rows.map((row) => Object.values(row).map(String)),
    ),
  )
  console.log(
    Object.entries(memory)
      .map(([name, mb]) => `${name}: ${mb} MB`)
      .join('\n'),
  )
  for (const { name, value, least } of gates) {
    console.log(
      `${value >= least ? 'holds' : 'FAILS'}: ${name}: ${value.toFixed(2)} (at least ${least})`,
    )
  }
}
process.exitCode = gates.every(({ value, least }) => value >= least) ? 0 : 1
