import { parseTokenBindingId } from '@holdfast/verify/token-binding'

/*
 * draft-ietf-oauth-token-binding-08 section 5: codes bound by Token Binding, in the parameters of
 * PKCE. The engine knows S256 only, and checks lengths that these methods break (a challenge and a
 * verifier of 11 characters, a verifier of 354). So it is shown `<method>.<challenge>` as an S256
 * challenge, which no verifier can match: whatever does not come through here is refused by it.
 * That form passes through pushed requests, request objects and interactions as any other challenge.
 */

/** Challenges of each method, in full: one method's challenge means nothing under another. */
const challenges = {
  /** base64url of the SHA-256 of an ID, which is what `tbh` is (section 5.1.1). */
  'TB-S256': /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/,
  /** The browser's own ID stays on its connection (section 5.2.1). */
  referred_tb: /^referred_tb$/,
} as const

type Method = keyof typeof challenges

export const challengeMethods = Object.keys(challenges) as Method[]

/** A challenge by a key of a TLS connection. */
export interface Challenge {
  readonly method: Method
  readonly challenge: string
}

/** The challenge of two parameters; undefined for any other. */
export function validateChallenge(method: unknown, challenge: unknown): Challenge | undefined {
  const known = challengeMethods.find((each) => each === method)
  if (known === undefined || typeof challenge !== 'string') return undefined
  return challenges[known].test(challenge) ? { method: known, challenge } : undefined
}

/** As it is shown to the engine, and stored. RFC 7636 section 4.2: at least 43 characters. */
export function encodeChallenge({ method, challenge }: Challenge): string {
  return `${method}.${challenge}`.padEnd(43, '.')
}

/** The challenge that was encoded so; undefined for any other. */
export function decodeChallenge(codeChallenge: unknown): Challenge | undefined {
  const [method, challenge] = String(codeChallenge).split('.')
  return validateChallenge(method, challenge)
}

/** Whether a challenge, as the engine is shown it, is for the browser's own key. */
export function isReferredChallenge(codeChallenge: unknown): boolean {
  return decodeChallenge(codeChallenge)?.method === 'referred_tb'
}

/** What the redemption of a code shows, and what its authorization request has shown. */
export interface Proven {
  /** `tbh` of the connection of this token request. */
  readonly provided: string | undefined
  /** `tbh` of the browser and the client, from the authorization request. */
  readonly referredTbh: string | undefined
}

/** Whether a verifier is one of a challenge, on the right connection. */
export function verifiesChallenge(
  { method, challenge }: Challenge,
  verifier: unknown,
  { provided, referredTbh }: Proven,
): boolean {
  switch (method) {
    case 'TB-S256':
      // Section 5.1.2: the proof is the connection; the verifier only says so.
      return verifier === 'provided_tb' && provided === challenge
    case 'referred_tb':
      // Section 5.2.2: the ID itself, as the browser provided it to the client.
      return (
        typeof verifier === 'string' &&
        referredTbh !== undefined &&
        parseTokenBindingId(verifier)?.tbh === referredTbh
      )
  }
}
