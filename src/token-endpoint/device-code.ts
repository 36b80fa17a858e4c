import { isBound, missingKey } from '../bindings/binding.ts'
import { bindings } from '../bindings/bindings.ts'
import { deviceGrant } from '../clients/grant-types.ts'
import {
  type FoundSource,
  findSource,
  type Grant,
  issueOfCode,
  type PersonGrantOptions,
  personOf,
  refuseCodeReuse,
  sessionGoesOn,
  usableGrant,
} from './grant.ts'
import { isRefusal, refuse } from './refusal.ts'
import type { Found, StoredDeviceCode } from './stored.ts'

/** How tokens and rows name it. */
const gty = 'device_code'

/** RFC 8628 section 3.4. A device has shown the key of its tokens when it asked for its code. */
export function deviceCodeGrant(options: PersonGrantOptions): Grant<FoundSource<StoredDeviceCode>> {
  return {
    grantType: deviceGrant,
    required: ['device_code'],
    optional: [],

    find: (request, finders) =>
      findSource<StoredDeviceCode>(request, finders, {
        kind: 'DeviceCode',
        value: request.params.device_code,
      }),

    decide(request, { credential: found, resource }) {
      const { client, proofs, now } = request
      if (!found) return refuse('token_unknown', { detail: 'device code not found' })
      const { source } = found
      if (!sessionGoesOn(found)) return refuse('session_ended')
      if (source.clientId !== client.clientId) return refuse('client_mismatch')
      // Another key finds out nothing: neither whether someone has decided, nor what.
      if (client.binding && source[client.binding.confirmation] === undefined) {
        return refuse('not_bound', { description: 'the device code is not bound to a key' })
      }
      if (missingKey(source, bindings, proofs)) {
        return refuse('key_mismatch', { description: 'the device code is bound to another key' })
      }
      if (source.accountId !== undefined && !isSignedIn(found)) {
        return refuse('session_ended', {
          description: 'the session in which the device was let in has ended',
        })
      }
      // RFC 8628 section 3.5.
      if (source.exp <= now) return refuse('device_code_expired')
      if (source.accountId === undefined && source.error === undefined) {
        return refuse('authorization_pending', {
          consequence: { kind: 'poll', id: found.key.id, now },
        })
      }
      if (found.consumedAt !== null) return refuseCodeReuse(gty, found)
      if (source.error !== undefined) {
        const { error, errorDescription: description } = source
        return refuse('device_denied', { error, description })
      }
      const grant = usableGrant(found, { clientId: client.clientId, now })
      if (!grant) return refuse('grant_gone')
      const person = personOf(found, grant)
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
 * Whether the session in which a person said yes goes on. They may have ended it because of this
 * very device; what outlives sessions is a refresh token that someone has received.
 */
function isSignedIn({ source, session, browserSession }: Found<StoredDeviceCode>): boolean {
  return session?.accountId === source.accountId && browserSession?.accountId === source.accountId
}
