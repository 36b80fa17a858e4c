/**
 * What tokens say of how a person was authenticated: `acr` (OpenID Connect Core section 2) and `amr`
 * (RFC 8176). docs/authentication-contexts.md describes it for applications.
 *
 * To add a step, add an entry to `steps` where it belongs by strength, and a row to that page: the
 * metadata, requests that ask for it and tokens follow from the list. A sign-in says in `amr` what
 * it has seen, and `isMet` looks at that and at nothing else.
 */

/** Values of `amr` by the way of signing in: what a page of the sign-in hands to the engine. */
export const signInMethods = {
  password: ['pwd'],
  /** A password, and a code of an app or a recovery code. */
  passwordAndCode: ['pwd', 'otp', 'mfa'],
  /** A password, and a key on a device of the person's that they have touched. */
  passwordAndKey: ['pwd', 'pop', 'user', 'mfa'],
  /** A key on a device that has verified the person, by a PIN or a fingerprint. */
  passkey: ['pop', 'user', 'mfa'],
} as const

/** A sign-in as one request sees it. */
export interface SignIn {
  readonly amr: readonly string[]
  /**
   * Whether the session is held by a key, and this request came with a proof of it: a bound cookie
   * that is current, or a connection with Token Binding. It says nothing of where the key is kept.
   */
  readonly isBound: boolean
  /**
   * Whether a key that scripts of our own pages can use holds the session instead, and this request
   * came with a proof of it. It is less, and never counts as the other.
   */
  readonly hasPageKey?: boolean
}

interface Step {
  readonly acr: string
  readonly isMet: (signIn: SignIn) => boolean
}

const hasPassword = ({ amr }: SignIn) => amr.includes('pwd')
const hasKey = ({ amr }: SignIn) => amr.includes('pop')
const isPasskey = (signIn: SignIn) =>
  hasKey(signIn) && !hasPassword(signIn) && signIn.amr.includes('mfa')

const isPasskeyOrPasswordAndKey = (signIn: SignIn) =>
  isPasskey(signIn) || (hasKey(signIn) && hasPassword(signIn))

export const passkeyAndSessionAcr = 'urn:holdfast:acr:passkey-and-bound-session'
export const boundSessionAcr = 'urn:holdfast:acr:bound-session'
export const passkeyAcr = 'urn:holdfast:acr:passkey'
export const passwordAndKeyAcr = 'urn:holdfast:acr:password-and-key'
export const passwordAndCodeAcr = 'urn:holdfast:acr:password-and-code'
export const pageKeySessionAcr = 'urn:holdfast:acr:page-key-session'
export const passwordAcr = 'urn:holdfast:acr:password'

/** Strongest first. Each way of signing in meets the steps below it; a bound session is met apart. */
const steps: readonly Step[] = [
  {
    acr: passkeyAndSessionAcr,
    isMet: (signIn) => signIn.isBound && isPasskey(signIn),
  },
  { acr: boundSessionAcr, isMet: ({ isBound }) => isBound },
  { acr: passkeyAcr, isMet: isPasskey },
  { acr: passwordAndKeyAcr, isMet: isPasskeyOrPasswordAndKey },
  {
    acr: passwordAndCodeAcr,
    isMet: (signIn) =>
      isPasskeyOrPasswordAndKey(signIn) || (hasPassword(signIn) && signIn.amr.includes('otp')),
  },
  {
    acr: pageKeySessionAcr,
    isMet: ({ isBound, hasPageKey }) => isBound || hasPageKey === true,
  },
  { acr: passwordAcr, isMet: (signIn) => isPasskey(signIn) || hasPassword(signIn) },
]

/** All values, for `acr_values_supported`. */
export const knownAcrs: readonly string[] = steps.map(({ acr }) => acr)

/** Whether a sign-in meets a value; it meets none that is not known. */
export function meetsAcr(signIn: SignIn, acr: string): boolean {
  return steps.find((step) => step.acr === acr)?.isMet(signIn) === true
}

/**
 * The `acr` of a sign-in: the first value that was asked for and is met, else the strongest that is
 * met (OpenID Connect Core section 5.5.1.1), else undefined.
 */
export function acrOf(signIn: SignIn, wanted: readonly string[]): string | undefined {
  return [...wanted, ...knownAcrs].find((acr) => meetsAcr(signIn, acr))
}

/** What a request lacks for its acr. A bound session has what a page key shows. */
export type Missing = 'page key' | 'bound session' | 'sign-in'

/**
 * What is missing for one of several values: the proof of a page key, that of a bound session, or
 * another sign-in.
 * Undefined where one is met, and `unknown` where none ever is.
 */
export function missingFor(
  signIn: SignIn,
  acrs: readonly string[],
): Missing | 'unknown' | undefined {
  const meets = (candidate: SignIn) => acrs.some((acr) => meetsAcr(candidate, acr))
  if (meets(signIn)) return undefined
  if (meets({ ...signIn, hasPageKey: true })) return 'page key'
  if (meets({ ...signIn, isBound: true })) return 'bound session'
  return acrs.some((acr) => knownAcrs.includes(acr)) ? 'sign-in' : 'unknown'
}
