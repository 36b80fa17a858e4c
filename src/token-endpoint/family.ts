import { hash } from 'node:crypto'
import { lifetimes } from '../config/lifetimes.ts'
import { type Refusal, type RefusalReason, refuse } from './refusal.ts'

/*
 * The family of a token is the chain of one authorization: what was issued from one code, and from
 * the refresh tokens that follow. A client and a browser session have one grant for any number of
 * chains. Where a code or refresh token comes back, the one chain ends, and the others go on.
 */

/** For how long an ended family is remembered, in seconds: longer than any token lives. */
export const familyMemoryS = lifetimes.RefreshToken + 60 * 60

/** The family that begins with a code. */
export function familyOfCode(code: string): string {
  return hash('sha256', `family of ${code}`, 'base64url')
}

/**
 * Refuses a credential that was used before, and ends its family.
 *
 * @param family undefined for a refresh token that the previous release has issued.
 */
export function refuseReuse(
  reason: Extract<RefusalReason, `${string}_replayed`>,
  grantId: string | undefined,
  family: string | undefined,
): Refusal {
  return refuse(reason, {
    consequence: grantId === undefined ? undefined : { kind: 'end-family', grantId, family },
  })
}
