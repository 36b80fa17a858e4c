import type { BindingMethod } from '@holdfast/verify'
import type { Cleaned } from '../storage/cleanup.ts'
import type { StandbyChange } from '../storage/standby.ts'
import type { AuditTrail } from './audit-trail.ts'
import type { EventCounts } from './event-counts.ts'
import type { AdministrativeChange, AuditEvent, CountedEventName, KeyEvent } from './event-names.ts'
import { createLineBudget } from './line-budget.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'

/** A key that took the place of another, or will: confirmations. */
export interface KeyChange {
  readonly from: string | undefined
  readonly to: string | undefined
}

/** Whom and what an event is about. Names and ids go to the record, and never to a metric. */
export interface Facts {
  readonly requestId?: string | undefined
  readonly address?: string | undefined
  readonly client?: string | undefined
  readonly account?: string | undefined
  /** Who did it, where that is not the account or the client itself. */
  readonly actor?: string | undefined
}

/** How a client's tokens are bound, and thumbprints of the keys that its request has proven, by the members of `cnf`. */
export interface ShownKeys {
  readonly binding: BindingLabel
  readonly proven?: { readonly [confirmation: string]: string | undefined } | undefined
}

export interface Refusal extends ShownKeys {
  readonly endpoint: string
  readonly error: string
  /** A label of metrics: of the closed set of those who refuse. */
  readonly reason: string
  /** The label of metrics, where that is another. */
  readonly counted?: string | undefined
  readonly detail: string
}

export type BindingLabel = BindingMethod | 'bearer' | 'unknown'

export type LimitName =
  | 'authorize'
  | 'backchannel'
  | 'device_codes'
  | 'device_pages'
  | 'edge_refusals'
  | 'email_change'
  | 'forgotten'
  | 'login'
  | 'login_address'
  | 'login_account'
  | 'new_passwords'
  | 'open_registration'
  | 'par'
  | 'passkeys'
  | 'refusals'
  | 'sign_up'
  | 'sign_up_total'
  | 'user_codes'
  | 'user_codes_session'

/** What a busy node has refused: requests of clients or of people, or to check a password. */
export type ShedKind = 'tokens' | 'sign-ins' | 'passwords'

/** What clients and people are sent from a queue, by the name of its events. */
export type DeliveryKind = keyof typeof deliveries

const deliveries = {
  logout: { counter: 'logoutDeliveries', message: 'a client was not told of a logout' },
  mail: { counter: 'mailDeliveries', message: 'a mail was not sent' },
  ping: { counter: 'pingDeliveries', message: 'a client was not notified of a decision' },
} as const

/** Refusals that well-behaved clients receive all the time. */
const everyday: ReadonlySet<string> = new Set(['dpop_nonce', 'authorization_pending'])

const replayed: Readonly<Partial<Record<string, string>>> = {
  dpop_replayed: 'dpop_proof',
  assertion_replayed: 'client_assertion',
  code_replayed: 'authorization_code',
  auth_req_id_replayed: 'auth_req_id',
  device_code_replayed: 'device_code',
  refresh_token_replayed: 'refresh_token',
  request_replayed: 'request_uri',
}

/**
 * Refusals of a credential that the server knows, and that its sender should not have: each is a row
 * of the audit trail by itself, as long as there are few.
 */
const misuse: ReadonlySet<string> = new Set([
  'auth_req_id_replayed',
  'code_replayed',
  'device_code_replayed',
  'refresh_token_replayed',
  'key_mismatch',
])

/** Grants in which a person has just taken part. The others are what programs do all day. */
const grantsOfPeople: ReadonlySet<string> = new Set([
  'authorization_code',
  'urn:ietf:params:oauth:grant-type:device_code',
  'urn:openid:params:grant-type:ciba',
])

/** Lines of the log, and rows of the audit trail, of one kind that strangers cause in a minute. */
const perNodeAndMinute = 60

export type Events = ReturnType<typeof createEvents>

/**
 * One function for each event that an operator needs to know of: it writes the log record, the
 * audit row and the counter together. Never a token, code, key, password or cookie value.
 *
 * What people, clients and administrators did is a row of the audit trail. What strangers caused is
 * counted by network and minute, and the first lines of a minute are logged: a flood of requests
 * becomes no flood of rows.
 */
export function createEvents({
  log,
  metrics,
  audit,
  counts,
  auditTokens = 'count',
  workers = 1,
  now = Date.now,
}: {
  log: Log
  metrics: Metrics
  audit: Pick<AuditTrail, 'record'>
  counts: Pick<EventCounts, 'record' | 'recordTotal'>
  /** Whether each grant is a row of the audit trail, or only those that a person has caused. */
  auditTokens?: 'count' | 'each' | undefined
  /** Processes of this node. */
  workers?: number | undefined
  now?: () => number
}) {
  const perMinute = Math.ceil(perNodeAndMinute / workers)
  const lines = createLineBudget({
    perMinute,
    now,
    onMore: (kind, more) =>
      log.warn({ event: 'log.suppressed', kind, lines: more }, 'lines were not written'),
  })
  const rows = createLineBudget({ perMinute, now })

  function recordStrangers(
    event: CountedEventName,
    facts: Facts,
    sentence: string,
    reason: string,
    details: Record<string, unknown> = { reason },
  ) {
    const { address, client, requestId } = facts
    counts.record({ event, reason, address, client, requestId })
    if (lines.allows(event)) log.warn({ event, ...facts, ...details }, sentence)
  }

  function record(
    level: 'debug' | 'info' | 'warn',
    event: AuditEvent,
    facts: Facts,
    sentence: string,
    details: Record<string, unknown> = {},
  ) {
    log[level]({ event, ...facts, ...details }, sentence)
    audit.record({ event, ...facts, details })
  }

  return {
    tokensIssued(facts: Facts, grant: ShownKeys & { grantType: string }) {
      metrics.grants.inc({ grant_type: grant.grantType, binding: grant.binding })
      if (auditTokens === 'each' || grantsOfPeople.has(grant.grantType)) {
        record('info', 'tokens.issued', facts, 'tokens issued', { ...grant })
        return
      }
      log.info({ event: 'tokens.issued', ...facts, ...grant }, 'tokens issued')
      const { client, requestId } = facts
      const reason = `${grant.grantType} ${grant.binding}`
      counts.recordTotal({ event: 'tokens.issued', reason, client, requestId })
    },

    refused(facts: Facts, { counted: label, ...refusal }: Refusal) {
      const { endpoint, error, reason, binding } = refusal
      metrics.refusals.inc({ endpoint, error, reason: label ?? reason, binding })
      if (reason === 'dpop_htu_mismatch') metrics.htuMismatches.inc()
      const kind = replayed[reason]
      if (kind) metrics.replays.inc({ kind })
      // Every client begins with a proof that has no nonce yet, and every device waits: no events.
      if (everyday.has(reason)) log.debug({ event: 'request.refused', ...facts, reason }, 'refused')
      else if (misuse.has(reason) && rows.allows(reason)) {
        record('warn', 'request.refused', facts, 'refused', { ...refusal })
      } else {
        const counted = `${endpoint} ${error} ${reason}`
        recordStrangers('request.refused', facts, 'refused', counted, { ...refusal })
      }
    },

    /** Seconds that the clock of a client was ahead of ours, by a proof whose signature was right. */
    clockSkewSeen(seconds: number) {
      metrics.clockSkew.observe(seconds)
    },

    /** A header that only a trusted proxy may send, or one that it sent in a wrong form. */
    edgeRefused(facts: Facts, reason: string) {
      recordStrangers('edge.refused', facts, 'refused', reason)
    },

    /** A proxy that was forgotten in the configuration, or a client; reported once. */
    forwardedByUntrusted(peer: string) {
      log.warn(
        { event: 'proxy.untrusted', address: peer },
        'a peer that is not in HOLDFAST_TRUSTED_PROXIES sent X-Forwarded-For or Forwarded: if it is ' +
          'your proxy, name it there, or all clients count as one',
      )
    },

    /** What is probably a mistake in the configuration. */
    configWarned(problem: string) {
      log.warn({ event: 'config.warning' }, problem)
    },

    clientCertificateUntrusted(facts: Facts, reason: string) {
      recordStrangers('client_certificate.untrusted', facts, 'refused', reason)
    },

    /** The files of client authorities were read again; `ends` is when the first list does. */
    clientAuthoritiesChanged(ends: Date | undefined) {
      metrics.authorityReloads.inc({ outcome: 'used' })
      record('info', 'client_authorities.changed', {}, 'client authorities were read again', {
        ...(ends && { revocation_lists_until: ends.toISOString() }),
      })
    },

    clientAuthoritiesUnusable(problem: string) {
      metrics.authorityReloads.inc({ outcome: 'refused' })
      record('warn', 'client_authorities.unusable', {}, 'changed, and not used: those before are', {
        problem,
      })
    },

    revocationListExpired(ended: Date) {
      record(
        'warn',
        'client_crl.expired',
        {},
        'clients of its authority are refused from here on',
        {
          ended: ended.toISOString(),
        },
      )
    },

    successorNamed(facts: Facts, keys: KeyChange) {
      metrics.keyChanges.inc({ step: 'named' })
      record('warn', 'refresh_token.successor_named', facts, 'next key named', { ...keys })
    },

    rebound(facts: Facts, keys: KeyChange) {
      metrics.keyChanges.inc({ step: 'rebound' })
      record('warn', 'refresh_token.rebound', facts, 'bound to the next key', { ...keys })
    },

    hungUp(code: string | undefined) {
      log.debug({ event: 'hang_up', reason: code }, 'the client hung up')
    },

    /** Where no family is named, everything that was issued from the grant has ended. */
    familyEnded(
      facts: Facts,
      details: {
        grant: string
        family: string | undefined
        credential: string
        cause: 'reused' | 'revoked'
      },
    ) {
      record('warn', 'grant.ended', facts, 'the tokens of an authorization ended', details)
    },

    signedIn(facts: Facts, details: { passkey?: string } = {}) {
      metrics.logins.inc({ outcome: 'success' })
      record('info', 'login.succeeded', facts, 'signed in', details)
    },

    /**
     * `facts.account` is the account whose password was wrong, if there is one with the email. What
     * was typed as the email is left out: people type their password there.
     */
    signInFailed(facts: Facts) {
      metrics.logins.inc({ outcome: 'failure' })
      if (facts.account) record('warn', 'login.failed', facts, 'sign-in failed')
      else recordStrangers('login.failed', facts, 'sign-in failed', 'unknown_account')
    },

    /** The account is known only where the signature was right. */
    passkeyRefused(facts: Facts, reason: string) {
      metrics.logins.inc({ outcome: 'failure' })
      if (reason === 'counter') {
        const sentence = 'the counter of a passkey did not rise: there may be a copy of it'
        record('warn', 'passkey.counter_refused', facts, sentence)
      } else recordStrangers('login.failed', facts, 'sign-in failed', `passkey_${reason}`)
    },

    /** The person may add a passkey, and this one is not of a listed model. */
    passkeyNotAllowed(facts: Facts, reason: string) {
      const sentence = 'a passkey was not added: it is not of a listed model'
      recordStrangers('passkey.registration_refused', facts, sentence, reason)
    },

    /** A person has changed a passkey of theirs. */
    passkeyChanged(
      facts: Facts,
      change: 'passkey.added' | 'passkey.removed' | 'passkey.renamed',
      details: { passkey: string; aaguid?: string },
    ) {
      record('info', change, facts, 'a person changed a passkey', details)
    },

    /** The person's own change, at My security. */
    passwordChanged(facts: Facts) {
      record('info', 'password.changed', facts, 'a person changed a password')
    },

    /** The person's own change, at My security. */
    secondFactorChanged(
      facts: Facts,
      change: 'code_app_set_up' | 'code_app_removed' | 'recovery_codes_replaced',
    ) {
      const events = {
        code_app_set_up: 'code_app.set_up',
        code_app_removed: 'code_app.removed',
        recovery_codes_replaced: 'recovery_codes.replaced',
      } as const
      record('info', events[change], facts, 'a person changed a second factor')
    },

    /** The person's own change, at the account page. */
    profileChanged(facts: Facts, details: { member: string }) {
      record('info', 'profile.changed', facts, 'a person changed a profile', details)
    },

    /** A link was sent to another address, which confirms it as that of the account. */
    emailChangeRequested(facts: Facts) {
      record('info', 'email.change_requested', facts, 'a person asked for another email')
    },

    emailChanged(facts: Facts) {
      record('info', 'email.changed', facts, 'another email was confirmed by its link')
    },

    /** A person made an account, with an address that was verified, by an invitation or without one. */
    signedUp(facts: Facts, details: { invitation?: string }) {
      record('info', 'account.signed_up', facts, 'a person made an account', details)
    },

    accountDeleted(facts: Facts, details: { ended: number; revoked: number }) {
      record('info', 'account.deleted_by_owner', facts, 'a person deleted an account', details)
    },

    accountExported(facts: Facts) {
      record('info', 'account.exported', facts, 'a person downloaded what is kept about them')
    },

    /** Someone has set how to sign in by a one-time link. */
    linkUsed(facts: Facts, details: { credential: 'password' | 'passkey' }) {
      record('info', 'account_link.used', facts, 'a one-time link was used', details)
    },

    /** A device has asked for a code. */
    approvalGiven(facts: Facts) {
      record('info', 'approval.given', facts, 'request of the backchannel approved')
    },

    approvalDenied(facts: Facts) {
      record('info', 'approval.denied', facts, 'request of the backchannel denied')
    },

    deviceCodeIssued(facts: Facts, details: { binding: BindingLabel }) {
      metrics.deviceCodes.inc({ outcome: 'issued' })
      recordStrangers('device_code.issued', facts, 'device code issued', details.binding, details)
    },

    /** A person has let a device in, and by now it may receive tokens. */
    deviceCodeApproved(facts: Facts, details: { binding: BindingLabel; askedFrom: string }) {
      metrics.deviceCodes.inc({ outcome: 'approved' })
      record('info', 'device_code.approved', facts, 'device let in', details)
    },

    deviceCodeDenied(facts: Facts, details: { error: string; askedFrom: string }) {
      metrics.deviceCodes.inc({ outcome: 'denied' })
      record('info', 'device_code.denied', facts, 'device not let in', details)
    },

    /** Someone has typed a code that there is not: by mistake, or to find one. */
    userCodeUnknown(facts: Facts) {
      metrics.deviceCodes.inc({ outcome: 'unknown_user_code' })
      recordStrangers('user_code.unknown', facts, 'no device shows this code', 'unknown')
    },

    signedOut(facts: Facts) {
      if (facts.account) record('info', 'logout', facts, 'signed out')
      else recordStrangers('logout', facts, 'signed out', 'no_session')
    },

    /** An attempt to send what waits in a queue; only its last failure is a row. */
    delivered(
      kind: DeliveryKind,
      facts: Facts,
      outcome: 'delivered' | 'retried' | 'given_up' | 'gone',
      details: { attempts: number },
    ) {
      const { counter, message } = deliveries[kind]
      metrics[counter].inc({ outcome })
      if (outcome === 'given_up') record('warn', `${kind}.undelivered`, facts, message, details)
    },

    deliveryFailed(kind: DeliveryKind, error: unknown) {
      log.error({ event: `${kind}.failed`, err: error }, `deliveries cannot be made: ${kind}`)
    },

    /** What the SMTP server says may name a person: the log has its code alone. */
    mailRefused(problem: string, reply: number | undefined) {
      if (!lines.allows('mail.refused')) return
      log.warn(
        { event: 'mail.refused', problem, reply },
        'a mail was not sent, see holdfast mail test',
      )
    },

    consented(
      facts: Facts,
      details: {
        scopes: readonly string[]
        resources: readonly string[]
        detailsTypes: readonly string[]
      },
    ) {
      record('info', 'consent.given', facts, 'consent given', details)
    },

    /** A client of which an administrator has said that nobody is asked has got what it asked for. */
    consentSkipped(facts: Facts, details: { scopes: string[]; resources: string[] }) {
      record('info', 'consent.skipped', facts, 'consent skipped', details)
    },

    consentDenied(facts: Facts) {
      if (facts.account) record('info', 'consent.denied', facts, 'consent denied')
      else recordStrangers('consent.denied', facts, 'consent denied', 'not_signed_in')
    },

    rateLimited(facts: Facts, limit: LimitName) {
      metrics.rateLimited.inc({ limit })
      recordStrangers('rate.limited', facts, 'a rate limit refused a request', limit, { limit })
    },

    /** Counted only: a line for each would add to the load. */
    shed(kind: ShedKind) {
      metrics.shed.inc({ kind })
    },

    /** `change` is one of a closed set of past participles of what a thing can undergo. */
    recordChange(
      facts: Facts,
      change: AdministrativeChange,
      details: Record<string, unknown> = {},
      { first = false }: Beginning = {},
    ) {
      const level = first ? 'debug' : 'info'
      record(level, change, facts, 'an administrator changed something', details)
    },

    keyChanged(
      facts: Facts,
      change: KeyEvent,
      key: { kid: string; purpose: string },
      { first = false }: Beginning = {},
    ) {
      record(first ? 'debug' : 'info', change, facts, 'a key was changed', key)
    },

    /** On this node, by the time alone: nobody has done anything. */
    keySigns(key: { kid: string; purpose: string }) {
      log.info({ event: 'key.signs', ...key }, 'another key signs')
    },

    /** This node continues with the keys that it knows. */
    keysNotRefreshed(error: unknown) {
      metrics.keyRefreshFailures.inc()
      log.warn({ event: 'keys.not_refreshed', err: error }, 'keys were not read')
    },

    /** Told once a change. */
    clockChanged(state: 'right' | 'off' | 'wrong', aheadSeconds: number) {
      const entry = { event: 'clock.compared', state, aheadSeconds }
      if (state === 'right') log.info(entry, 'the clock is that of the database again')
      else log.warn(entry, 'the clock of this node differs from that of the database')
    },

    /** Told once a change. */
    standbyChanged(change: StandbyChange) {
      if (change.isRead) log.info({ event: 'standby.read' }, 'introspection reads from the standby')
      else {
        const entry = { event: 'standby.not_read', err: change.error }
        log.warn(entry, 'introspection reads from the primary: the standby is too far behind')
      }
    },

    /** Others may use keys that this node knows nothing of. */
    keysUnreadable(kids: readonly string[]) {
      log.error({ event: 'keys.unreadable', kids }, 'keys cannot be opened')
    },

    cleaned({ table, removed, seconds, backlog }: Cleaned) {
      metrics.cleanedRows.inc({ table }, removed)
      metrics.cleanups.observe({ table }, seconds)
      metrics.cleanupSuccess.setToCurrentTime({ table })
      metrics.cleanupBacklog.set({ table }, backlog)
      const level = backlog > 0 ? 'warn' : 'debug'
      log[level]({ event: 'cleanup', table, removed, seconds, backlog }, 'expired rows removed')
    },

    /** Months of the audit trail are gone, as the operator has configured. */
    auditMonthsDropped(months: readonly string[]) {
      log.warn({ event: 'audit.dropped', months }, 'months of the audit trail were dropped')
    },

    cleanupFailed(table: string, error: unknown) {
      metrics.cleanupFailures.inc({ table })
      log.error({ event: 'cleanup.failed', table, err: error }, 'expired rows not removed')
    },

    databaseUnavailable(facts: Facts, error: Error) {
      metrics.unavailable.inc()
      log.error({ event: 'database.unavailable', ...facts, err: error }, 'the database is away')
    },

    failed(facts: Facts, error: unknown) {
      metrics.serverErrors.inc()
      log.error({ event: 'server_error', ...facts, err: error }, 'failed')
    },

    /** Says at each start which clients have asked for tokens that anyone who steals them can use. */
    bearerClientsFound(clientIds: readonly string[]) {
      for (const client of clientIds) {
        log.warn({ event: 'client.bearer', client }, 'tokens are bound to nothing')
      }
    },
  }
}

/** What an empty installation begins with is no change that the log needs to tell of. */
interface Beginning {
  readonly first?: boolean | undefined
}
