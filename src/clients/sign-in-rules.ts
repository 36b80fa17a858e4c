import { meetsAcr, signInMethods } from '../accounts/acr.ts'
import type { PasskeysConfig } from '../config/passkeys-config.ts'
import type { Account } from '../storage/account-store.ts'
import type { PasskeyTable } from '../storage/passkey-table.ts'
import { securityClientId } from './security-client.ts'

/** Where a password counts. */
export interface SignInRules {
  /** Passkeys that an account which has one must keep. */
  leastPasskeysOf(account: Pick<Account, 'groups'>): 0 | 1
  /** Whether people set one. */
  readonly setsPassword: boolean
  /** Whether a password needs a code beside it, of everyone or of those who have a code app. */
  readonly secondFactor: 'required' | 'optional'
  /** Whether a password leads to an application without a code, for an account without a code app. */
  takesPasswordAlone(clientId: string): boolean
  /** Whether it counts for an application at all, whosever it is. */
  takesPassword(clientId: string): boolean
  /** Whether it counts for this account, to sign in or to change how the person signs in. */
  takesPasswordOf(account: Pick<Account, 'id' | 'groups'>): Promise<boolean>
  readonly groupDemands: GroupDemands
}

/** The authentication contexts that a person of these groups needs for an application, all of them. */
export type GroupDemands = (
  groups: readonly string[] | undefined,
  clientId: string | undefined,
) => readonly string[]

/** The account page is where a person gets what is needed: it asks nothing of groups. */
export function createGroupDemands(groupAcrs: PasskeysConfig['groupAcrs']): GroupDemands {
  return (groups = [], clientId) => {
    if (clientId === securityClientId) return []
    return groupAcrs.flatMap(([group, acr]) => (groups.includes(group) ? [acr] : []))
  }
}

/** Whether something else than a password is needed, a code or a bound session beside it included. */
const needsKey = (acr: string) =>
  !meetsAcr({ amr: signInMethods.passwordAndCode, isBound: true }, acr)

/**
 * With the policy `passkey` a password leads only to My security, and only as long as its account
 * has no passkey: there the person adds the first one. With `password+second-factor` it leads there
 * without a code, as long as its account has no code app: there the person sets one up. A person of
 * a group that needs a passkey is held to the policy `passkey`, whatever that of others is.
 */
export function createSignInRules(
  { signIn, groupAcrs }: Pick<PasskeysConfig, 'signIn' | 'groupAcrs'>,
  passkeys: Pick<PasskeyTable, 'isThere'>,
): SignInRules {
  const isSecurity = (clientId: string) => clientId === securityClientId
  const groupDemands = createGroupDemands(groupAcrs)
  const isPasskeyOnly = signIn === 'passkey'
  const isCodeRequired = signIn === 'password+second-factor'
  const needsPasskey = ({ groups }: Pick<Account, 'groups'>) =>
    isPasskeyOnly || groupDemands(groups, undefined).some(needsKey)
  return {
    leastPasskeysOf: (account) => (needsPasskey(account) ? 1 : 0),
    setsPassword: !isPasskeyOnly,
    secondFactor: isCodeRequired ? 'required' : 'optional',
    takesPassword: (clientId) => !isPasskeyOnly || isSecurity(clientId),
    takesPasswordAlone: (clientId) => !(isPasskeyOnly || isCodeRequired) || isSecurity(clientId),
    takesPasswordOf: async (account) =>
      !needsPasskey(account) || !(await passkeys.isThere(account.id)),
    groupDemands,
  }
}
