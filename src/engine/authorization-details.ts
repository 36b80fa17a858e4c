import type { KoaContextWithOIDC } from 'oidc-provider'
import Provider, { type ClientMetadata, errors, interactionPolicy } from 'oidc-provider'
import {
  type AuthorizationDetail,
  areWithin,
  detailProblem,
  readDetails,
} from '../authorization-details/authorization-details.ts'
import type { DetailsTypeTable, StoredDetailsType } from '../storage/details-type-table.ts'
import type { Extension } from './extension.ts'
import { refusedFor } from './refusal-reason.ts'

/*
 * Rich authorization requests (RFC 9396). The engine has a feature for them whose types are fixed when
 * it starts; here APIs register types at any time. So the parameter is one of ours, checked by ours,
 * and what the engine's grants and codes have for it (`rar`) is used.
 */

declare module 'oidc-provider' {
  interface ClientMetadata {
    /** The only types that a client may ask for, if it has registered any (RFC 9396 section 10). */
    authorization_details_types?: readonly string[] | undefined
    /** The same within the engine. */
    allowed_details_types?: readonly string[] | undefined
  }
}

type FindType = Pick<DetailsTypeTable, 'find'>

/** A detail of a request, and what its API says of it. */
export interface TypedDetail {
  readonly detail: AuthorizationDetail
  readonly type: StoredDetailsType
}

/** Types of client metadata, and of the metadata of the server. */
export const richAuthorization: Extension = {
  extend(engine, { tables: { detailsTypes } }) {
    engine.use(async (ctx, next) => {
      await next()
      if (ctx.oidc?.route !== 'discovery') return
      const types = await detailsTypes.names()
      if (types.length > 0) {
        Object.assign(ctx.body as object, { authorization_details_types_supported: types })
      }
    })
  },
  models: () => [{ keepInCode: (ctx) => ({ rar: grantedDetails(ctx) }) }],
  clientMetadata: ['authorization_details_types', 'allowed_details_types'],
  checkClient(metadata: ClientMetadata) {
    const { authorization_details_types: types } = metadata
    if (types === undefined) return
    const isList = Array.isArray(types) && types.every((each) => typeof each === 'string')
    if (!isList || types.length > typesLimit) {
      throw new errors.InvalidClientMetadata(
        `authorization_details_types must be a list of ${typesLimit} strings at most`,
      )
    }
    // By the first name the engine allows the types of its own feature only, which is off.
    metadata.allowed_details_types = types
    delete metadata.authorization_details_types
  },
}

/** Types that a client may name. */
const typesLimit = 20

/**
 * Checks the details of a request by their types (RFC 9396 section 5), and that the request names
 * the APIs that understand them, if it names any.
 *
 * @returns none for a request without the parameter.
 * @throws the engine's `invalid_authorization_details`.
 */
export async function checkDetails(
  { oidc: { params, client } }: KoaContextWithOIDC,
  { find }: FindType,
): Promise<readonly TypedDetail[]> {
  const text = params?.authorization_details
  if (text === undefined) return []
  const details = readDetails(String(text))
  if (typeof details === 'string') throw invalid(`authorization_details ${details}`)
  const { allowed_details_types: allowed } = client as { allowed_details_types?: string[] }
  const resources = params?.resource === undefined ? undefined : [params.resource].flat()
  return Promise.all(
    details.map(async (detail, at) => {
      const type = await find(detail.type)
      if (!type) throw invalid(`authorization_details ${at} has an unknown type`)
      if (allowed?.includes(detail.type) === false) {
        throw invalid(`authorization_details ${at} has a type that is not allowed for this client`)
      }
      const problem = detailProblem(detail, type.definition)
      if (problem) throw invalid(`authorization_details ${at} ${problem}`)
      if (resources?.includes(type.resource) === false) {
        throw invalid(`authorization_details ${at} is for the resource ${type.resource}`)
      }
      return { detail, type }
    }),
  )
}

type DefaultResource = (
  ctx: KoaContextWithOIDC,
  client: unknown,
  several?: readonly string[],
) => Promise<string | readonly string[] | undefined>

/** The resource of a request that names none: the APIs of its details count with every other one. */
export function withDetailsResources(others: DefaultResource, types: FindType): DefaultResource {
  return async (ctx, client, several) => {
    const details = await checkDetails(ctx, types)
    const implied = await others(ctx, client, several)
    if (details.length === 0 || several) return implied
    const all = [...details.map(({ type }) => type.resource), ...[implied ?? []].flat()]
    const resources = [...new Set(all)]
    return resources.length > 1 ? resources : resources[0]
  }
}

/**
 * Asks for consent to details. Consent that was given before counts only for the same details, and
 * only where their type says so: for a payment it does not.
 */
export function withDetailsConsent(
  policy: interactionPolicy.DefaultPolicy,
  { find }: FindType,
): interactionPolicy.DefaultPolicy {
  const consent = policy.get('consent')?.checks
  consent?.remove('rar_prompt')
  consent?.add(
    new interactionPolicy.Check(
      'authorization_details',
      'the authorization details were not granted',
      'consent_required',
      async ({ oidc }) => {
        const details = requestedDetails(oidc.params)
        if (!details) return false
        if (!areGranted(details, oidc.entities.Grant)) return true
        if (oidc.result?.consent) return false
        const types = await Promise.all(details.map(({ type }) => find(type)))
        return !types.every((type) => type?.definition.remember)
      },
    ),
  )
  return policy
}

/** The details of a request that was checked when it came. */
export function requestedDetails(
  params: Readonly<Record<string, unknown>> | undefined,
): readonly AuthorizationDetail[] | undefined {
  const text = params?.authorization_details
  if (text === undefined) return undefined
  const details = readDetails(String(text))
  if (typeof details === 'string') throw invalid(`authorization_details ${details}`)
  return details
}

function areGranted(
  details: readonly AuthorizationDetail[],
  grant: InstanceType<Provider['Grant']> | undefined,
): boolean {
  return areWithin(details, (grant?.rar ?? []) as AuthorizationDetail[])
}

/**
 * What a code keeps of the details of its request.
 *
 * @throws the engine's `invalid_authorization_details` where nobody has consented to them.
 */
export function grantedDetails({ oidc }: KoaContextWithOIDC): AuthorizationDetail[] | undefined {
  const details = requestedDetails(oidc.params)
  if (!details) return undefined
  if (!areGranted(details, oidc.entities.Grant))
    throw invalid('authorization_details is not granted')
  return [...details]
}

function invalid(problem: string) {
  return refusedFor('authorization_details', new errors.InvalidAuthorizationDetails(problem))
}
