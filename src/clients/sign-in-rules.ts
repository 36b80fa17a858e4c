import type { SignInPolicy } from '../config/passkeys-config.ts'
import type { Account } from '../storage/account-store.ts'
import type { PasskeyTable } from '../storage/passkey-table.ts'
import { securityClientId } from './security-client.ts'

/** Where a password counts. */
export interface SignInRules {
  /** Passkeys that an account which has one must keep. */
  readonly leastPasskeys: 0 | 1
  /** Whether people set one. */
  readonly setsPassword: boolean
  /** Whether it counts for an application at all, whosever it is. */
  takesPassword(clientId: string): boolean
  /** Whether it counts for this account, to sign in or to change how the person signs in. */
  takesPasswordOf(account: Account): Promise<boolean>
}

/**
 * With the policy `passkey` a password leads only to My security, and only as long as its account
 * has no passkey: there the person adds the first one.
 */
export function createSignInRules(
  policy: SignInPolicy,
  passkeys: Pick<PasskeyTable, 'isThere'>,
): SignInRules {
  if (policy === 'passkey-or-password') {
    return {
      leastPasskeys: 0,
      setsPassword: true,
      takesPassword: () => true,
      takesPasswordOf: async () => true,
    }
  }
  return {
    leastPasskeys: 1,
    setsPassword: false,
    takesPassword: (clientId) => clientId === securityClientId,
    takesPasswordOf: async ({ id }) => !(await passkeys.isThere(id)),
  }
}
