import Provider, { errors } from 'oidc-provider'

/**
 * Answers `unauthorized_client` (RFC 6749 section 5.2) to a token request by a grant that its client
 * may not use; the engine says `invalid_request`.
 */
export function refuseUnauthorizedGrants({ Client: { prototype } }: Provider): void {
  const { grantTypeAllowed } = prototype
  prototype.grantTypeAllowed = function refusing(type: string): boolean {
    const isAllowed = grantTypeAllowed.call(this, type)
    const { oidc } = Provider.ctx ?? {}
    // Of the grant of a token request the engine asks once, to refuse it; of other grants to find
    // out what to issue.
    if (!isAllowed && oidc?.route === 'token' && type === oidc.params?.grant_type) {
      throw new errors.UnauthorizedClient('requested grant type is not allowed for this client')
    }
    return isAllowed
  }
}
