/** Counters of what the gate reports, in the format of Prometheus. */
import { verifyErrorCodes } from '@holdfast/verify'
import { Counter, Registry } from 'prom-client'
import {
  type GateEvent,
  policyRefusals,
  refreshFailures,
  sessionEnds,
  signInFailures,
  streamEnds,
} from './events.ts'
import { refusalCodes } from './refusal.ts'

/** Counts events. Labels are origins of the configuration and codes of closed sets. */
export type Metrics = Readonly<{
  count(event: GateEvent): void
  /** What `/metrics` answers. */
  render(): Promise<string>
  contentType: string
}>

/** Makes counters; those of refusals start at zero, so that an alert sees the first one. */
export function createMetrics(): Metrics {
  const registry = new Registry()
  const registers = [registry]
  const forwarded = new Counter({
    name: 'holdfast_gate_forwarded_total',
    help: 'Requests that were forwarded, by application, mode and class of the answer',
    labelNames: ['application', 'mode', 'answer'],
    registers,
  })
  const refused = new Counter({
    name: 'holdfast_gate_refused_total',
    help: 'Requests that were refused, by reason',
    labelNames: ['reason'],
    registers,
  })
  for (const reason of [...verifyErrorCodes, ...refusalCodes]) refused.inc({ reason }, 0)
  const reloads = new Counter({
    name: 'holdfast_gate_reloads_total',
    help: 'Changes of the configuration, by whether they could be used',
    labelNames: ['outcome'],
    registers,
  })
  const signIns = new Counter({
    name: 'holdfast_gate_sign_ins_total',
    help: 'Sign-ins of browsers, by outcome',
    labelNames: ['outcome'],
    registers,
  })
  for (const outcome of ['signed_in', 'renewed', ...signInFailures]) signIns.inc({ outcome }, 0)
  const sessions = new Counter({
    name: 'holdfast_gate_session_events_total',
    help: 'What became of sessions: bound to a key, refused for their proof, or ended',
    labelNames: ['event'],
    registers,
  })
  for (const event of ['bound', 'proof_refused', 'logout_refused', ...sessionEnds]) {
    sessions.inc({ event }, 0)
  }
  const policy = new Counter({
    name: 'holdfast_gate_policy_refused_total',
    help: 'Requests with a session or token that is good, refused by their route, by reason',
    labelNames: ['reason'],
    registers,
  })
  for (const reason of policyRefusals) policy.inc({ reason }, 0)
  const refreshes = new Counter({
    name: 'holdfast_gate_token_refresh_failures_total',
    help: 'Access tokens of sessions that could not be refreshed, by reason',
    labelNames: ['reason'],
    registers,
  })
  for (const reason of refreshFailures) refreshes.inc({ reason }, 0)
  const streams = new Counter({
    name: 'holdfast_gate_streams_ended_total',
    help: 'WebSockets and event streams that ended with their session or token, by reason',
    labelNames: ['reason'],
    registers,
  })
  for (const reason of streamEnds) streams.inc({ reason }, 0)
  return {
    contentType: registry.contentType,
    render: () => registry.metrics(),
    count(event) {
      if (event.type === 'forwarded') {
        const { application, mode, status } = event
        forwarded.inc({ application, mode, answer: `${Math.floor(status / 100)}xx` })
      } else if (event.type === 'refused' || event.type === 'gate_refused') {
        refused.inc({ reason: event.code })
      } else if (event.type === 'signed_in') {
        signIns.inc({ outcome: event.renewed ? 'renewed' : 'signed_in' })
      } else if (event.type === 'sign_in_failed') signIns.inc({ outcome: event.code })
      else if (event.type === 'session_ended') sessions.inc({ event: event.reason })
      else if (event.type === 'policy_refused') policy.inc({ reason: event.code })
      else if (event.type === 'token_refresh_failed') refreshes.inc({ reason: event.reason })
      else if (event.type === 'stream_ended') streams.inc({ reason: event.reason })
      else if (event.type === 'session_bound') sessions.inc({ event: 'bound' })
      else if (event.type === 'proof_refused' || event.type === 'logout_refused') {
        sessions.inc({ event: event.type })
      } else if (event.type === 'reloaded' || event.type === 'reload_failed') {
        reloads.inc({ outcome: event.type === 'reloaded' ? 'used' : 'refused' })
      }
    },
  }
}
