/**
 * Hashes of passwords that other systems have made, as texts: which ones are taken over, and what
 * checking one may cost. Each has one form here, a PHC string or that of bcrypt. Docs: accounts.md.
 */
import { type ParsedHashOptions, parseOptions } from '@node-rs/argon2'
import { z } from 'zod'
import { AccountError } from './account-error.ts'

/** Bounds of what one check may cost: each takes a second or less of a core, and 128 MiB or less. */
const most = {
  argon2: { memoryKiB: 131_072, passes: 12, memoryPasses: 524_288, lanes: 16 },
  bcryptCost: 14,
  pbkdf2Rounds: 2_000_000,
  scrypt: { memoryBytes: 134_217_728, work: 402_653_184 },
} as const

/** Digits that a number is read from: more are out of bounds, whatever they say. */
const number = '\\d{1,10}'
const salt = '(?<salt>[+/A-Za-z0-9]{6,86})'
const key = '(?<key>[+/A-Za-z0-9]{22,86})'

const argon2 = new RegExp(
  `^\\$argon2(id|i|d)\\$v=19\\$m=${number},t=${number},p=${number}\\$${salt}\\$${key}$`,
)
const bcrypt = /^\$2[aby]\$(?<cost>\d\d)\$[./A-Za-z0-9]{53}$/
const pbkdf2 = new RegExp(
  `^\\$pbkdf2-(?<digest>sha1|sha256|sha512)\\$i=(?<i>${number})\\$${salt}\\$${key}$`,
)
const scrypt = new RegExp(
  `^\\$scrypt\\$ln=(?<ln>\\d\\d?),r=(?<r>${number}),p=(?<p>${number})\\$${salt}\\$${key}$`,
)

type Digest = 'sha1' | 'sha256' | 'sha512'

const digestBytes: Record<Digest, number> = { sha1: 20, sha256: 32, sha512: 64 }

/** A hash in its parts, whose cost is within bounds. */
export type KnownHash =
  | { readonly kind: 'argon2'; readonly isOurKind: boolean }
  | { readonly kind: 'bcrypt' }
  | {
      readonly kind: 'pbkdf2'
      readonly digest: Digest
      readonly iterations: number
      readonly salt: Buffer
      readonly key: Buffer
    }
  | {
      readonly kind: 'scrypt'
      readonly cost: { readonly N: number; readonly r: number; readonly p: number }
      readonly salt: Buffer
      readonly key: Buffer
    }

/** The most memory of one check by scrypt, as Node wants to know it. */
export const scryptMemoryBytes = most.scrypt.memoryBytes * 2

/** The parts of a hash; undefined for one of another kind, or one that costs too much to check. */
export function partsOfHash(passwordHash: string): KnownHash | undefined {
  return (
    asArgon2(passwordHash) ??
    asBcrypt(passwordHash) ??
    asPbkdf2(passwordHash) ??
    asScrypt(passwordHash)
  )
}

function asArgon2(text: string): KnownHash | undefined {
  const found = argon2.test(text) && readArgon2(text)
  if (!found) return undefined
  const { memoryCost, timeCost, parallelism, saltLen } = found
  const { memoryKiB, passes, memoryPasses, lanes } = most.argon2
  const isBounded =
    isWithin(memoryCost, 8 * parallelism, memoryKiB) &&
    isWithin(timeCost, 1, passes) &&
    isWithin(parallelism, 1, lanes) &&
    isWithin(memoryCost * timeCost, 1, memoryPasses) &&
    saltLen >= 8
  return isBounded ? { kind: 'argon2', isOurKind: text.startsWith('$argon2id$') } : undefined
}

/** Undefined for what the library would not verify. */
function readArgon2(text: string): ParsedHashOptions | undefined {
  try {
    return parseOptions(text)
  } catch {
    return undefined
  }
}

function asBcrypt(text: string): KnownHash | undefined {
  const cost = Number(bcrypt.exec(text)?.groups?.cost)
  return isWithin(cost, 4, most.bcryptCost) ? { kind: 'bcrypt' } : undefined
}

function asPbkdf2(text: string): KnownHash | undefined {
  const found = pbkdf2.exec(text)?.groups
  if (!found) return undefined
  const digest = found.digest as Digest
  const bytes = bytesOf(found)
  const iterations = Number(found.i)
  // A key that is longer than the digest takes all of the iterations once more.
  const rounds = iterations * Math.ceil(bytes.key.length / digestBytes[digest])
  return isWithin(rounds, 1, most.pbkdf2Rounds)
    ? { kind: 'pbkdf2', digest, iterations, ...bytes }
    : undefined
}

function asScrypt(text: string): KnownHash | undefined {
  const found = scrypt.exec(text)?.groups
  if (!found) return undefined
  const [r = 0, p = 0] = [found.r, found.p].map(Number)
  const N = 2 ** Number(found.ln)
  const memoryBytes = 128 * N * r
  const isBounded =
    isWithin(Number(found.ln), 1, 24) &&
    isWithin(memoryBytes, 1, most.scrypt.memoryBytes) &&
    isWithin(memoryBytes * p, 1, most.scrypt.work)
  return isBounded ? { kind: 'scrypt', cost: { N, r, p }, ...bytesOf(found) } : undefined
}

const isWithin = (value: number, least: number, highest: number) =>
  value >= least && value <= highest

const bytesOf = (found: Record<string, string | undefined>) => ({
  salt: Buffer.from(found.salt ?? '', 'base64'),
  key: Buffer.from(found.key ?? '', 'base64'),
})

const unpadded = (bytes: Buffer) => bytes.toString('base64').replaceAll('=', '')

/** A hash as Keycloak exports it: two texts of JSON, or what they say. */
const jsonText = (text: unknown) => (typeof text === 'string' ? JSON.parse(text) : text)
const first = z
  .array(z.string())
  .min(1)
  .transform(([value]) => value)
const keycloak = z.object({
  credentialData: z.preprocess(
    jsonText,
    z.object({
      algorithm: z.string(),
      hashIterations: z.int(),
      additionalParameters: z
        .object({ type: first, version: first, memory: first, parallelism: first })
        .partial()
        .optional(),
    }),
  ),
  secretData: z.preprocess(jsonText, z.object({ value: z.base64(), salt: z.base64() })),
})

export const passwordHashRule =
  'passwordHash must be a hash of Argon2, bcrypt, PBKDF2 or scrypt whose cost is within the bounds in docs/accounts.md'

/**
 * Reads a hash of another system into the form that is kept here: PHC strings, bcrypt, those of
 * Django and passlib, and credentials of Keycloak.
 *
 * @throws AccountError `invalid_password_hash`: the message has no part of the hash.
 */
export function readPasswordHash(given: unknown): string {
  const text = typeof given === 'string' ? asPhc(given) : ofKeycloak(given)
  if (text !== undefined && partsOfHash(text)) return text
  throw new AccountError('invalid_password_hash', passwordHashRule)
}

/** What Django puts before the hashes of others. */
const djangoPrefix = /^argon2(?=\$argon2)|^bcrypt\$(?=\$2)/
const django =
  /^(?<kind>pbkdf2_sha1|pbkdf2_sha256|pbkdf2_sha512)\$(?<iterations>\d{1,10})\$(?<salt>[!-~]{1,64})\$(?<key>[+/A-Za-z0-9]+={0,2})$/
const djangoScrypt =
  /^scrypt\$(?<salt>[!-~]{1,64})\$(?<n>\d{1,10})\$(?<r>\d{1,10})\$(?<p>\d{1,10})\$(?<key>[+/A-Za-z0-9]+={0,2})$/
/** passlib writes iterations without a name, and `.` for `+`. */
const passlib = /^(\$pbkdf2(?:-sha256|-sha512)?)\$(\d{1,10})\$([./A-Za-z0-9]+)\$([./A-Za-z0-9]+)$/

function asPhc(given: string): string {
  const text = given.replace(djangoPrefix, '').replace(/=+(?=\$|$)/g, '')
  const ofDjango = django.exec(given)?.groups
  if (ofDjango) {
    const { kind = '', iterations, salt: saltText = '', key: keyText = '' } = ofDjango
    const name = kind.replace('pbkdf2_', 'pbkdf2-')
    return phc(`${name}$i=${iterations}`, Buffer.from(saltText), Buffer.from(keyText, 'base64'))
  }
  const ofScrypt = djangoScrypt.exec(given)?.groups
  if (ofScrypt) {
    const { n, r, p, salt: saltText = '', key: keyText = '' } = ofScrypt
    const parameters = `ln=${Math.log2(Number(n))},r=${r},p=${p}`
    return phc(`scrypt$${parameters}`, Buffer.from(saltText), Buffer.from(keyText, 'base64'))
  }
  const ofPasslib = passlib.exec(given)
  if (ofPasslib) {
    const [, name = '', iterations, ...fields] = ofPasslib
    const kind = name === '$pbkdf2' ? '$pbkdf2-sha1' : name
    return [kind, `i=${iterations}`, ...fields.map((each) => each.replaceAll('.', '+'))].join('$')
  }
  return text
}

function ofKeycloak(given: unknown): string | undefined {
  const read = readKeycloak(given)
  if (!read) return undefined
  const { credentialData, secretData } = read
  const { algorithm, hashIterations, additionalParameters: more = {} } = credentialData
  const fields = [secretData.salt, secretData.value].map((text) => Buffer.from(text, 'base64'))
  const [saltBytes = Buffer.alloc(0), keyBytes = Buffer.alloc(0)] = fields
  if (algorithm === 'argon2' && (more.version ?? '1.3') === '1.3') {
    const parameters = `m=${more.memory},t=${hashIterations},p=${more.parallelism}`
    return phc(`argon2${more.type ?? 'id'}$v=19$${parameters}`, saltBytes, keyBytes)
  }
  const kind = algorithm === 'pbkdf2' ? 'pbkdf2-sha1' : algorithm
  return phc(`${kind}$i=${hashIterations}`, saltBytes, keyBytes)
}

function readKeycloak(given: unknown) {
  try {
    return keycloak.safeParse(given).data
  } catch {
    // One of the texts is not JSON.
    return undefined
  }
}

const phc = (head: string, saltBytes: Buffer, keyBytes: Buffer) =>
  `$${head}$${unpadded(saltBytes)}$${unpadded(keyBytes)}`
