import test from 'ava'
import { bearerClientIds } from '../../src/clients/binding-method.ts'
import { recordingEvents } from '../support/events.ts'

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

test('no id reaches a metric, whatever happens', async (t) => {
  const { events, metrics } = recordingEvents()
  events.refused(facts, refusal)
  events.tokensIssued(facts, { grantType: 'refresh_token', binding: 'dpop' })
  events.signedIn(facts)
  events.signInFailed(facts)
  events.signedOut(facts)
  events.consented(facts, { scopes: ['openid'], resources: [] })
  events.consentDenied(facts)
  events.familyEnded(facts, {
    grant: 'grant-of-the-test',
    family: 'family-of-the-test',
    credential: 'refresh_token',
    cause: 'reused',
  })
  events.rateLimited(facts, 'login')
  events.administered(facts, 'client.added', { name: 'name-of-the-test' })
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
