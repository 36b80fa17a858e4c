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

/** Why a WebSocket or an event stream was ended. */
export const streamEnds = [
  ...(['expired', 'revoked', 'revocation_unavailable'] as const),
] satisfies LeaseEnd[]

/** One thing that happened. Codes are few enough for metric labels; addresses and paths are not. */
export type GateEvent =
  | VerifyEvent
  | Readonly<{ type: 'gate_refused'; code: RefusalCode; address: string; cause: unknown }>
  | Readonly<{ type: 'forwarded'; application: string; mode: string; status: number }>
  | Readonly<{ type: 'signed_in'; application: string; renewed: boolean }>
  | Readonly<{ type: 'sign_in_failed'; application: string; code: SignInFailure; cause: unknown }>
  | Readonly<{ type: 'session_bound'; application: string }>
  | Readonly<{ type: 'proof_refused'; application: string; code: VerifyErrorCode }>
  | Readonly<{ type: 'session_ended'; application: string; reason: SessionEnd }>
  | Readonly<{ type: 'logout_refused'; application: string; cause: unknown }>
  | Readonly<{ type: 'stream_ended'; application: string; reason: LeaseEnd }>
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
