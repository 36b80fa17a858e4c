import type { AccountClaims, FindAccount, KoaContextWithOIDC } from 'oidc-provider'
import type { Account } from '../storage/account-store.ts'

/** Which scope asks for which claims: oidc-provider's `claims` option. */
export const claimsByScope = {
  openid: ['sub'],
  profile: ['name'],
  email: ['email', 'email_verified'],
}

export function accountClaims({ id, email, name, emailVerified }: Account): AccountClaims {
  return {
    sub: id,
    email,
    // Relying parties link accounts by a verified email: a claim that is not earned lets one person
    // into another's account. It is true only where an operator has said so.
    email_verified: emailVerified === true,
    ...(name === undefined ? {} : { name }),
  }
}

/**
 * oidc-provider's `findAccount`. A disabled account is not found, so its codes, refresh tokens and
 * opaque access tokens stop at once; a JWT access token ends with its own `exp`.
 */
export function createFindAccount(
  findActive: (id: string, ctx: KoaContextWithOIDC) => Promise<Account | undefined>,
): FindAccount {
  return async (ctx, sub) => {
    const account = await findActive(sub, ctx)
    return account && { accountId: account.id, claims: () => accountClaims(account) }
  }
}
