/** Codes of a code app (TOTP, RFC 6238) and recovery codes, as texts and numbers. */
import { hash, randomBytes } from 'node:crypto'
import { Secret, TOTP } from 'otpauth'

const secretBytes = 20
const periodS = 30

/** Steps before and after the present one whose codes count: for clocks that differ. */
const tolerance = 1

const totpOf = (secret: string, email: string, issuer: string) =>
  new TOTP({
    issuer,
    label: email,
    algorithm: 'SHA1',
    digits: 6,
    period: periodS,
    secret: Secret.fromBase32(secret),
  })

/** A secret for a code app: 160 random bits in base32. */
export const makeCodeSecret = () =>
  new Secret({ buffer: new Uint8Array(randomBytes(secretBytes)).buffer }).base32

/** What a code app reads from a QR code. The host of the issuer names the account in its list. */
export function codeAppUri(
  secret: string,
  { email, host }: { email: string; host: string },
): string {
  return totpOf(secret, email, host).toString()
}

/**
 * The time step whose code this is, of those that count now; undefined for a wrong code. That a step
 * is used once is not checked.
 */
export function stepOfCode(secret: string, code: string, nowMs: number): number | undefined {
  if (!/^\d{6}$/.test(code)) return undefined
  const totp = totpOf(secret, '', '')
  const delta = totp.validate({ token: code, timestamp: nowMs, window: tolerance })
  return delta === null ? undefined : totp.counter({ timestamp: nowMs }) + delta
}

export const recoveryCodeCount = 10

// Crockford's base32 in lower case: no letter that reads as a digit, no u, and 32 divides 256.
const characters = '0123456789abcdefghjkmnpqrstvwxyz'
const printedCharacters = 24

/** A code to print, read out and type: 120 random bits, in four groups of six characters. */
export function makePrintedCode(): string {
  const bytes = randomBytes(printedCharacters)
  const code = Array.from(bytes, (byte) => characters[byte % characters.length]).join('')
  return code.match(/.{6}/g)?.join('-') ?? code
}

export const makeRecoveryCodes = (): string[] =>
  Array.from({ length: recoveryCodeCount }, makePrintedCode)

/** What someone typed as a code, in its one form. */
export const canonicalCode = (typed: string) => typed.replaceAll(/[\s-]/g, '').toLowerCase()

/** What is kept of a printed code; undefined for what cannot be one. */
export function printedCodeDigest(typed: string): Buffer | undefined {
  const code = canonicalCode(typed)
  const isCode = code.length === printedCharacters && [...code].every((c) => characters.includes(c))
  return isCode ? hash('sha256', code, 'buffer') : undefined
}
