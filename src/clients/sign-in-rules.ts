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
  /** Whether a password needs a code beside it, of everyone or of those who have a code app. */
  readonly secondFactor: 'required' | 'optional'
  /** Whether a password leads to an application without a code, for an account without a code app. */
  takesPasswordAlone(clientId: string): boolean
  /** Whether it counts for an application at all, whosever it is. */
  takesPassword(clientId: string): boolean
  /** Whether it counts for this account, to sign in or to change how the person signs in. */
  takesPasswordOf(account: Account): Promise<boolean>
}

/**
 * With the policy `passkey` a password leads only to My security, and only as long as its account
 * has no passkey: there the person adds the first one. With `password+second-factor` it leads there
 * without a code, as long as its account has no code app: there the person sets one up.
 */
export function createSignInRules(
  policy: SignInPolicy,
  passkeys: Pick<PasskeyTable, 'isThere'>,
): SignInRules {
  const isSecurity = (clientId: string) => clientId === securityClientId
  if (policy !== 'passkey') {
    const isRequired = policy === 'password+second-factor'
    return {
      leastPasskeys: 0,
      setsPassword: true,
      secondFactor: isRequired ? 'required' : 'optional',
      takesPassword: () => true,
      takesPasswordAlone: (clientId) => !isRequired || isSecurity(clientId),
      takesPasswordOf: async () => true,
    }
  }
  return {
    leastPasskeys: 1,
    setsPassword: false,
    secondFactor: 'optional',
    takesPassword: isSecurity,
    takesPasswordAlone: isSecurity,
    takesPasswordOf: async ({ id }) => !(await passkeys.isThere(id)),
  }
}
