import type { CredentialLookup } from '../storage/credential-lookup.ts'
import { isActive } from './introspection.ts'
import type { FindToken } from './presented-token.ts'

/**
 * Asks a standby about a token before the primary, for introspection only. The standby is believed
 * that a token is active, because it was so a moment ago; what has ended it since is seen as late as the
 * standby may be behind. It is not believed that a token is unknown or has ended, since the token may
 * have been issued a moment ago: the primary is asked. A request that shows a one-time value goes to
 * the primary, which records the value by the same statement.
 *
 * @param lookupOfStandby undefined while no standby may be asked.
 */
export function findOnStandbyFirst(
  findOnPrimary: FindToken,
  lookupOfStandby: () => CredentialLookup | undefined,
  findBy: (lookup: CredentialLookup) => FindToken,
): FindToken {
  return async (token, now, entry) => {
    const lookup = entry ? undefined : lookupOfStandby()
    if (!lookup) return findOnPrimary(token, now, entry)
    // A standby that fails knows nothing.
    const found = await findBy(lookup)(token, now).catch(() => undefined)
    if (found && found !== 'replayed' && isActive(found, now)) return found
    return findOnPrimary(token, now)
  }
}
