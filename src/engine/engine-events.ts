import { readDPoPHeader } from '@holdfast/verify/authorization-server'
import type Koa from 'koa'
import type Provider from 'oidc-provider'
import type { errors, KoaContextWithOIDC } from 'oidc-provider'
import { clientBinding } from '../clients/binding-method.ts'
import type { UserCodeRefusal } from '../limits/user-code-limits.ts'
import { findFetchProblem } from '../net/fetch-problem.ts'
import type { BindingLabel, Events } from '../observability/events.ts'
import { requestFacts } from '../observability/request-facts.ts'
import { DatabaseUnavailableError } from '../storage/database-unavailable.ts'
import { clockSkewOf } from './clock-skew.ts'
import { refusalReason } from './refusal-reason.ts'

type ProtocolError = errors.OIDCProviderError

const refusingEndpoints = [
  'authorization',
  'backchannel_authentication',
  'code_verification',
  'device_authorization',
  'device_resume',
  'end_session',
  'pushed_authorization_request',
  'userinfo',
] as const

/** Tells the operator of what the engine does. */
export function observeEngine(
  engine: Provider,
  events: Events,
  { now }: { now: () => number },
): void {
  const skew = (ctx: KoaContextWithOIDC) => {
    const seconds = clockSkewOf(readDPoPHeader(ctx.req.rawHeaders), now())
    if (seconds !== undefined) events.clockSkewSeen(seconds)
  }

  // Koa's own type: that of the engine knows some of these events only.
  const app: Koa = engine
  for (const endpoint of refusingEndpoints) {
    app.on(`${endpoint}.error`, (ctx: KoaContextWithOIDC, error: ProtocolError | Error) => {
      if (error instanceof DatabaseUnavailableError) {
        events.databaseUnavailable(requestFacts(ctx), error)
        return
      }
      const refusal = error as ProtocolError
      const detail = detailOf(refusal)
      const reason = refusalReason(refusal, detail)
      // The engine says so of proofs whose signature was right, and of no others.
      if (reason === 'dpop_not_recent') skew(ctx)
      const binding = bindingOf(ctx)
      events.refused(requestFacts(ctx), { endpoint, error: refusal.error, reason, binding, detail })
    })
  }

  engine.on('pushed_authorization_request.success', skew)
  type DeviceCode = InstanceType<Provider['DeviceCode']>
  const askedFrom = ({ deviceInfo }: DeviceCode) => String(deviceInfo?.address ?? '')
  const deviceFacts = (ctx: KoaContextWithOIDC, { clientId }: DeviceCode) => ({
    ...requestFacts(ctx),
    client: clientId,
  })
  app.on('device_code.issued', (ctx: KoaContextWithOIDC, code: DeviceCode) => {
    skew(ctx)
    events.deviceCodeIssued(deviceFacts(ctx, code), { binding: bindingOf(ctx) })
  })
  app.on('device_code.approved', (ctx: KoaContextWithOIDC, code: DeviceCode) => {
    const details = { binding: bindingOf(ctx), askedFrom: askedFrom(code) }
    events.deviceCodeApproved(deviceFacts(ctx, code), details)
  })
  app.on('device_code.denied', (ctx: KoaContextWithOIDC, code: DeviceCode) => {
    const details = { error: code.error ?? '', askedFrom: askedFrom(code) }
    events.deviceCodeDenied(deviceFacts(ctx, code), details)
  })
  app.on('backchannel.limited', (ctx: KoaContextWithOIDC) => {
    events.rateLimited(requestFacts(ctx), 'backchannel')
  })
  app.on('user_code.unknown', (ctx: KoaContextWithOIDC) => {
    events.userCodeUnknown(requestFacts(ctx))
  })
  app.on('user_code.limited', (ctx: KoaContextWithOIDC, { limit }: UserCodeRefusal) => {
    events.rateLimited(requestFacts(ctx), limit)
  })
  engine.on('end_session.success', (ctx: KoaContextWithOIDC) => {
    events.signedOut(requestFacts(ctx))
  })
  engine.on('server_error', (ctx: KoaContextWithOIDC, error: Error) => {
    events.failed(requestFacts(ctx), error)
  })
  app.on('edge.refused', (ctx: KoaContextWithOIDC, reason: string) => {
    events.edgeRefused(requestFacts(ctx), reason)
  })
  app.on('client_certificate.untrusted', (ctx: KoaContextWithOIDC, reason: string) => {
    events.clientCertificateUntrusted(requestFacts(ctx), reason)
  })
  app.on('error', (error: NodeJS.ErrnoException, ctx?: Koa.Context) => {
    const facts = ctx ? requestFacts(ctx) : {}
    if (isHangUp(error)) events.hungUp(error.code)
    else if (error instanceof DatabaseUnavailableError) events.databaseUnavailable(facts, error)
    else events.failed(facts, error)
  })
}

/** What a connection ends with when its client goes away in the middle of a request. */
function isHangUp({ code = '' }: NodeJS.ErrnoException): boolean {
  return /^(ECONNRESET|ECONNABORTED|EPIPE|ERR_STREAM_PREMATURE_CLOSE|HPE_\w+)$/.test(code)
}

/** Characters of a description that are kept: a client's own words may be a part of it. */
const longestDetail = 1000

function detailOf(error: ProtocolError): string {
  const { error_detail, error_description, message } = error
  const fetching = findFetchProblem(error)?.forOperator
  return (fetching ?? error_detail ?? error_description ?? message).slice(0, longestDetail)
}

function bindingOf(ctx: KoaContextWithOIDC): BindingLabel {
  if (!ctx.oidc?.client) return 'unknown'
  const binding = clientBinding(ctx)
  return binding === 'bearer' ? binding : binding.method
}
