/** What the gate reports to its operator. Never a token, a key, a proof, a cookie or a body. */
import type { VerifyEvent } from '@holdfast/verify'
import type { RefusalCode } from './refusal.ts'

/** One thing that happened. Codes are few enough for metric labels; addresses and paths are not. */
export type GateEvent =
  | VerifyEvent
  | Readonly<{ type: 'gate_refused'; code: RefusalCode; address: string; cause: unknown }>
  | Readonly<{ type: 'forwarded'; application: string; mode: string; status: number }>
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
