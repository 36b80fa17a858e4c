import type { AccountClaims, FindAccount } from 'oidc-provider'
import type { Account } from '../storage/account-store.ts'
import type { Accounts } from './accounts.ts'

/** Which scope asks for which claims: oidc-provider's `claims` option. */
export const claimsByScope = {
  openid: ['sub'],
  profile: ['name'],
  email: ['email', 'email_verified'],
}

export function accountClaims({ id, email, name }: Account): AccountClaims {
  return {
    sub: id,
    email,
    // An operator typed it and nobody has shown control of the mailbox. Relying parties link
    // accounts by a verified email, so a claim that is not earned lets one person into another's.
    email_verified: false,
    ...(name === undefined ? {} : { name }),
  }
}

/**
 * oidc-provider's `findAccount`. A disabled account is not found, so its codes, refresh tokens and
 * opaque access tokens stop at once; a JWT access token ends with its own `exp`.
 */
export function createFindAccount(accounts: Pick<Accounts, 'findActive'>): FindAccount {
  return async (_ctx, sub) => {
    const account = await accounts.findActive(sub)
    return account && { accountId: account.id, claims: () => accountClaims(account) }
  }
}
