import { z } from 'zod'
import { maxPasswordBytes, minPasswordCharacters } from '../accounts/password.ts'
import {
  attributeLimits,
  attributeNamePattern,
  groupLimits,
  maxNameCharacters,
} from '../accounts/profile.ts'
import { usernamePattern } from '../accounts/username.ts'
import { logoLimitBytes } from '../clients/client-logo.ts'
import { nameLimit } from '../clients/client-registration.ts'
import { scopePattern } from '../clients/client-scopes.ts'
import { signingAlgorithms } from '../config/signing-algorithms.ts'
import { keyPurposes } from '../keys/key-purpose.ts'
import { displayNameSchema, isDisplayName } from '../net/display-name.ts'
import { auditEvents, countedEvents } from '../observability/event-names.ts'
import { maxPasskeyNameCharacters, passkeyNameRule } from '../passkeys/passkeys.ts'
import { mostPasskeys } from '../storage/passkey-table.ts'
import { isStorable } from '../storage/text.ts'
import { readTime } from './audit.ts'
import { scopeLabelLimit } from './resources.ts'

/**
 * What the admin API accepts. The OpenAPI document shows these schemas; `meta` adds to it what a
 * function checks, in the words of JSON Schema.
 */

const email = z.string().meta({ format: 'email' })
const password = z.string().meta({ minLength: minPasswordCharacters, maxLength: maxPasswordBytes })

const personName = z.string().meta(displayNameSchema(maxNameCharacters))
const username = z
  .string()
  .describe('Another name to sign in with, and the claim preferred_username')
  .meta({ pattern: usernamePattern.source })
const emailVerified = z
  .boolean()
  .describe('Whether it is known that the address belongs to this person (email_verified)')

const phoneVerified = z
  .boolean()
  .describe('Whether it is known that the phone belongs to this person; a new phone makes it false')

/** Claims of the scopes profile, phone and address. */
const profile = {
  givenName: personName,
  familyName: personName,
  preferredUsername: personName,
  locale: z.string().meta({ description: 'A language tag (BCP 47)', pattern: '^[a-z]{2}$' }),
  zoneinfo: z.string().meta({
    description: 'A time zone (IANA)',
    enum: ['Africa/Nairobi', 'America/New_York', 'Asia/Tokyo', 'Europe/Berlin'],
  }),
  picture: z.string().meta({
    description: 'An https URL',
    pattern: '^https://[a-z]{1,60}\\.[a-z]{2,10}/[0-9A-Za-z_/-]*$',
  }),
  phone: z.string().meta({
    description: 'An international number (E.164)',
    pattern: '^\\+[1-9][0-9]{1,14}$',
  }),
  streetAddress: personName,
  locality: personName,
  region: personName,
  postalCode: personName,
  country: personName,
}

const groups = z
  .array(z.string().meta(displayNameSchema(groupLimits.characters)))
  .meta({ maxItems: groupLimits.groups })
  .describe('The claim groups')

const attributeValue = z
  .string()
  .meta({ maxLength: attributeLimits.characters, pattern: '^[^\\u0000]*$' })
const attributesOf = <Value extends z.ZodType>(value: Value) =>
  z
    .record(z.string().meta({ pattern: `^x_[a-z0-9_]{1,40}$` }), value)
    .meta({ maxProperties: attributeLimits.attributes })
    .describe(
      `For claims that administrators add. A name is ${attributeNamePattern.source}, and no standard claim`,
    )

export const newAccount = z.strictObject({
  email,
  username: username.optional(),
  name: personName.optional(),
  ...optional(profile),
  groups: groups.optional(),
  attributes: attributesOf(attributeValue).optional(),
  emailVerified: emailVerified.optional(),
  phoneVerified: phoneVerified.optional(),
  password: password
    .describe('If it is left out, the response has a link in which the user sets one, or a passkey')
    .optional(),
})

const base64url = z.string().regex(/^[\w-]+$/, 'must be base64url')
const time = z.iso.datetime({ offset: true })

const importedPasskey = z.strictObject({
  credentialId: base64url.max(1364),
  publicKey: base64url.max(4096).describe('A COSE key (RFC 9053)'),
  signCount: z.int().min(0).max(0xffff_ffff),
  transports: z.array(z.string().regex(/^[a-z-]{1,20}$/)).max(10),
  aaguid: z.uuid(),
  name: z
    .string()
    .refine((name) => isDisplayName(name, maxPasskeyNameCharacters), `must be ${passkeyNameRule}`)
    .meta(displayNameSchema(maxPasskeyNameCharacters)),
  backupEligible: z.boolean(),
  backedUp: z.boolean(),
  createdAt: time.optional(),
  lastUsedAt: time.nullable(),
})

/** An account of another system, as a line of a file has it. */
export const importedAccount = newAccount.omit({ password: true }).extend({
  id: z
    .string()
    .regex(/^[!-~]{1,64}$/, 'must be 1 to 64 printable ASCII characters')
    .describe('The claim sub; a random one if it is left out')
    .optional(),
  disabled: z.boolean().optional(),
  createdAt: time.optional(),
  updatedAt: time.optional(),
  passwordHash: z
    .union([z.string(), z.looseObject({})])
    .describe('A hash of Argon2, bcrypt, PBKDF2 or scrypt, or a password credential of Keycloak')
    .optional(),
  passkeys: z.array(importedPasskey).max(mostPasskeys).optional(),
})

/** Accounts of one request. */
export const mostImported = 100

export const accountImport = z.strictObject({
  accounts: z.array(importedAccount).min(1).max(mostImported),
  dryRun: z.boolean().default(false).describe('Check the accounts, and add none'),
})

export const changedAccount = z
  .strictObject({
    email: email
      .optional()
      .describe('Another address: the previous one learns of it, and it is unverified by default'),
    username: username.nullable().optional(),
    name: personName.nullable().optional(),
    ...optional(nullable(profile)),
    groups: groups.optional(),
    attributes: attributesOf(attributeValue.nullable()).optional(),
    emailVerified: emailVerified.optional(),
    phoneVerified: phoneVerified.optional(),
  })
  .transform(
    ({ email, username, name, groups, attributes, emailVerified, phoneVerified, ...profile }) => ({
      ...{ email, username, name, groups, attributes, emailVerified, phoneVerified, profile },
    }),
  )

function optional<Shape extends Record<string, z.ZodType>>(shape: Shape) {
  const entries = Object.entries(shape).map(([name, schema]) => [name, schema.optional()])
  return Object.fromEntries(entries) as { [Name in keyof Shape]: z.ZodOptional<Shape[Name]> }
}

function nullable<Shape extends Record<string, z.ZodType>>(shape: Shape) {
  const entries = Object.entries(shape).map(([name, schema]) => [name, schema.nullable()])
  return Object.fromEntries(entries) as { [Name in keyof Shape]: z.ZodNullable<Shape[Name]> }
}

export const newPassword = z.strictObject({ password })

export const reset = z.strictObject({
  passkeys: z.boolean().default(false).describe('Remove all passkeys as well'),
  codeApp: z.boolean().default(false).describe('Remove the code app and recovery codes as well'),
})

export const signOut = z.strictObject({
  tokens: z
    .boolean()
    .default(false)
    .describe('Revoke all grants as well, and with them the tokens that outlive a session'),
})

export const newResource = z.strictObject({
  identifier: z.string().meta({
    description: 'An absolute URI without a fragment (RFC 8707)',
    pattern: '^[a-z][a-z0-9+.-]*://[a-z0-9](/[!$-.0-;=@-Z_a-z~]*)*$',
  }),
  name: z
    .string()
    .meta(displayNameSchema(100))
    .nullable()
    .default(null)
    .describe('Shown to people at consent'),
  scopes: z.array(z.string().meta({ pattern: scopePattern.source })),
  openScopes: z
    .array(z.string().meta({ pattern: scopePattern.source }))
    .default([])
    .describe('Those of scopes that clients may ask for which no administrator has registered'),
  scopeLabels: z
    .record(z.string(), z.string().meta(displayNameSchema(scopeLabelLimit)))
    .default({})
    .describe('Sentences by scope, shown at consent; each for one of scopes'),
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

const storableValues = [
  { type: ['boolean', 'number'] },
  { type: 'string', pattern: '^[^\\u0000]*$' },
  { type: 'array', items: { $ref: '#/components/schemas/StorableJson' } },
  {
    type: 'object',
    propertyNames: { pattern: '^[^\\u0000]*$' },
    additionalProperties: { $ref: '#/components/schemas/StorableJson' },
  },
]

/** JSON that PostgreSQL can hold: U+0000 is nowhere in it. */
export const storableJson = { anyOf: [{ type: 'null' }, ...storableValues] }

const client_id = {
  type: 'string',
  pattern: '^[ -~]{1,256}$',
  description: 'Generated if it is left out',
} as const

const secretOrKey = [
  {
    properties: {
      token_endpoint_auth_method: { enum: ['client_secret_basic', 'client_secret_post'] },
    },
  },
  {
    required: ['token_endpoint_auth_method', 'jwks_uri'],
    properties: {
      token_endpoint_auth_method: { const: 'private_key_jwt' },
      jwks_uri: { type: 'string', pattern: '^https://[a-z]{1,60}\\.[a-z]{2,10}/[0-9A-Za-z_/-]*$' },
    },
  },
]

const secretOrKeyOrNone = [
  ...secretOrKey,
  {
    required: ['token_endpoint_auth_method'],
    properties: { token_endpoint_auth_method: { const: 'none' } },
  },
]

const redirectUris = {
  type: 'array',
  minItems: 1,
  items: {
    type: 'string',
    pattern: '^(https://[a-z]{1,60}\\.[a-z]{2,10}|http://127\\.0\\.0\\.1)/[0-9A-Za-z_/-]*$',
  },
} as const

const none = { type: 'array', maxItems: 0 } as const

/**
 * The engine validates metadata (RFC 7591 section 2): this says what it takes as far as JSON Schema
 * can. Keys by value, certificates and devices need rules that it does not have.
 */
const describeClient = (members: Readonly<Record<string, object>>) => ({
  description:
    'Client metadata (RFC 7591). The server takes more than this schema describes: keys by value, certificates and devices.',
  anyOf: [
    {
      title: 'An application that people sign in to',
      required: ['redirect_uris'],
      properties: {
        ...members,
        application_type: { enum: ['web', 'native'] },
        redirect_uris: redirectUris,
      },
      anyOf: secretOrKeyOrNone,
    },
    {
      title: 'A service',
      required: ['grant_types', 'response_types'],
      properties: {
        ...members,
        grant_types: { const: ['client_credentials'] },
        response_types: none,
        redirect_uris: none,
        administration: { enum: ['read', 'write'] },
      },
      anyOf: secretOrKey,
    },
  ],
})

const metadata = z.record(
  z.string().meta({ pattern: '^[^\\u0000]*$' }),
  z
    .unknown()
    .refine((value) => value !== null, 'must not be null')
    .meta({ anyOf: storableValues }),
)
const client_name = { type: 'string', ...displayNameSchema(nameLimit) } as const

export const newClient = metadata.meta(describeClient({ client_id, client_name }))
export const changedClient = metadata.meta(describeClient({ client_name }))

export const logo = z.strictObject({
  image: z
    .base64()
    .describe(`A PNG, JPEG, GIF or WebP image of at most ${logoLimitBytes / 1024} KiB, in base64`)
    .meta({ const: 'R0lGODlhAQABAAAAACwAAAAAAQABAAA=' }),
})

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

const account = word
  .meta({
    description: 'Id or email of the account',
    pattern: undefined,
    anyOf: [{ pattern: '^[^@\\u0000]*$' }, { format: 'email' }],
  })
  .optional()
const client = word.describe('client_id').optional()

/** A filter with a wrong name must not show everything. */
export const noQuery = z.strictObject({})
export const sessionQuery = z.strictObject({ account })
export const grantQuery = z.strictObject({ account, client })
export const exportQuery = z.strictObject({
  after: word.describe('The id of the last account of the previous response').optional(),
  limit: integer(1, 500, 'must be a number').describe('The most accounts').default(100),
})
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
  event: z.enum(auditEvents).describe('One kind of event').optional(),
  account,
  client,
  limit: integer(1, 1000, 'must be a number').describe('The most events').default(100),
})
export const countedQuery = auditQuery.omit({ after: true, account: true }).extend({
  event: z.enum(countedEvents).describe('One kind of event').optional(),
})
