import { isBound } from '../bindings/binding.ts'
import { deviceGrant } from '../clients/grant-types.ts'
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
} from './grant.ts'
import { isRefusal, refuse } from './refusal.ts'
import type { Found, StoredDeviceCode } from './stored.ts'
import { isBoundFor, showsKeys } from './token-keys.ts'

/** How tokens and rows name it. */
const gty = 'device_code'

/** RFC 8628 section 3.4. A device has shown the key of its tokens when it asked for its code. */
export function deviceCodeGrant(options: PersonGrantOptions): Grant<FoundSource<StoredDeviceCode>> {
  return {
    grantType: deviceGrant,
    required: ['device_code'],
    optional: ['authorization_details'],

    find: (request, finders) =>
      findSource<StoredDeviceCode>(request, finders, {
        kind: 'DeviceCode',
        value: request.params.device_code,
      }),

    decide(request, { credential: found, resource }) {
      const { client, now } = request
      if (!found) return refuse('token_unknown', { detail: 'device code not found' })
      const { source } = found
      if (!sessionGoesOn(found)) return refuse('session_ended')
      if (!isOfClient(found, client)) return refuse('client_mismatch')
      // Another key finds out nothing: neither whether someone has decided, nor what.
      if (!isBoundFor(found, client)) {
        return refuse('not_bound', { description: 'the device code is not bound to a key' })
      }
      if (!showsKeys(found, request)) {
        return refuse('key_mismatch', { description: 'the device code is bound to another key' })
      }
      if (source.accountId !== undefined && !isSignedIn(found)) {
        return refuse('session_ended', {
          description: 'the session in which the device was let in has ended',
        })
      }
      // RFC 8628 section 3.5.
      if (!isInTime(found, now)) return refuse('device_code_expired')
      if (source.accountId === undefined && source.error === undefined) {
        return refuse('authorization_pending', {
          consequence: { kind: 'poll', id: found.key.id, now },
        })
      }
      if (!isUnused(found)) return refuseCodeReuse(gty, found)
      if (source.error !== undefined) {
        const { error, errorDescription: description } = source
        return refuse('device_denied', { error, description })
      }
      if (!hasUsableGrant(found, { clientId: client.clientId, now })) return refuse('grant_gone')
      const person = withAccount(found)
      if (isRefusal(person)) return person
      if (resource && isRefusal(resource)) return resource
      return issueOfCode(request, person, { gty, resource, isElsewhere: true }, options)
    },

    // Two requests at once by the key that the code is bound to are those of one device.
    lose: (_request, { credential }) =>
      credential && isBound(credential.source)
        ? refuse('device_code_replayed')
        : refuseCodeReuse(gty, credential),
  }
}

/**
 * Whether the session in which a person said yes still exists. They may have ended it because of this
 * very device; what outlives sessions is a refresh token that someone has received.
 */
function isSignedIn({ source, session, browserSession }: Found<StoredDeviceCode>): boolean {
  return session?.accountId === source.accountId && browserSession?.accountId === source.accountId
}
