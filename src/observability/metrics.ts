import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import { version } from '../config/version.ts'
import type { PoolUse } from '../storage/database.ts'
import type { Standby } from '../storage/standby.ts'
import { droppedLines } from './log-lines.ts'

/**
 * Milliseconds between two samples of the delay of the event loop. Each wakes the process: at the
 * 10 ms that are usual, a node without requests spends most of its time on them.
 */
const delaySampleMs = 100

export type Metrics = ReturnType<typeof createMetrics>

/**
 * Everything that is counted, under names and units of Prometheus. The values of every label are of
 * a closed set: no client, account, address or path is among them, whatever requests may carry. A
 * node of several processes shows one number: the sum, where no `aggregator` says otherwise.
 */
export function createMetrics({
  poolUse,
  standby,
}: {
  poolUse: () => PoolUse
  standby?: Pick<Standby, 'behindMs' | 'reads'> | undefined
}) {
  const registry = new Registry()
  // Memory, processor, garbage collection and the delay of the event loop.
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: delaySampleMs })
  const registers = [registry]

  new Gauge({
    name: 'holdfast_build_info',
    help: 'Always 1; the labels name the version of Holdfast',
    labelNames: ['version'] as const,
    aggregator: 'first',
    registers,
  }).set({ version }, 1)

  new Gauge({
    name: 'holdfast_database_pool_connections',
    help: 'Connections of the database pool, and statements that wait for one',
    labelNames: ['state'] as const,
    registers,
    collect() {
      const { open, idle, waiting } = poolUse()
      this.set({ state: 'used' }, open - idle)
      this.set({ state: 'idle' }, idle)
      this.set({ state: 'waiting' }, waiting)
    },
  })

  new Gauge({
    name: 'holdfast_database_pool_wait_seconds',
    help: 'For how long a statement waits for a connection of the database pool',
    aggregator: 'max',
    registers,
    collect() {
      this.set(poolUse().waitMs / 1000)
    },
  })

  if (standby) {
    new Gauge({
      name: 'holdfast_standby_behind_seconds',
      help: 'By how much the standby is behind at most; -1 while nobody knows',
      aggregator: 'max',
      registers,
      collect() {
        this.set((standby.behindMs() ?? -1000) / 1000)
      },
    })
    new Counter({
      name: 'holdfast_standby_reads_total',
      help: 'Statements that the standby was asked instead of the primary',
      registers,
      collect() {
        this.reset()
        this.inc(standby.reads())
      },
    })
  }

  return {
    registry,
    requests: new Histogram({
      name: 'holdfast_http_request_duration_seconds',
      help: 'Time from a request to the end of its answer',
      labelNames: ['method', 'route', 'status'] as const,
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
      registers,
    }),
    grants: new Counter({
      name: 'holdfast_grants_total',
      help: 'Successful token requests',
      labelNames: ['grant_type', 'binding'] as const,
      registers,
    }),
    refusals: new Counter({
      name: 'holdfast_refusals_total',
      help: 'Refused requests, by OAuth error, finer reason and the binding method of the client',
      labelNames: ['endpoint', 'error', 'reason', 'binding'] as const,
      registers,
    }),
    deviceCodes: new Counter({
      name: 'holdfast_device_codes_total',
      help: 'Device codes that were issued, approved or denied, and unknown user codes',
      labelNames: ['outcome'] as const,
      registers,
    }),
    replays: new Counter({
      name: 'holdfast_replays_total',
      help: 'One-time values that came a second time',
      labelNames: ['kind'] as const,
      registers,
    }),
    htuMismatches: new Counter({
      name: 'holdfast_dpop_htu_mismatches_total',
      help: 'DPoP proofs for another URL: an attack, or HOLDFAST_ISSUER is not what clients use',
      registers,
    }),
    clockSkew: new Histogram({
      name: 'holdfast_dpop_clock_skew_seconds',
      help: 'How far ahead of this server the clock of a DPoP proof was',
      buckets: [-300, -60, -30, -10, -5, -2, -1, 0, 1, 2, 5, 10, 30, 60, 300],
      registers,
    }),
    logins: new Counter({
      name: 'holdfast_logins_total',
      help: 'Attempts to sign in',
      labelNames: ['outcome'] as const,
      registers,
    }),
    sessionEvents: new Counter({
      name: 'holdfast_session_events_total',
      help: "What happened to browsers' sessions and their keys",
      labelNames: ['event'] as const,
      registers,
    }),
    logoutDeliveries: new Counter({
      name: 'holdfast_logout_deliveries_total',
      help: 'Attempts to tell relying parties of a logout (back channel)',
      labelNames: ['outcome'] as const,
      registers,
    }),
    mailDeliveries: new Counter({
      name: 'holdfast_mail_deliveries_total',
      help: 'Attempts to send mail to people',
      labelNames: ['outcome'] as const,
      registers,
    }),
    pingDeliveries: new Counter({
      name: 'holdfast_ping_deliveries_total',
      help: 'Attempts to notify clients of decided requests (CIBA in ping mode)',
      labelNames: ['outcome'] as const,
      registers,
    }),
    rateLimited: new Counter({
      name: 'holdfast_rate_limited_total',
      help: 'Requests that a rate limit refused',
      labelNames: ['limit'] as const,
      registers,
    }),
    shed: new Counter({
      name: 'holdfast_shed_total',
      help: 'Requests that were answered 503 because this node was too busy',
      labelNames: ['kind'] as const,
      registers,
    }),
    unavailable: new Counter({
      name: 'holdfast_unavailable_total',
      help: 'Requests that were answered 503 because the database was away',
      registers,
    }),
    serverErrors: new Counter({
      name: 'holdfast_server_errors_total',
      help: 'Requests that failed by a defect',
      registers,
    }),
    keyChanges: new Counter({
      name: 'holdfast_key_changes_total',
      help: 'Refresh tokens for which the next key was named, and that were bound to it',
      labelNames: ['step'] as const,
      registers,
    }),
    authorityReloads: new Counter({
      name: 'holdfast_client_authority_reloads_total',
      help: 'Changes of the files of client authorities and revocation lists, used or refused',
      labelNames: ['outcome'] as const,
      registers,
    }),
    revocationListEnd: new Gauge({
      name: 'holdfast_client_crl_next_update_timestamp_seconds',
      help: 'When the first of the revocation lists of clients ends; 0 without lists',
      aggregator: 'min',
      registers,
    }),
    clockAhead: new Gauge({
      name: 'holdfast_clock_ahead_seconds',
      help: 'By how much the clock of this node is ahead of that of the database',
      aggregator: 'average',
      registers,
    }),
    keyAge: new Gauge({
      name: 'holdfast_signing_key_age_seconds',
      help: 'For how long the key that signs now has done so',
      aggregator: 'max',
      labelNames: ['purpose'] as const,
      registers,
    }),
    keysUnreadable: new Gauge({
      name: 'holdfast_keys_unreadable',
      help: 'Keys in use that this node cannot open: a row is damaged, or its secret is outdated',
      aggregator: 'max',
      registers,
    }),
    keyRefreshFailures: new Counter({
      name: 'holdfast_key_refresh_failures_total',
      help: 'Times that the keys could not be read; the node went on with those that it had',
      registers,
    }),
    cleanedRows: new Counter({
      name: 'holdfast_cleanup_rows_total',
      help: 'Expired rows that were removed',
      labelNames: ['table'] as const,
      registers,
    }),
    cleanups: new Histogram({
      name: 'holdfast_cleanup_duration_seconds',
      help: 'Time of the statements that removed expired rows, by round or minute',
      labelNames: ['table'] as const,
      buckets: [0.01, 0.1, 1, 10, 60],
      registers,
    }),
    cleanupFailures: new Counter({
      name: 'holdfast_cleanup_failures_total',
      help: 'Rounds of removing expired rows that failed',
      labelNames: ['table'] as const,
      registers,
    }),
    cleanupSuccess: new Gauge({
      name: 'holdfast_cleanup_last_success_timestamp_seconds',
      help: 'When expired rows were last removed, or there were none',
      aggregator: 'max',
      labelNames: ['table'] as const,
      registers,
    }),
    cleanupBacklog: new Gauge({
      name: 'holdfast_cleanup_backlog_rows',
      help: 'Expired rows that are left after a minute of removing them, counted up to a million',
      aggregator: 'max',
      labelNames: ['table'] as const,
      registers,
    }),
    auditDropped: new Counter({
      name: 'holdfast_audit_dropped_total',
      help: 'Audit events that were not written: the database was away for too long',
      registers,
    }),
    logDropped: new Counter({
      name: 'holdfast_log_dropped_total',
      help: 'Lines of the log that nobody read',
      registers,
      collect() {
        this.reset()
        this.inc(droppedLines())
      },
    }),
  }
}
