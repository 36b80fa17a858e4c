import { detailsTypes as detailsTypesSchema } from '../authorization-details/details-type.ts'
import { scopePattern } from '../clients/client-scopes.ts'
import { signingAlgorithms } from '../config/signing-algorithms.ts'
import { isSigningAlgorithm } from '../keys/key-purpose.ts'
import { displayNameRule, isDisplayName } from '../net/display-name.ts'
import type { DetailsType, DetailsTypeTable } from '../storage/details-type-table.ts'
import type {
  NewResourceServer,
  ResourceServerTable,
  StoredResourceServer,
} from '../storage/resource-server-table.ts'
import type { RecordChange } from './administration.ts'
import { AdministrationError } from './administration-error.ts'

/** The APIs that access tokens are made for (RFC 8707). */
export function administerResources(
  table: ResourceServerTable,
  detailsTypes: Pick<DetailsTypeTable, 'replace'>,
  recordChange: RecordChange,
) {
  return {
    list: () => table.list(),

    async add({
      scopes: given,
      signingAlg = 'ES256',
      scopeLabels = {},
      openScopes: givenOpen = [],
      ...rest
    }: NewResourceServer) {
      const { identifier } = rest
      checkResource({ ...rest, scopes: given, scopeLabels, openScopes: givenOpen, signingAlg })
      const scopes = [...new Set(given)]
      const openScopes = [...new Set(givenOpen)]
      const resource = { ...rest, scopes, openScopes, scopeLabels, signingAlg }
      if (!(await table.insert(resource))) {
        throw new AdministrationError('already_exists', `${identifier} is registered already.`)
      }
      recordChange('resource.added', {}, { identifier, scopes, openScopes, signingAlg })
      return { ...resource, authorizationDetailsTypes: {} } satisfies StoredResourceServer
    },

    /** Replaces the types of authorization details (RFC 9396) that an API understands. */
    async setDetailsTypes(
      identifier: string,
      given: unknown,
    ): Promise<Pick<StoredResourceServer, 'identifier' | 'authorizationDetailsTypes'>> {
      const types = readDetailsTypes(given)
      const outcome = await detailsTypes.replace(identifier, types)
      if (outcome === 'no such resource') {
        throw new AdministrationError('not_found', `There is no API ${identifier}.`)
      }
      if (outcome === 'taken') {
        throw new AdministrationError(
          'already_exists',
          'Another API has registered one of these types: a type belongs to one API.',
        )
      }
      table.invalidate(identifier)
      recordChange('resource.details_types_changed', {}, { identifier, types: Object.keys(types) })
      return { identifier, authorizationDetailsTypes: types }
    },

    async remove(identifier: string): Promise<void> {
      if (!(await table.remove(identifier))) {
        throw new AdministrationError('not_found', `There is no API ${identifier}.`)
      }
      recordChange('resource.removed', {}, { identifier })
    },
  }
}

/** @throws AdministrationError `invalid_request` */
export function readDetailsTypes(types: unknown): Readonly<Record<string, DetailsType>> {
  const checked = detailsTypesSchema.safeParse(types)
  if (checked.success) return checked.data
  const [{ path, message } = { path: [], message: '' }] = checked.error.issues
  throw new AdministrationError(
    'invalid_request',
    `The types of authorization details are invalid at ${path.join('.') || 'the top'}: ${message}.`,
  )
}

/** @throws AdministrationError `invalid_request` */
export function checkResource({
  identifier,
  name,
  scopes,
  scopeLabels = {},
  openScopes = [],
  signingAlg = 'ES256',
}: Omit<NewResourceServer, 'signingAlg'> & { signingAlg?: string }): void {
  checkIdentifier(identifier)
  checkName(name)
  checkScopes(scopes)
  checkLabels(scopeLabels, scopes)
  const other = openScopes.find((scope) => !scopes.includes(scope))
  if (other !== undefined) throw notOfApi(other)
  if (!isSigningAlgorithm(signingAlg)) {
    throw new AdministrationError(
      'invalid_request',
      `${signingAlg} is not one of ${signingAlgorithms.join(', ')}.`,
    )
  }
}

/** RFC 8707 section 2: an absolute URI without a fragment. RFC 3986 has no others than these. */
function checkIdentifier(identifier: string): void {
  if (!URL.canParse(identifier) || !/^[!$-;=?-Z[\]_a-z~]{1,2000}$/.test(identifier)) {
    throw new AdministrationError(
      'invalid_request',
      `${identifier} is not an absolute URI without a fragment (RFC 8707).`,
    )
  }
}

/** People read it where they are asked for their consent. */
function checkName(name: string | null): void {
  if (name !== null && !isDisplayName(name, 100)) {
    throw new AdministrationError(
      'invalid_request',
      `The name of an API must be ${displayNameRule(100)}.`,
    )
  }
}

function checkScopes(scopes: readonly string[]): void {
  const wrong = scopes.find((scope) => !scopePattern.test(scope))
  if (wrong !== undefined) {
    throw new AdministrationError(
      'invalid_request',
      `"${wrong}" is not a scope (RFC 6749 section 3.3).`,
    )
  }
}

function notOfApi(scope: string): AdministrationError {
  return new AdministrationError('invalid_request', `"${scope}" is not a scope of this API.`)
}

/** Characters of the sentence for a scope. */
export const scopeLabelLimit = 120

function checkLabels(labels: Readonly<Record<string, string>>, scopes: readonly string[]): void {
  for (const [scope, label] of Object.entries(labels)) {
    if (!scopes.includes(scope)) {
      throw notOfApi(scope)
    }
    if (!isDisplayName(label, scopeLabelLimit)) {
      throw new AdministrationError(
        'invalid_request',
        `The label of "${scope}" must be ${displayNameRule(scopeLabelLimit)}.`,
      )
    }
  }
}
