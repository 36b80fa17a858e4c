/** What the gate reports to its operator. Never a token, a key, a proof, a cookie or a body. */
import type { VerifyErrorCode, VerifyEvent } from '@holdfast/verify'
import type { LeaseEnd } from '@holdfast/verify/ticket'
import type { RefusalCode } from './refusal.ts'

/** Why nobody was signed in; `cause` says more, and for `denied` it is the code of the provider. */
export const signInFailures = [
  ...(['denied', 'failed', 'unknown_sign_in', 'token_unbound', 'provider_unavailable'] as const),
]

/** One of {@link signInFailures}. */
export type SignInFailure = (typeof signInFailures)[number]

/** Why a session has ended before its time. */
export const sessionEnds = ['signed_out', 'logout', 'provider', 'replaced'] as const

/** One of {@link sessionEnds}. */
export type SessionEnd = (typeof sessionEnds)[number]

/** Why a session got no other access token: refused by the provider, or not answered. */
export const refreshFailures = [...(['invalid_grant', 'unavailable'] as const)]

/** One of {@link refreshFailures}. */
export type RefreshFailure = (typeof refreshFailures)[number]

/** Why a WebSocket or an event stream was ended. */
export const streamEnds = [
  ...(['expired', 'revoked', 'revocation_unavailable'] as const),
] satisfies LeaseEnd[]

/** Why a session or a token that is good was refused at a route. */
export const policyRefusals = [
  ...(['groups', 'insufficient_scope', 'insufficient_user_authentication'] as const),
  ...(['acr', 'not_bound', 'cross_origin'] as const),
]

/** One of {@link policyRefusals}. */
export type PolicyRefusal = (typeof policyRefusals)[number]

/** Whom and what an event is about: for the log, and never for a metric. */
export type Facts = Readonly<{
  /** The name that the application got of the request. */
  requestId?: string | undefined
  /** The path of the rule in the configuration; no path of a request. */
  route?: string | undefined
  sub?: string | undefined
  /** SHA-256 of what is in the cookie: of no use as a cookie. */
  session?: string | undefined
  /** Thumbprint of a key (RFC 7638). */
  jkt?: string | undefined
}>

/** Whether the key is the browser's, or one of a page. */
type KeyMethod = 'dbsc' | 'page-key'

type At = Facts & Readonly<{ application: string }>

/** One thing that happened. Codes are few enough for metric labels; addresses and paths are not. */
export type GateEvent =
  | (VerifyEvent & Readonly<{ application?: string }>)
  | (Facts & Readonly<{ type: 'gate_refused'; code: RefusalCode; address: string; cause: unknown }>)
  | Readonly<{ type: 'forwarded'; application: string; mode: string; status: number }>
  | (At & Readonly<{ type: 'policy_refused'; code: PolicyRefusal }>)
  | (At & Readonly<{ type: 'signed_in'; renewed: boolean }>)
  | (At & Readonly<{ type: 'sign_in_failed'; code: SignInFailure; cause: unknown }>)
  | (At & Readonly<{ type: 'session_bound'; method: KeyMethod }>)
  | (At & Readonly<{ type: 'proof_refused'; code: VerifyErrorCode; method: KeyMethod }>)
  | (At & Readonly<{ type: 'session_ended'; reason: SessionEnd }>)
  /** The provider gave no other access token; `cause` says more. */
  | (At & Readonly<{ type: 'token_refresh_failed'; reason: RefreshFailure; cause: unknown }>)
  | (At & Readonly<{ type: 'logout_refused'; cause: unknown }>)
  | (At & Readonly<{ type: 'stream_ended'; reason: LeaseEnd }>)
  | Readonly<{ type: 'reloaded' }>
  | Readonly<{ type: 'reload_failed'; problems: readonly string[] }>

/** Receives events. What it throws is ignored. */
export type GateEventListener = (event: GateEvent) => void

/** A listener that cannot fail a request. */
export function quietly(listener: GateEventListener | undefined): GateEventListener {
  return (event) => {
    try {
      listener?.(event)
    } catch {}
  }
}
