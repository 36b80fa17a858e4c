import { isBound } from '../bindings/binding.ts'
import { cibaGrant } from '../clients/grant-types.ts'
import {
  hasUsableGrant,
  isInTime,
  isOfClient,
  isUnused,
  sessionGoesOn,
  withAccount,
} from './checks.ts'
import {
  type FoundSource,
  findSource,
  type Grant,
  issueOfCode,
  type PersonGrantOptions,
  refuseCodeReuse,
  scopesOf,
} from './grant.ts'
import { isRefusal, refuse } from './refusal.ts'
import type { StoredBackchannelRequest } from './stored.ts'
import { isBoundRequest, showsRequestKeys } from './token-keys.ts'

/** How tokens and rows name it. */
const gty = 'ciba'

/**
 * CIBA Core section 10.1. The client has shown the key of its tokens with the request, or is held to
 * the key by which it has authenticated then. The approval was given at another device, so that tokens
 * do not end with a session there.
 */
export function backchannelRequestGrant(
  options: PersonGrantOptions,
): Grant<FoundSource<StoredBackchannelRequest>> {
  return {
    grantType: cibaGrant,
    required: ['auth_req_id'],
    optional: ['authorization_details'],

    find: (request, finders) =>
      findSource<StoredBackchannelRequest>(request, finders, {
        kind: 'BackchannelAuthenticationRequest',
        value: request.params.auth_req_id,
      }),

    decide(request, { credential: found, resource }) {
      const { client, now } = request
      if (!found) return refuse('token_unknown', { detail: 'auth_req_id not found' })
      const { source } = found
      // The approval outlives the session in which it was given: there is none to end with it.
      if (!sessionGoesOn(found)) return refuse('session_ended')
      if (!isOfClient(found, client)) return refuse('client_mismatch')
      // Another key finds out nothing: neither whether someone has decided, nor what.
      if (!isBoundRequest(found, client)) {
        return refuse('not_bound', { description: 'the auth_req_id is not bound to a key' })
      }
      if (!showsRequestKeys(found, request)) {
        return refuse('key_mismatch', { description: 'the auth_req_id is bound to another key' })
      }
      // Section 11.
      if (!isInTime(found, now)) return refuse('auth_req_id_expired')
      if (source.grantId === undefined && source.error === undefined) {
        return refuse('authorization_pending', {
          consequence: { kind: 'poll', id: found.key.id, now },
        })
      }
      if (!isUnused(found)) return refuseCodeReuse('auth_req_id', found)
      if (source.error !== undefined) return refuse('approval_denied')
      if (!hasUsableGrant(found, { clientId: client.clientId, now })) return refuse('grant_gone')
      const person = withAccount(found)
      if (isRefusal(person)) return person
      if (resource && isRefusal(resource)) return resource
      const issue = issueOfCode(request, person, { gty, resource, isElsewhere: true }, options)
      // There is no session that a refresh token could end with.
      if (isRefusal(issue) || scopesOf(source).has('offline_access')) return issue
      return { ...issue, refreshToken: undefined }
    },

    // Two requests at once by the key that the request is bound to are those of one client.
    lose: (_request, { credential }) =>
      credential && (isBound(credential.source) || credential.source.clientKey !== undefined)
        ? refuse('auth_req_id_replayed')
        : refuseCodeReuse('auth_req_id', credential),
  }
}
