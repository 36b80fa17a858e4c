/**
 * What the endpoints for machines have in common: a form, a client that authenticates, one-time
 * values, and an answer or a refusal. Nothing here knows HTTP.
 */
import type { BoundCredential, ConnectionProofs } from '../bindings/binding.ts'
import type { UntrustedReason } from '../certificates/client-authorities.ts'
import type { ReplayTable } from '../storage/replay-table.ts'
import {
  authenticateClient,
  authenticationParameters,
  type ClientAuthenticationOptions,
} from './client-authentication.ts'
import { type Form, missingParameters, type Parameters, takeParameters } from './form.ts'
import type { KeyChange } from './issue.ts'
import { isRefusal, type Refusal, refuse } from './refusal.ts'
import type { TokenClient, UsedJti } from './token-request.ts'

/** A request as it has come. */
export interface MachineRequest {
  readonly form: Form
  readonly authorization: string | undefined
  readonly dpop: string | undefined
  /** Whether an answer that can be signed is to be (RFC 9701). */
  readonly wantsSigned: boolean
  /** Of the page whose script has sent it. */
  readonly origin: string | undefined
  readonly connection: ConnectionProofs
  /** The public address that it came to. */
  readonly uri: string
  /** What a client assertion may be for. */
  readonly audiences: readonly string[]
  /** What an assertion may name instead, of a client with `endpoint_audience`. */
  readonly endpointUris: readonly string[]
  /** Seconds since the epoch. */
  readonly now: number
}

/** What comes of a request, for its client and for the operator. */
export interface Outcome {
  readonly client?: TokenClient | undefined
  readonly account?: string | undefined
  /** What the request has proven, whether that was of any use or not. */
  readonly proven?: BoundCredential | undefined
  readonly result: Answer | Refusal
  /** What to send as `DPoP-Nonce`. */
  readonly nonce?: string | undefined
  readonly reports?: readonly Report[] | undefined
}

/** A request that was refused. */
export interface RefusedOutcome extends Outcome {
  readonly result: Refusal
}

export interface Answer {
  readonly body: object | string
  /** Undefined for JSON. */
  readonly type?: string
}

/** What the operator learns. */
export type Report =
  | { readonly event: 'tokens issued'; readonly grantType: string }
  | { readonly event: 'clock skew'; readonly seconds: number }
  | {
      readonly event: 'grant ended'
      readonly grantId: string
      /** The chain that has ended; undefined where all of the grant has. */
      readonly family: string | undefined
      readonly accountId: string | undefined
      /** What kind of credential it was that came back, or was revoked. */
      readonly credential: string
      readonly cause: 'reused' | 'revoked'
    }
  | { readonly event: 'certificate untrusted'; readonly reason: UntrustedReason }
  | { readonly event: 'key changed'; readonly change: KeyChange }

/** A client that has authenticated, and the one-time value that it has done so by. */
export interface Caller {
  readonly client: TokenClient
  /** Thumbprint (RFC 7638) of the key of its assertion, if it has authenticated by one. */
  readonly assertionKey?: string | undefined
  readonly usedJtis: readonly UsedJti[]
}

/** Who calls. */
export async function authenticate(
  { form, authorization, connection, origin, audiences, endpointUris, now }: MachineRequest,
  options: ClientAuthenticationOptions,
): Promise<Caller | RefusedOutcome> {
  const parameters = takeParameters(form, authenticationParameters)
  if (isRefusal(parameters)) return { result: parameters }
  const { params } = parameters
  const shown = { params, authorization, connection, audiences, endpoints: endpointUris, now }
  const authenticated = await authenticateClient(shown, options)
  if ('refusal' in authenticated) {
    const { refusal, client, untrusted: reason } = authenticated
    return {
      client,
      result: refusal,
      reports: reason && [{ event: 'certificate untrusted', reason }],
    }
  }
  const { client, entry, assertionKey } = authenticated
  const usedJtis = entry ? [entry] : []
  if (origin !== undefined && !client.mayBeCalledFrom(origin)) {
    const description = `origin ${origin} not allowed for client: ${client.clientId}`
    return { client, result: refuse('origin_forbidden', { description }) }
  }
  return { client, usedJtis, assertionKey }
}

/** The parameters `token` and `token_type_hint` of RFC 7009 section 2.1 and RFC 7662 section 2.1. */
export function readToken({ form }: MachineRequest): (Parameters & { token: string }) | Refusal {
  const parameters = takeParameters(form, ['token', 'token_type_hint'])
  if (isRefusal(parameters)) return parameters
  const missing = missingParameters(parameters, ['token'])
  return missing ?? { ...parameters, token: parameters.params.token ?? '' }
}

/**
 * Records the used jtis of a request that writes nothing else.
 *
 * @returns the refusal of the first that was recorded already.
 */
export async function recordUsedJtis(
  usedJtis: readonly UsedJti[],
  { insert }: Pick<ReplayTable, 'insert'>,
): Promise<Refusal | undefined> {
  const fresh = await Promise.all(usedJtis.map(({ entry }) => insert(entry)))
  const old = usedJtis.find((_, at) => !fresh[at])
  return old && refuse(old.replayed)
}
