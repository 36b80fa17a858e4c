import type { AccountLinks, MadeLink } from '../accounts/account-links.ts'
import type { Accounts, NewAccount } from '../accounts/accounts.ts'
import { endedChainMemoryS } from '../config/lifetimes.ts'
import type { ResetFactors } from '../storage/account-link-table.ts'
import type { Account, AccountChange, Profile } from '../storage/account-store.ts'
import type { AdminQueries } from '../storage/admin-queries.ts'
import type { ArtifactTable, Installation } from '../storage/artifact-table.ts'
import type { Passkey, PasskeyTable } from '../storage/passkey-table.ts'
import type { RecordChange } from './administration.ts'
import { AdministrationError } from './administration-error.ts'

/** An account with the link in which its person sets how to sign in, if there is one. */
export type AddedAccount = Account & Partial<MadeLink>

export interface SignedOut {
  /** In how many browsers the person was signed in. */
  readonly ended: number
  /** How many grants have ended, each with its tokens. */
  readonly revoked: number
}

type Loose<T> = { readonly [Name in keyof T]?: T[Name] | undefined }

/** What an administrator asks for: undefined is as good as left out. */
export type RequestedAccount = Loose<
  Profile & Omit<NewAccount, 'email' | 'emailVerified' | 'phoneVerified'>
> & {
  readonly email: string
  readonly emailVerified?: boolean | undefined
  readonly phoneVerified?: boolean | undefined
}

export type RequestedChange = Loose<Omit<AccountChange, 'profile'>> & {
  readonly profile?: Loose<NonNullable<AccountChange['profile']>> | undefined
}

function withoutUndefined<T extends object>(given: T): T {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as T
}

/** A passkey, as administrators see it: its keys are for browsers. */
export type ShownPasskey = Omit<Passkey, 'accountId' | 'credentialId'>

/** A link, and what was ended. */
export type ResetAccount = MadeLink & SignedOut

export interface AccountTables {
  readonly issued: Pick<AdminQueries, 'revokeGrantsOf'>
  readonly passkeys: PasskeyTable
  readonly artifacts: Pick<ArtifactTable, 'endInstallation' | 'listInstallationsOf'>
}

/** The people who can sign in, by their email. */
export function administerAccounts(
  accounts: Accounts,
  { issued, passkeys, artifacts }: AccountTables,
  links: Pick<AccountLinks, 'invite' | 'reset'>,
  recordChange: RecordChange,
) {
  return {
    list: () => accounts.list(),

    /** Without a password, its person sets a passkey or a password by the link. */
    async add({ emailVerified, phoneVerified, ...about }: RequestedAccount): Promise<AddedAccount> {
      const account = await accounts.add({
        ...withoutUndefined(about),
        ...(emailVerified && { emailVerified: true }),
        ...(phoneVerified && { phoneVerified: true }),
      } as NewAccount)
      recordChange('account.added', { account: account.id })
      if (about.password !== undefined) return account
      return { ...account, ...(await links.invite(account.email)) }
    },

    /** Makes a new link. What its person signs in with works until the link is used. */
    async invite(email: string): Promise<MadeLink> {
      const { id } = await accounts.find(email)
      const made = await links.invite(email)
      recordChange('account.invited', { account: id })
      return made
    },

    /** Makes a new link. The password, sessions and grants end at once, and what else is asked for. */
    async reset(
      email: string,
      { passkeys: all = false, codeApp = false }: Partial<ResetFactors> = {},
    ): Promise<ResetAccount> {
      const { id } = await accounts.find(email)
      const also = { passkeys: all, codeApp }
      const { ended, revoked, ...made } = await links.reset(email, also)
      recordChange('account.reset', { account: id }, { ended, revoked, ...also })
      return { ...made, ended, revoked }
    },

    /** Members that are undefined stay as they are. */
    async change(email: string, change: RequestedChange): Promise<Account> {
      const asked = withoutUndefined({
        ...change,
        profile: withoutUndefined(change.profile ?? {}),
      })
      const account = await accounts.change(email, asked as AccountChange)
      const { profile, ...others } = asked
      const changed = [...Object.keys(others), ...Object.keys(profile ?? {})]
      recordChange('account.changed', { account: account.id }, { changed })
      return account
    },

    /** Removes an account for ever. The audit trail keeps its id. */
    async remove(email: string): Promise<SignedOut> {
      const { id, ended, revoked } = await accounts.remove(email)
      recordChange('account.removed', { account: id }, { ended, revoked })
      return { ended, revoked }
    },

    async disable(email: string): Promise<void> {
      const { id } = await accounts.find(email)
      await accounts.disable(email)
      recordChange('account.disabled', { account: id })
    },

    async enable(email: string): Promise<void> {
      const { id } = await accounts.find(email)
      await accounts.enable(email)
      recordChange('account.enabled', { account: id })
    },

    /** Ends every sign-in of a person, and with `tokens` everything that applications hold. */
    async signOut(email: string, { tokens = false } = {}): Promise<SignedOut> {
      const { id } = await accounts.find(email)
      // First the sessions: from one that is still there a new grant could come.
      const ended = await accounts.signOut(email)
      const revoked = tokens ? await issued.revokeGrantsOf(id) : 0
      recordChange('account.signed_out', { account: id }, { ended, revoked })
      return { ended, revoked }
    },

    async setPassword(email: string, password: string): Promise<void> {
      const { id } = await accounts.find(email)
      await accounts.setPassword(email, password)
      recordChange('account.password_set', { account: id })
    },

    async listPasskeys(email: string): Promise<ShownPasskey[]> {
      const own = await passkeys.listOf((await accounts.find(email)).id)
      return own.map(({ accountId: _, credentialId: __, ...shown }) => shown)
    },

    /** Removes a passkey, and ends every sign-in of its account. */
    async removePasskey(email: string, id: string): Promise<void> {
      const { id: accountId } = await accounts.find(email)
      const by = { accountId, sessionUid: undefined, address: undefined, userAgent: undefined }
      if (!(await passkeys.remove(id, 0, by))) {
        throw new AdministrationError('not_found', `${email} has no passkey ${id}`)
      }
      recordChange('account.passkey_removed', { account: accountId }, { passkey: id })
    },

    /** The copies of applications that hold tokens of an account, by their keys. */
    listInstallations: async (email: string): Promise<Installation[]> =>
      artifacts.listInstallationsOf((await accounts.find(email)).id),

    /** Ends the tokens that are bound to a key; JWT access tokens live to their `exp`. */
    async endInstallation(email: string, jkt: string): Promise<void> {
      const { id: accountId } = await accounts.find(email)
      const which = { accountId, jkt, rememberSeconds: endedChainMemoryS }
      if (!(await artifacts.endInstallation(which))) {
        throw new AdministrationError('not_found', `${email} has no installation ${jkt}`)
      }
      recordChange('installation.ended', { account: accountId }, { jkt })
    },

    /** @throws AccountError `account_not_found` */
    idOf: async (email: string): Promise<string> => (await accounts.find(email)).id,
  }
}
