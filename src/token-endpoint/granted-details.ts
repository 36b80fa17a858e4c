/** Which authorization details (RFC 9396) an access token carries. */
import {
  type AuthorizationDetail,
  areWithin,
  readDetails,
} from '../authorization-details/authorization-details.ts'
import { type Refusal, refuse } from './refusal.ts'
import type { FoundResource } from './resources.ts'
import type { StoredSource } from './stored.ts'
import type { TokenRequest } from './token-request.ts'

/**
 * The details of an access token: of those that a person has granted, the ones whose types the API of
 * the token understands, or what the request wants of them (section 6). A token for this server has
 * none.
 */
export function grantedDetails(
  { params: { authorization_details: text } }: Pick<TokenRequest, 'params'>,
  { rar: granted = [] }: Pick<StoredSource, 'rar'>,
  resource: FoundResource | undefined,
): readonly AuthorizationDetail[] | Refusal | undefined {
  const isOfResource = ({ type }: AuthorizationDetail) => resource?.detailsTypes.has(type) ?? false
  if (text === undefined) {
    const details = granted.filter(isOfResource)
    return details.length > 0 ? details : undefined
  }
  const wanted = readDetails(text)
  if (typeof wanted === 'string') {
    return refuse('details_malformed', { description: `authorization_details ${wanted}` })
  }
  const isGranted = areWithin(wanted, granted) && wanted.every(isOfResource)
  return isGranted ? wanted : refuse('details_not_granted')
}
