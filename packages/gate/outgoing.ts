/** What an application gets: the fields that pass, what the gate knows, and its assertion. */
import { hash } from 'node:crypto'
import { forwardTokenBinding } from '@holdfast/verify/token-binding-headers'
import type { Passed } from './admit.ts'
import type { Entered } from './edge.ts'
import type { Body, Outgoing } from './forward.ts'
import { passingFields, valuesOf } from './headers.ts'
import { type GateKey, plainFields, signedFields } from './identity.ts'
import { outgoingTrace, type TraceFields } from './traces.ts'

/** A request that passes, and what the gate signs it with. */
export type ToSend = Readonly<{
  entered: Entered
  admitted: Passed
  body: Body
  key: GateKey | undefined
  lifetimeS: number
  nowMs: number
  /** What the client says of its trace, where its route continues that. */
  trace: TraceFields
}>

/** What the application gets: fields that pass, what the gate knows, and its assertion. */
export async function outgoingOf(toSend: ToSend): Promise<Outgoing> {
  const { entered, admitted, body, trace } = toSend
  const { application, answerFields } = admitted
  const { method, target, fields } = entered
  const url = new URL(application.config.origin)
  const sent = [
    ...['Host', url.host],
    ...passingFields(fields, application.requestFields),
    ...['X-Forwarded-For', entered.address],
    ...['X-Forwarded-Host', url.host, 'X-Forwarded-Proto', url.protocol.slice(0, -1)],
    ...['X-Request-Id', entered.requestId, ...outgoingTrace(trace)],
    ...['Via', `${entered.protocol} holdfast-gate`],
  ]
  return {
    method,
    target: target.path + target.query,
    fields: [...sent, ...(await identityFields(toSend, sent))],
    body,
    trailers: application.trailers,
    answerFields,
  }
}

/** How the application learns who asks; `sent` are the other fields of the request. */
export async function identityFields(
  { entered, admitted, body, key, lifetimeS, nowMs }: Omit<ToSend, 'trace'>,
  sent: readonly string[],
): Promise<string[]> {
  const { application, identity, secrets } = admitted
  const { config, audience, side, upstream } = application
  const { method, target } = entered
  if (secrets !== undefined && side !== undefined) {
    const url = upstream.url.origin + target.path
    return side.tokens.fieldsFor(secrets, { method, url, nonce: undefined })
  }
  if (config.mode === 'pass') return credentialFields(entered)
  if (config.mode === 'plain') return plainFields(identity)
  if (key === undefined) throw new TypeError('a gate that signs needs a key')
  const targetUri = config.origin + target.path + target.query
  const bytes = body.kind === 'read' ? body.bytes : Buffer.alloc(0)
  const digest = body.kind === 'stream' ? undefined : hash('sha256', bytes, 'buffer')
  const toSign = { method, targetUri, fields: sent, audience, identity, digest }
  return signedFields(toSign, key, { nowMs, lifetimeS })
}

/** The client's own credentials, and what the gate has seen of its connection, for an application that verifies. */
function credentialFields({ fields, certificate, tokenBinding }: Entered): string[] {
  return [
    ...ownCredentials(fields),
    // RFC 9440 section 2.2.
    ...(certificate ? ['Client-Cert', `:${certificate.certificate.raw.toString('base64')}:`] : []),
    ...forwardTokenBinding([], tokenBinding),
  ]
}

/** What a client proves itself with, for an application that verifies. */
export function ownCredentials(fields: Entered['fields']): string[] {
  const names = ['authorization', 'dpop', 'signature', 'signature-input', 'content-digest']
  return names.flatMap((name) => valuesOf(fields, name).flatMap((value) => [name, value]))
}
