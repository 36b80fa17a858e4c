import { type ChildProcessByStdio, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { open } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { json } from 'node:stream/consumers'
import test from 'ava'
import { bearerClientIds } from '../../src/clients/binding-method.ts'
import { asksForTraces } from '../../src/config/traces.ts'
import { createAuditTrail } from '../../src/observability/audit-trail.ts'
import { createEventCounts } from '../../src/observability/event-counts.ts'
import { createLog } from '../../src/observability/log.ts'
import { redactedNames } from '../../src/observability/redact.ts'
import type { AuditRow } from '../../src/storage/audit-table.ts'
import type { CountedEvent } from '../../src/storage/counted-event-table.ts'
import { recordingEvents } from '../support/events.ts'
import { basic, newKey, post } from '../support/flow.ts'
import { startTestServer } from '../support/server.ts'

const log = new URL('../../src/observability/log.ts', import.meta.url).href

/** What a process writes to standard error that logs three lines and then does something. */
function run(then: string) {
  const program = `
    const { createLog } = await import(${JSON.stringify(log)})
    const log = createLog('info')
    for (const event of ['one', 'two', 'three']) log.info({ event }, 'said')
    ${then}`
  const { stderr, status } = spawnSync(
    process.execPath,
    ['--no-warnings', '--input-type=module', '--eval', program],
    { encoding: 'utf8' },
  )
  const lines = stderr.split('\n').filter((line) => line.startsWith('{'))
  return { status, events: lines.map((line) => JSON.parse(line).event) }
}

for (const [end, then, expected] of [
  ['comes to its end', '', 0],
  ['exits', 'process.exit(3)', 3],
  ['fails', "throw new Error('unexpected')", 1],
] as const) {
  test(`a process that ${end} has written every line, in order`, (t) => {
    t.deepEqual(run(then), { status: expected, events: ['one', 'two', 'three'] })
  })
}

test('a line is written before the next turn, whatever comes after', (t) => {
  const { events } = run("setImmediate(() => process.kill(process.pid, 'SIGKILL'))")
  t.deepEqual(events, ['one', 'two', 'three'])
})

test('any number of logs leave one listener for the end of the process', (t) => {
  const { events } = run(`
    const before = process.listenerCount('exit')
    for (let count = 0; count < 20; count += 1) createLog('info').info({ event: 'other' }, 'said')
    log.info({ event: String(process.listenerCount('exit') - before) }, 'said')`)
  t.deepEqual(events, ['one', 'two', 'three', ...Array(20).fill('other'), '0'])
})

const source = new URL('../../src/observability/log-lines.ts', import.meta.url).href

type Writing = ChildProcessByStdio<Writable, Readable, Readable>

/**
 * A process that writes lines to standard error in many turns, says how many it has dropped, and
 * ends when its standard input does.
 */
function writing(lines: number, stderr: 'pipe' | number = 'pipe') {
  const program = `
    import { setImmediate } from 'node:timers/promises'
    const { droppedLines, linesTo } = await import(${JSON.stringify(source)})
    // By this the pipe becomes one that does not block.
    process.stderr.isTTY
    const log = linesTo(2)
    for (let line = 0; line < ${lines}; line += 1) {
      log.write(JSON.stringify({ line, text: 'x'.repeat(1000) }) + '\\n')
      await setImmediate()
    }
    console.log(droppedLines())
    process.stdin.resume()`
  const options = ['--no-warnings', '--input-type=module', '--eval', program]
  return spawn(process.execPath, options, { stdio: ['pipe', 'pipe', stderr] }) as Writing
}

const numberFrom = async (stream: Readable) => Number(String((await once(stream, 'data'))[0]))

/** The numbers of so many lines. */
async function read(stream: Readable, lines: number): Promise<number[]> {
  const numbers: number[] = []
  for await (const line of createInterface({ input: stream })) {
    numbers.push(JSON.parse(line).line)
    if (numbers.length === lines) break
  }
  return numbers
}

test('a reader who has gone stops nobody', async (t) => {
  const child = writing(5000)
  child.stderr.destroy()
  const ended = once(child, 'exit')
  t.true((await numberFrom(child.stdout)) > 1000)
  child.stdin.end()
  t.deepEqual(await ended, [0, null])
})

test('does not wait for a reader that stops, and writes whole lines when it continues', async (t) => {
  const child = writing(5000)
  const dropped = await numberFrom(child.stdout)
  t.true(dropped > 1000)
  const expected = Array.from({ length: 5000 - dropped }, (_, line) => line)
  t.deepEqual(await read(child.stderr, expected.length), expected)
  child.stdin.end()
})

test('a reader who keeps up is given every line', async (t) => {
  const child = writing(500)
  const [dropped, numbers] = await Promise.all([numberFrom(child.stdout), read(child.stderr, 500)])
  t.is(dropped, 0)
  t.is(numbers.length, 500)
  child.stdin.end()
})

test('a disk that is full stops nobody', async (t) => {
  const full = await open('/dev/full', 'w')
  const child = writing(5000, full.fd)
  t.true((await numberFrom(child.stdout)) > 1000)
  const ended = once(child, 'exit')
  child.stdin.end()
  t.deepEqual(await ended, [0, null])
  await full.close()
})

const secret = 'the-credential-of-somebody'
const jwt = 'eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl'

function logged(record: object): string {
  const lines: string[] = []
  createLog('info', { write: (line) => lines.push(line) }).info(record, 'said')
  return lines.join('')
}

for (const name of redactedNames) {
  test(`${name} is left out, at any depth and in any case`, (t) => {
    const line = logged({
      [name]: secret,
      request: undefined,
      headers: { [name.toUpperCase()]: secret },
      deep: { list: [{ [name]: { inner: secret } }] },
    })
    t.false(line.includes(secret))
  })
}

test('a JWT is left out wherever it stands', (t) => {
  t.false(logged({ note: `got ${jwt} from it`, list: [jwt] }).includes('eyJ'))
})

for (const [what, unit] of [
  ['beginnings of JWTs', '-eyJ'],
  ['beginnings of JWTs with dots', 'eyJ.'],
  ['schemes', 'a://'],
  ['letters of a scheme', 'a+.-'],
] as const) {
  test(`keeps the beginning of a long text of ${what}, and its length`, (t) => {
    const { note } = JSON.parse(logged({ note: unit.repeat(100_000) }))
    t.true(note.startsWith(unit))
    t.true(note.endsWith('… (400000)'))
    t.true(note.length < 9_000)
  })
}

test('leaves out a JWT behind a dash, a dot or an equals sign', (t) => {
  for (const before of ['x-', 'x.', 'x=', ''])
    t.false(logged({ note: before + jwt }).includes('eyJ'))
})

test('an error loses its credentials and keeps its code and cause', (t) => {
  const cause = new Error(`cannot reach postgresql://user:${secret}@db.example/holdfast`)
  const err = Object.assign(new Error(`bad token ${jwt}`, { cause }), { code: 'ECONNREFUSED' })
  const line = logged({ err })
  t.false(line.includes(secret))
  t.false(line.includes('eyJ'))
  t.like(JSON.parse(line).err, { type: 'Error', code: 'ECONNREFUSED' })
  t.regex(JSON.parse(line).err.cause.message, /db\.example/)
})

test('a record that holds itself does not hang the log', (t) => {
  const record: Record<string, unknown> = { name: 'loop' }
  record.self = record
  t.true(logged(record).includes('loop'))
})

test('everything else stays', (t) => {
  t.like(JSON.parse(logged({ event: 'x', count: 3, at: new Date(0), none: null })), {
    event: 'x',
    count: 3,
    at: '1970-01-01T00:00:00.000Z',
    none: null,
    msg: 'said',
  })
})

function trail(append: (rows: readonly AuditRow[]) => Promise<void>, capacity = 10_000) {
  const dropped: number[] = []
  const errors: unknown[] = []
  const audit = createAuditTrail({
    append,
    capacity,
    // Tests flush by themselves.
    interval: 2 ** 30,
    onDropped: (count) => dropped.push(count),
    onError: (error) => errors.push(error),
    now: () => 0,
  })
  return { audit, dropped, errors }
}

const event = (name: string) => ({ event: name, details: {} })

test('writes what was recorded, in its order and with its time', async (t) => {
  const written: AuditRow[] = []
  const { audit } = trail(async (rows) => void written.push(...rows))
  audit.record(event('first'))
  audit.record(event('second'))
  await audit.flush()
  t.deepEqual(written, [
    { ...event('first'), at: new Date(0) },
    { ...event('second'), at: new Date(0) },
  ])
})

test('writes a flood in few statements', async (t) => {
  let statements = 0
  const { audit } = trail(async () => {
    statements += 1
  })
  for (let count = 0; count < 1200; count += 1) audit.record(event('flood'))
  await audit.flush()
  t.is(statements, 3)
})

test('keeps what could not be written, and writes it once', async (t) => {
  const written: string[] = []
  let broken = true
  const { audit } = trail(async (rows) => {
    if (broken) throw new Error('the database is away')
    written.push(...rows.map((row) => row.event))
  })
  audit.record(event('kept'))
  await t.throwsAsync(audit.flush(), { message: 'the database is away' })
  broken = false
  await audit.flush()
  await audit.flush()
  t.deepEqual(written, ['kept'])
})

test('drops what is beyond its capacity, and tells', (t) => {
  const { audit, dropped } = trail(async () => {}, 2)
  for (const name of ['a', 'b', 'c', 'd']) audit.record(event(name))
  t.deepEqual(dropped, [1, 1])
})

test('what is recorded while a batch is written is written as well', async (t) => {
  const written: string[] = []
  const { audit } = trail(async (rows) => {
    if (written.length === 0) audit.record(event('meanwhile'))
    written.push(...rows.map((row) => row.event))
  })
  audit.record(event('first'))
  await audit.flush()
  t.deepEqual(written, ['first', 'meanwhile'])
})

test('closing writes the rest', async (t) => {
  const written: string[] = []
  const { audit } = trail(async (rows) => void written.push(...rows.map((row) => row.event)))
  audit.record(event('last'))
  await audit[Symbol.asyncDispose]()
  t.deepEqual(written, ['last'])
})

function counting(options: { rowsPerMinute?: number; tickMs?: number } = {}) {
  const { tickMs = 0, ...others } = options
  const written: CountedEvent[][] = []
  const clock = { now: 60_000 }
  const counts = createEventCounts({
    add: async (rows) => void written.push([...rows]),
    onError: () => {},
    now: () => {
      clock.now += tickMs
      return clock.now
    },
    ...others,
  })
  const refuse = (address: string) =>
    counts.record({ event: 'edge.refused', reason: 'untrusted_peer', address })
  return { counts, clock, written, refuse }
}

test('ten thousand requests of one network in a minute are one row', async (t) => {
  const { counts, written, refuse } = counting()
  for (let count = 0; count < 10_000; count += 1) refuse(`2001:db8::${(count + 1).toString(16)}`)
  await counts.flush()
  t.is(written.length, 1)
  t.like(written[0], [{ network: '2001:db8:0:0::/64', count: 10_000, minute: new Date(60_000) }])
  t.is(written[0]?.length, 1)
})

test('ten thousand networks in a minute are a bounded number of rows, and none is lost', async (t) => {
  const { counts, written, refuse } = counting()
  for (let count = 0; count < 10_000; count += 1) {
    refuse(`10.9.${count >> 8}.${count & 255}`)
    if (count === 5000) await counts.flush()
  }
  await counts.flush()
  const rows = written.flat()
  t.is(new Set(rows.map(({ network }) => network)).size, 201)
  t.is(
    rows.reduce((sum, { count }) => sum + count, 0),
    10_000,
  )
  t.true(rows.some(({ network, reason }) => network === '*' && reason === '*'))
})

test('a minute is one row, whenever in it the clock is read', async (t) => {
  const { counts, written, refuse } = counting({ tickMs: 1 })
  for (let count = 0; count < 100; count += 1) refuse('192.0.2.1')
  await counts.flush()
  t.deepEqual(
    written.flat().map(({ minute, count }) => [minute.getTime(), count]),
    [[60_000, 100]],
  )
})

test('another minute is another row, with room for networks again', async (t) => {
  const { counts, clock, written, refuse } = counting({ rowsPerMinute: 1 })
  refuse('192.0.2.1')
  clock.now = 120_001
  refuse('192.0.2.2')
  await counts.flush()
  t.deepEqual(
    written.flat().map(({ minute, network }) => [minute.getTime(), network]),
    [
      [60_000, '192.0.2.1'],
      [120_000, '192.0.2.2'],
    ],
  )
})

const facts = {
  requestId: 'r1',
  address: '192.0.2.7',
  client: 'client-of-the-test',
  account: 'account-of-the-test',
}

const refusal = {
  endpoint: 'grant',
  error: 'invalid_grant',
  reason: 'dpop_replayed',
  binding: 'dpop',
  detail: 'DPoP proof JWT Replay detected',
} as const

test('a refusal is logged, counted for its network and measured together', async (t) => {
  const { events, metrics, audited, counted, logged } = recordingEvents()
  events.refused(facts, refusal)
  t.like(logged[0], { event: 'request.refused', ...facts, ...refusal })
  const reason = 'grant invalid_grant dpop_replayed'
  t.like(counted[0], { event: 'request.refused', reason, address: facts.address })
  t.deepEqual(audited, [])
  const exposed = await metrics.registry.metrics()
  t.true(
    exposed.includes(
      'holdfast_refusals_total{endpoint="grant",error="invalid_grant",reason="dpop_replayed",binding="dpop"} 1',
    ),
  )
  t.true(exposed.includes('holdfast_replays_total{kind="dpop_proof"} 1'))
})

test('a stolen credential is in the audit trail, sixty times a minute at most', (t) => {
  const { events, audited, counted } = recordingEvents()
  for (let count = 0; count < 100; count += 1) {
    events.refused(facts, { ...refusal, reason: 'key_mismatch' })
  }
  t.like(audited[0], { event: 'request.refused', ...facts, details: { reason: 'key_mismatch' } })
  t.is(audited.length, 60)
  t.is(counted.length, 40)
})

test('what strangers cause writes no audit row and sixty lines a minute', async (t) => {
  const { events, metrics, audited, counted, logged } = recordingEvents()
  const { account: _, ...stranger } = facts
  const causes = {
    'edge.refused': () => events.edgeRefused(stranger, 'untrusted_peer'),
    'client_certificate.untrusted': () => events.clientCertificateUntrusted(stranger, 'expired'),
    'login.failed': () => events.signInFailed(stranger),
    'rate.limited': () => events.rateLimited(stranger, 'refusals'),
    'user_code.unknown': () => events.userCodeUnknown(stranger),
    'device_code.issued': () => events.deviceCodeIssued(stranger, { binding: 'dpop' }),
    logout: () => events.signedOut(stranger),
    'consent.denied': () => events.consentDenied(stranger),
  }
  for (const [event, cause] of Object.entries(causes)) {
    for (let count = 0; count < 1000; count += 1) cause()
    t.is(logged.filter((line) => line.event === event).length, 60, event)
    t.is(counted.filter((each) => each.event === event).length, 1000, event)
  }
  t.deepEqual(audited, [])
  const exposed = await metrics.registry.metrics()
  t.true(exposed.includes('holdfast_logins_total{outcome="failure"} 1000\n'))
})

test('a failed sign-in of an account is in the audit trail of that account', (t) => {
  const { events, audited, counted } = recordingEvents()
  events.signInFailed(facts)
  t.like(audited[0], { event: 'login.failed', account: facts.account })
  t.deepEqual(counted, [])
})

test('a proof for another URL has a counter of its own', async (t) => {
  const { events, metrics } = recordingEvents()
  events.refused(facts, { ...refusal, reason: 'dpop_htu_mismatch' })
  t.true((await metrics.registry.metrics()).includes('holdfast_dpop_htu_mismatches_total 1'))
})

test('asking for a nonce is counted and not audited', (t) => {
  const { events, audited } = recordingEvents()
  events.refused(facts, { ...refusal, error: 'use_dpop_nonce', reason: 'dpop_nonce' })
  t.deepEqual(audited, [])
})

test('audits tokens that a person has asked for, and counts the others', (t) => {
  const { events, audited, counted, logged } = recordingEvents()
  const device = 'urn:ietf:params:oauth:grant-type:device_code'
  for (const grantType of ['authorization_code', device, 'refresh_token', 'client_credentials']) {
    events.tokensIssued(facts, { grantType, binding: 'dpop' })
  }
  t.deepEqual(
    audited.map(({ details }) => details.grantType),
    ['authorization_code', device],
  )
  t.deepEqual(
    counted.map(({ event, reason }) => `${event}: ${reason}`),
    ['tokens.issued: refresh_token dpop', 'tokens.issued: client_credentials dpop'],
  )
  t.is(logged.length, 4)
  const each = recordingEvents('each')
  each.events.tokensIssued(facts, { grantType: 'client_credentials', binding: 'dpop' })
  t.is(each.audited.length, 1)
  t.deepEqual(each.counted, [])
})

test('no id reaches a metric, whatever happens', async (t) => {
  const { events, metrics } = recordingEvents()
  events.refused(facts, refusal)
  events.tokensIssued(facts, { grantType: 'refresh_token', binding: 'dpop' })
  events.signedIn(facts)
  events.signInFailed(facts)
  events.signedOut(facts)
  events.consented(facts, { scopes: ['openid'], resources: [], detailsTypes: [] })
  events.consentSkipped(facts, { scopes: ['openid'], resources: [] })
  events.consentDenied(facts)
  events.familyEnded(facts, {
    grant: 'grant-of-the-test',
    family: 'family-of-the-test',
    credential: 'refresh_token',
    cause: 'reused',
  })
  events.rateLimited(facts, 'login')
  events.recordChange(facts, 'client.added', { name: 'name-of-the-test' })
  events.databaseUnavailable(facts, new Error('error-of-the-test'))
  events.failed(facts, new Error('error-of-the-test'))
  t.notRegex(await metrics.registry.metrics(), /of-the-test|192\.0\.2\.7|r1/)
})

test('clients with bearer tokens are named at start, and no others', (t) => {
  const { events, logged } = recordingEvents()
  events.bearerClientsFound(
    bearerClientIds([
      { metadata: { client_id: 'loose', binding_method: 'bearer' } },
      { metadata: { client_id: 'bound' } },
    ]),
  )
  t.deepEqual(
    logged.map(({ client }) => client),
    ['loose'],
  )
})

test('metrics tell how the pool and the event loop are', async (t) => {
  const { metrics } = recordingEvents()
  const exposed = await metrics.registry.metrics()
  for (const line of [
    'holdfast_database_pool_connections{state="used"} 1',
    'holdfast_database_pool_connections{state="idle"} 2',
    'holdfast_database_pool_connections{state="waiting"} 1',
    'nodejs_eventloop_lag_seconds',
  ]) {
    t.true(exposed.includes(line), line)
  }
})

test('a cleanup is measured, and logged loudly when it falls behind', async (t) => {
  const { events, metrics, logged } = recordingEvents()
  events.cleaned({ table: 'artifacts', removed: 3, seconds: 0.5, backlog: 0 })
  events.cleaned({ table: 'replay_marks', removed: 50_000, seconds: 4, backlog: 12 })
  events.cleanupFailed('artifacts', new Error('broken'))
  t.deepEqual(
    logged.map(({ event, level, table }) => [event, level, table]),
    [
      ['cleanup', 20, 'artifacts'],
      ['cleanup', 40, 'replay_marks'],
      ['cleanup.failed', 50, 'artifacts'],
    ],
  )
  const exposed = await metrics.registry.metrics()
  for (const line of [
    'holdfast_cleanup_rows_total{table="artifacts"} 3',
    'holdfast_cleanup_rows_total{table="replay_marks"} 50000',
    'holdfast_cleanup_duration_seconds_sum{table="artifacts"} 0.5',
    'holdfast_cleanup_backlog_rows{table="artifacts"} 0',
    'holdfast_cleanup_backlog_rows{table="replay_marks"} 12',
    'holdfast_cleanup_failures_total{table="artifacts"} 1',
  ]) {
    t.true(exposed.includes(`${line}\n`), line)
  }
  t.regex(exposed, /holdfast_cleanup_last_success_timestamp_seconds\{table="artifacts"\} 1\d{9}/)
})

interface Span {
  readonly name: string
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
}

interface Export {
  readonly resourceSpans: readonly { scopeSpans: readonly { spans: readonly Span[] }[] }[]
}

test('a token request is one trace, its statements below it, without what they carry', async (t) => {
  const spans: Span[] = []
  const collector = createServer(async (request, response) => {
    const { resourceSpans } = (await json(request)) as Export
    spans.push(...resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap((it) => it.spans)))
    response.setHeader('content-type', 'application/json').end('{}')
  })
  collector.listen(0, '127.0.0.1')
  await once(collector, 'listening')
  t.teardown(() => collector.close())
  const standard = {
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${(collector.address() as AddressInfo).port}`,
    OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
  }
  Object.assign(process.env, standard)

  const server = await startTestServer(standard)
  const client = await server.addClient({
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    token_endpoint_auth_method: 'client_secret_basic',
  })
  const traceId = '0af7651916cd43dd8448eb211c80319c'
  const { status } = await post(
    server,
    '/token',
    { grant_type: 'client_credentials' },
    {
      key: await newKey(),
      headers: { ...basic(client), traceparent: `00-${traceId}-b7ad6b7169203331-01` },
    },
  )
  t.is(status, 200)
  await server[Symbol.asyncDispose]()

  const request = spans.find(({ name }) => name === 'POST token')
  t.is(request?.traceId, traceId)
  t.is(request?.parentSpanId, 'b7ad6b7169203331')
  const statements = spans.filter(({ parentSpanId }) => parentSpanId === request?.spanId)
  t.true(statements.some(({ name }) => name === 'artifact-commit'))
  t.notRegex(
    JSON.stringify(spans),
    new RegExp(`${client.client_id}|${client.client_secret}|127\\.0`),
  )
})

for (const [title, env, asked] of [
  ['nothing', {}, false],
  ['an endpoint', { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' }, true],
  ['an exporter', { OTEL_TRACES_EXPORTER: 'console' }, true],
  ['no exporter', { OTEL_TRACES_EXPORTER: 'none', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://x' }, false],
  ['a disabled SDK', { OTEL_SDK_DISABLED: 'true', OTEL_TRACES_EXPORTER: 'otlp' }, false],
] as const) {
  test(`${title} ${asked ? 'asks' : 'does not ask'} for traces`, (t) => {
    t.is(asksForTraces(env), asked)
  })
}
