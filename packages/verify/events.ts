/** What a verifier reports to its operator. Never a token, a key, a proof or a nonce. */
import type { BindingMethod } from './confirmation.ts'
import type { TokenLocation } from './credentials.ts'
import type { VerifyErrorCode } from './errors.ts'

/** Identifiers of a token that was found genuine; enough to find and revoke it. */
export type TokenIdentity = Readonly<{
  issuer: string
  clientId: string | undefined
  jti: string | undefined
}>

/** One thing that happened. The names and codes are few enough for metric labels; the ids are not. */
export type VerifyEvent =
  | Readonly<{
      type: 'accepted'
      methods: readonly BindingMethod[]
      location: TokenLocation
      token: TokenIdentity
    }>
  | Readonly<{
      type: 'refused'
      code: VerifyErrorCode
      status: number
      /** False in observe mode: the request was let through. */
      enforced: boolean
      /** Why, for the log. */
      message: string
      cause: unknown
      /** Absent when the token was not found genuine. */
      token: TokenIdentity | undefined
    }>
  /** A DPoP-bound token came without the DPoP scheme: someone else may have it. */
  | Readonly<{ type: 'leaked'; location: TokenLocation; token: TokenIdentity }>
  /** An issuer cannot be reached; `code` is what its tokens get once its old keys are too old. */
  | Readonly<{ type: 'keys_stale'; issuer: string; cause: unknown }>

/** Receives events. What it throws is ignored. */
export type EventListener = (event: VerifyEvent) => void
