import { z } from 'zod'
import { MAX_PASSWORD_BYTES, MIN_PASSWORD_CHARACTERS } from '../accounts/password.ts'
import { signingAlgorithms } from '../config/signing-algorithms.ts'
import { keyPurposes } from '../keys/key-purpose.ts'
import { isStorable } from '../storage/text.ts'
import { readTime } from './audit.ts'

/**
 * What the admin API accepts. The OpenAPI document shows these schemas; `meta` adds to it what a
 * function checks, in the words of JSON Schema.
 */

const email = z.string().meta({ format: 'email' })
const password = z
  .string()
  .meta({ minLength: MIN_PASSWORD_CHARACTERS, maxLength: MAX_PASSWORD_BYTES })

export const newAccount = z.strictObject({
  email,
  name: z.string().optional(),
  password: password.describe('Generated if it is left out').optional(),
})

export const newPassword = z.strictObject({
  password: password.describe('Generated if it is left out').optional(),
})

export const signOut = z.strictObject({
  tokens: z
    .boolean()
    .default(false)
    .describe('Revoke all grants as well, and with them the tokens that outlive a session'),
})

export const newResource = z.strictObject({
  identifier: z.string().describe('An absolute URI without a fragment (RFC 8707)'),
  name: z.string().nullable().default(null).describe('Shown to people at consent'),
  scopes: z.array(z.string()),
  signingAlg: z.enum(signingAlgorithms).default('ES256').describe('Signs its access tokens'),
})

export const rotation = z.strictObject({
  purposes: z.array(z.enum(keyPurposes)).min(1).describe('All, if it is left out').optional(),
})

export const retirement = z.strictObject({
  now: z
    .boolean()
    .default(false)
    .describe('Reject what it signed from now on: for a key that has leaked'),
})

export const clientMetadata = z
  .record(z.string(), z.unknown())
  .describe('Client metadata (RFC 7591)')

/** PostgreSQL can hold it. */
const word = z
  .string()
  .refine(isStorable, 'has a character that no text may have')
  .meta({ pattern: '^[^\\u0000]*$' })

/** Digits as a number, within bounds. */
function integer(least: number, most: number, rule: string) {
  return z
    .string()
    .regex(/^\d+$/, rule)
    .transform(Number)
    .refine((value) => value >= least && value <= most, `must be ${least} to ${most}`)
    .meta({ type: 'integer', pattern: undefined, minimum: least, maximum: most })
}

const account = word.describe('Id or email of the account').optional()
const client = word.describe('client_id').optional()

/** A filter with a wrong name must not show everything. */
export const noQuery = z.strictObject({})
export const sessionQuery = z.strictObject({ account })
export const grantQuery = z.strictObject({ account, client })
export const auditQuery = z.strictObject({
  after: integer(0, Number.MAX_SAFE_INTEGER, 'must be the id of an audit event')
    .describe('Only events with a greater id')
    .optional(),
  since: z
    .string()
    .transform(readTime)
    .refine((time) => time !== undefined, 'must be a time such as 2026-01-31T12:00:00Z')
    .meta({
      description: 'Only events from this time on (RFC 3339)',
      anyOf: [{ format: 'date-time' }, { format: 'date' }],
    })
    .optional(),
  event: word.describe('One kind of event').optional(),
  account,
  client,
  limit: integer(1, 1000, 'must be a number').describe('The most events').default(100),
})
export const countedQuery = auditQuery.omit({ after: true, account: true })
