import { z } from 'zod'
import { signingAlgorithms } from '../config/signing-algorithms.ts'
import { keyStates } from '../keys/key-schedule.ts'
import { importedAccount } from './requests.ts'

/** What the admin API answers, as JSON: schemas for its document and for the tests that compare. */

const time = z.iso.datetime()
const texts = z.array(z.string())
const email = z.string().nullable().describe('The email of the account')

export const client = z
  .looseObject({
    client_id: z.string(),
    client_secret: z.string().describe('Only in the response that makes it').optional(),
    client_name: z.string().optional(),
    redirect_uris: texts.optional(),
    grant_types: texts.optional(),
    response_types: texts.optional(),
    scope: z.string().optional(),
    token_endpoint_auth_method: z.string().optional(),
    binding_method: z.string().optional(),
    administration: z.enum(['read', 'write']).optional(),
    skip_consent: z.boolean().describe('Users are not asked for their consent').optional(),
    self_registered: z.boolean().describe('The client registered itself').optional(),
  })
  .describe('Client metadata (RFC 7591)')

export const renewedSecret = z.strictObject({ client_id: z.string(), client_secret: z.string() })

const accountMembers = {
  id: z.string(),
  email: z.string(),
  username: z.string().optional(),
  name: z.string().optional(),
  emailVerified: z.literal(true).optional(),
  givenName: z.string().optional(),
  familyName: z.string().optional(),
  preferredUsername: z.string().optional(),
  locale: z.string().optional(),
  zoneinfo: z.string().optional(),
  picture: z.string().optional(),
  phone: z.string().optional(),
  phoneVerified: z.literal(true).optional(),
  streetAddress: z.string().optional(),
  locality: z.string().optional(),
  region: z.string().optional(),
  postalCode: z.string().optional(),
  country: z.string().optional(),
  groups: texts.optional(),
  attributes: z.record(z.string(), z.string()).optional(),
  hasCodeApp: z.literal(true).describe('A code is asked for after the password').optional(),
  disabled: z.boolean(),
  createdAt: time,
  updatedAt: time.optional(),
}

export const account = z.strictObject(accountMembers)

export const exportedAccount = importedAccount
  .extend({ id: z.string(), disabled: z.boolean(), createdAt: time })
  .omit({ passwordHash: true })
  .describe('An account as an import takes it, without its password')

export const importResult = z.strictObject({
  added: z.int().describe('Accounts that were added; in a dry run, that would be'),
  existing: z.int().describe('Accounts that are there already, and stay as they are'),
  problems: z
    .array(
      z.strictObject({
        line: z.int().describe('Which of the accounts, from 1'),
        problem: z.string(),
      }),
    )
    .describe('With one or more, no account was added'),
})

const linkMembers = {
  link: z.string().describe('For the user alone: only in this response'),
  expiresAt: time.describe('When the link stops working'),
  mailed: z.boolean().describe('Whether the link is sent to the user by mail as well'),
}

export const addedAccount = z.strictObject({
  ...accountMembers,
  ...z.strictObject(linkMembers).partial().shape,
})

export const madeLink = z.strictObject(linkMembers)

export const resetAccount = z.strictObject({
  ...linkMembers,
  ended: z.int().describe('Sessions'),
  revoked: z.int().describe('Grants'),
})

export const passkey = z.strictObject({
  id: z.string(),
  name: z.string().describe('Chosen by the user'),
  transports: texts,
  aaguid: z.string().describe('The model of the authenticator, as it says itself'),
  attested: z.boolean().describe('Whether an attestation root has certified the model'),
  backupEligible: z.boolean().describe('Whether it can be copied to other devices'),
  backedUp: z.boolean().describe('Whether a copy exists'),
  createdAt: time,
  lastUsedAt: time.nullable(),
})

export const installation = z.strictObject({
  clientId: z.string(),
  jkt: z.string().describe('The thumbprint of its key (RFC 7638)'),
  since: time,
  lastUsed: time,
})

export const signedOut = z.strictObject({
  ended: z.int().describe('Sessions'),
  revoked: z.int().describe('Grants'),
})

const invitationMembers = {
  id: z.string().describe('SHA-256 of the code, in hexadecimal'),
  name: z.string(),
  groups: texts,
  uses: z.int(),
  usesLeft: z.int(),
  createdAt: time,
  expiresAt: time,
}

export const invitation = z.strictObject(invitationMembers)

export const createdInvitation = z.strictObject({
  ...invitationMembers,
  code: z.string().describe('The code: only in this response'),
  link: z.string().describe('The page of the sign-up with the code'),
})

const registrationTokenMembers = {
  id: z.string().describe('SHA-256 of the token, in hexadecimal'),
  name: z.string(),
  policy: z.strictObject({
    grantTypes: texts,
    authMethods: texts,
    bindingMethods: texts,
    scopes: texts,
    conformant: z.boolean().describe('Clients that name no binding are bearer clients').optional(),
    redirectHosts: texts.nullable(),
  }),
  bearer: z.boolean(),
  jkt: z.string().nullable(),
  uses: z.int(),
  usesLeft: z.int(),
  createdAt: time,
  expiresAt: time,
}

export const registrationToken = z.strictObject(registrationTokenMembers)

export const addedRegistrationToken = z.strictObject({
  ...registrationTokenMembers,
  token: z.string().describe('The token: only in this response'),
})

const types = z
  .record(z.string(), z.record(z.string(), z.unknown()))
  .describe('The types of authorization details (RFC 9396) that it understands, by name')

export const resource = z.strictObject({
  identifier: z.string(),
  name: z.string().nullable(),
  scopes: texts,
  openScopes: texts,
  scopeLabels: z.record(z.string(), z.string()),
  signingAlg: z.enum(signingAlgorithms),
  authorizationDetailsTypes: types,
})

export const detailsTypes = z.strictObject({
  identifier: z.string(),
  authorizationDetailsTypes: types,
})

export const session = z.strictObject({
  id: z.string(),
  account: z.string(),
  email,
  signedInAt: time,
  expiresAt: time,
  clients: texts,
  userAgent: z.string(),
  address: z.string(),
  binding: z
    .enum(['dbsc', 'token-binding', 'page-key'])
    .nullable()
    .describe('What the session is bound to; null for a cookie alone'),
})

export const grant = z.strictObject({
  id: z.string(),
  account: z.string(),
  email,
  client: z.string(),
  grantedAt: time,
  expiresAt: time,
  scopes: texts,
  resources: z.record(z.string(), z.string()),
})

const keyMembers = {
  kid: z.string(),
  purpose: z.string(),
  state: z.enum(keyStates),
  createdAt: time,
  signsFrom: time,
  signsUntil: time.nullable().describe('When another key signs instead; null while none is known'),
  endsAt: time.nullable().describe('When it no longer verifies; null while that is not known'),
  readable: z.boolean().describe('Whether the secrets of this node decrypt it'),
}

export const key = z.strictObject(keyMembers)

export const retiredKey = z.strictObject({
  ...keyMembers,
  successor: z.string().nullable().describe('The key that signs instead, now or later'),
})

export const auditEvent = z.strictObject({
  id: z.int(),
  at: time,
  event: z.string(),
  actor: z.string().nullable(),
  account: z.string().nullable(),
  client: z.string().nullable(),
  address: z.string().nullable(),
  requestId: z.string().nullable(),
  details: z.record(z.string(), z.unknown()),
})

export const countedEvent = z.strictObject({
  minute: time,
  event: z.string(),
  reason: z.string(),
  network: z.string().describe('An IPv4 address or an IPv6 /64; * for those beyond a bound'),
  count: z.int(),
  client: z.string().nullable().describe('Of the last request'),
  requestId: z.string().nullable().describe('Of the last request'),
})

/** Every refusal, whatever its status. */
export const refusal = z.strictObject({
  error: z.string().describe('A code that does not change'),
  error_description: z.string().describe('A sentence for developers'),
})
