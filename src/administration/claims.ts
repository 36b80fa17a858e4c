import { z } from 'zod'
import { claimsByScope } from '../accounts/claims.ts'
import { scopePattern } from '../clients/client-scopes.ts'
import type { ClaimMapping, ClaimMappingTable } from '../storage/claim-mapping-table.ts'
import { problemsIn } from './admin-errors.ts'
import type { RecordChange } from './administration.ts'
import { AdministrationError } from './administration-error.ts'

/** Claims that mappings add to tokens, by scope and client: all of them are one document. */
export function administerClaims(table: ClaimMappingTable, recordChange: RecordChange) {
  return {
    list: () => table.list(),

    async replace(mappings: readonly ClaimMapping[]): Promise<readonly ClaimMapping[]> {
      await table.replace(mappings)
      recordChange('claims.changed', {}, { claims: mappings.map(({ claim }) => claim) })
      return mappings
    },
  }
}

export const claimLimits = { mappings: 200, valueBytes: 4096 } as const

/**
 * Claims whose meaning is the protocol's: RFC 7519, RFC 7662, RFC 7800, RFC 9068, OpenID Connect
 * Core and Logout. `urn:holdfast:` is ours.
 */
const reservedClaims: ReadonlySet<string> = new Set(
  `iss sub aud exp nbf iat jti azp nonce auth_time at_hash c_hash s_hash acr amr sid cnf scope
   client_id active token_type username events toe txn act may_act sub_jwk dbsc_session entitlements
   authorization_details token_introspection _claim_names _claim_sources __proto__`
    .trim()
    .split(/\s+/),
)

const standardClaims: ReadonlySet<string> = new Set(Object.values(claimsByScope).flat())

export const claimMapping = z.strictObject({
  claim: z
    .string()
    .regex(/^[!-~]{1,200}$/, 'must be 1 to 200 characters of ASCII without spaces')
    .refine(
      (claim) => !reservedClaims.has(claim) && !claim.startsWith('urn:holdfast:'),
      'is reserved',
    )
    .meta({ pattern: '^x_[a-z]{1,30}$' }),
  scope: z
    .string()
    .max(200)
    .regex(scopePattern, 'must be a scope (RFC 6749 section 3.3)')
    .describe(
      'With which it is sent: openid, profile, email, address, phone, groups, or a scope of an API',
    ),
  client: z
    .string()
    .regex(/^[ -~]{1,256}$/, 'must be a client_id')
    .describe('For this client alone, in the place of a mapping for all')
    .optional(),
  attribute: z
    .string()
    .regex(/^[a-z][a-z0-9_]{0,49}$/, 'must be a standard claim or the name of an attribute')
    .describe('A standard claim, or the name of an attribute of the account')
    .optional(),
  value: z
    .unknown()
    .refine((value) => value !== null, 'must not be null')
    .refine(
      (value) => Buffer.byteLength(JSON.stringify(value) ?? '') <= claimLimits.valueBytes,
      `must be ${claimLimits.valueBytes} bytes at most`,
    )
    .refine(isStorableJson, 'has a character that no text may have')
    .meta({ type: ['string', 'boolean', 'integer'], maxLength: 1000 })
    .describe('Always this value, instead of an attribute')
    .optional(),
})

export const claimMappings = z
  .array(claimMapping)
  .max(claimLimits.mappings, `must be ${claimLimits.mappings} at most`)
  .superRefine((mappings, context) => {
    const seen = new Set<string>()
    for (const [at, mapping] of mappings.entries()) {
      const name = JSON.stringify([mapping.claim, mapping.scope, mapping.client])
      for (const message of problemsOf(mapping, seen.has(name))) {
        context.addIssue({ code: 'custom', path: [at], message })
      }
      seen.add(name)
    }
  })

/**
 * Mappings as a file has them, or all that is wrong with them.
 *
 * @throws AdministrationError `invalid_request`
 */
export function parseClaimMappings(value: unknown): readonly ClaimMapping[] {
  const { data, error } = claimMappings.safeParse(value)
  if (data) return data
  throw new AdministrationError('invalid_request', problemsIn(error))
}

function problemsOf(mapping: z.output<typeof claimMapping>, isRepeated: boolean): string[] {
  const { claim, attribute, value } = mapping
  const isStandard = standardClaims.has(claim)
  return [
    ...((attribute === undefined) === (value === undefined)
      ? ['must have either attribute or value']
      : []),
    ...(isStandard && attribute !== claim
      ? [`${claim} is a standard claim, which can have its own attribute only`]
      : []),
    ...(isRepeated ? ['is the same claim, scope and client as another mapping'] : []),
  ]
}

/** U+0000 and half a pair of surrogates are escapes in JSON. */
function isStorableJson(value: unknown): boolean {
  return !/\\u(0000|d[89a-f])/i.test(JSON.stringify(value) ?? '')
}
