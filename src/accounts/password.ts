import { pbkdf2Sync, randomBytes, scryptSync, timingSafeEqual } from 'node:crypto'
import { hash, hashSync, parseOptions, verify, verifySync } from '@node-rs/argon2'
import { verifySync as verifyBcrypt } from '@node-rs/bcrypt'
import { AccountError } from './account-error.ts'
import { type KnownHash, partsOfHash, scryptMemoryBytes } from './password-hash.ts'

export interface PasswordCost {
  /** KiB */
  memoryCost: number
  timeCost: number
  parallelism: number
}

// OWASP Password Storage Cheat Sheet: Argon2id with at least 19 MiB, two passes, one lane.
export const defaultPasswordCost: PasswordCost = Object.freeze({
  memoryCost: 19_456,
  timeCost: 2,
  parallelism: 1,
})

// NIST SP 800-63B-4 section 3.1.1.2: 15 characters where the password is the only factor.
export const minPasswordCharacters = 15
// Longer input buys no strength and makes every attempt cost us more than it costs the sender.
export const maxPasswordBytes = 1024

/**
 * Passwords that may wait to be checked, and for how long: what comes on top is refused at once, so
 * that a flood of sign-ins does not make everyone wait. A hash takes tens of milliseconds.
 */
export const passwordQueue = Object.freeze({ waiting: 32, patienceMs: 2_000 })

const saltBytes = 16
const hashBytes = 32

// The same password typed on two keyboards may arrive composed or decomposed.
const canonical = (password: string) => password.normalize('NFKC')

export function isOverlong(password: string): boolean {
  return Buffer.byteLength(password) > maxPasswordBytes
}

/** Checks the length of a new password. Whether it is easy to guess is not checked. */
export function checkPasswordLength(password: string): void {
  if (isOverlong(password)) {
    throw new AccountError(
      'password_too_long',
      `Expected a password of at most ${maxPasswordBytes} bytes`,
    )
  }
  if ([...canonical(password)].length < minPasswordCharacters) {
    throw new AccountError(
      'password_too_short',
      `Expected a password of at least ${minPasswordCharacters} characters`,
    )
  }
}

/** Where passwords are hashed and checked. */
export interface PasswordHashing {
  verify(passwordHash: string, password: string): Promise<boolean>
  hash(password: string, cost: PasswordCost): Promise<string>
}

/** On the threads that libuv uses for everything: for commands, and for one password now and then. */
export const hashingOnSharedThreads: PasswordHashing = {
  verify: verifyPassword,
  hash: hashPassword,
}

export function hashPassword(password: string, cost: PasswordCost): Promise<string> {
  return hash(canonical(password), { ...cost, outputLen: hashBytes })
}

/**
 * Checks a password by a hash that was made here or imported.
 *
 * @throws TypeError for a hash of an unknown kind, or one that costs more than may be imported.
 */
export async function verifyPassword(passwordHash: string, password: string): Promise<boolean> {
  const parts = knownParts(passwordHash)
  if (parts.kind !== 'argon2') return verifyParts(passwordHash, parts, password)
  for (const form of formsOf(password)) if (await verify(passwordHash, form)) return true
  return false
}

/** Like {@link hashPassword}, on the thread that calls it. */
export function hashPasswordSync(password: string, cost: PasswordCost): string {
  return hashSync(canonical(password), { ...cost, outputLen: hashBytes })
}

/** Like {@link verifyPassword}, on the thread that calls it. */
export function verifyPasswordSync(passwordHash: string, password: string): boolean {
  return verifyParts(passwordHash, knownParts(passwordHash), password)
}

function knownParts(passwordHash: string): KnownHash {
  const parts = partsOfHash(passwordHash)
  if (!parts) throw new TypeError('the hash of a password is of no kind that is checked')
  return parts
}

function verifyParts(passwordHash: string, parts: KnownHash, password: string): boolean {
  return formsOf(password).some((form) => isOfHash(passwordHash, parts, form))
}

/** Other systems hash what was typed, in whatever form it arrived. */
const formsOf = (password: string) => [...new Set([canonical(password), password])]

function isOfHash(passwordHash: string, parts: KnownHash, password: string): boolean {
  switch (parts.kind) {
    case 'argon2':
      return verifySync(passwordHash, password)
    case 'bcrypt':
      return verifyBcrypt(password, passwordHash)
    case 'pbkdf2': {
      const { salt, key, iterations, digest } = parts
      return timingSafeEqual(pbkdf2Sync(password, salt, iterations, key.length, digest), key)
    }
    case 'scrypt': {
      const { salt, key, cost } = parts
      const options = { ...cost, maxmem: scryptMemoryBytes }
      return timingSafeEqual(scryptSync(password, salt, key.length, options), key)
    }
  }
}

/** Whether a hash is weaker than `cost`, or of another kind than those that are made here. */
export function needsRehash(passwordHash: string, cost: PasswordCost): boolean {
  const parts = partsOfHash(passwordHash)
  if (parts?.kind !== 'argon2' || !parts.isOurKind) return true
  const { memoryCost, timeCost } = parseOptions(passwordHash)
  return memoryCost < cost.memoryCost || timeCost < cost.timeCost
}

/** A hash of no password: to verify against it is the full work, and never succeeds. */
export function decoyHash(cost: PasswordCost): string {
  return hashOfNothing(cost, randomBytes(saltBytes))
}

/** The salt of an account without a password. No other hash has it. */
const absentSalt = Buffer.from('no password set!')

/**
 * What is kept where a person has set no password. Earlier releases take it for a hash that no
 * password matches, as it is.
 */
export function absentPasswordHash(cost: PasswordCost): string {
  return hashOfNothing(cost, absentSalt)
}

/** Whether a hash is one of a password that was set. */
export function isPasswordSet(passwordHash: string): boolean {
  return passwordHash.split('$').at(-2) !== unpadded(absentSalt)
}

const unpadded = (bytes: Buffer) => bytes.toString('base64').replaceAll('=', '')

function hashOfNothing({ memoryCost, timeCost, parallelism }: PasswordCost, salt: Buffer): string {
  const fields = [salt, randomBytes(hashBytes)].map(unpadded)
  return `$argon2id$v=19$m=${memoryCost},t=${timeCost},p=${parallelism}$${fields.join('$')}`
}

// Crockford's base32 in lower case: no letter that reads as a digit, no u, and 32 divides 256.
const readableCharacters = '0123456789abcdefghjkmnpqrstvwxyz'

/** A first password to read out or type: 100 random bits in four groups of five. */
export function generatePassword(random: (bytes: number) => Uint8Array = randomBytes): string {
  const characters = Array.from(
    random(20),
    (byte) => readableCharacters[byte % readableCharacters.length],
  )
  return [0, 5, 10, 15].map((from) => characters.slice(from, from + 5).join('')).join('-')
}
