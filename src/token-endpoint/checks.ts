/**
 * What speaks against a credential, one check each. A check that passes leaves a witness in the type
 * of what it has looked at, and tokens are issued for a {@link Redeemable} only, which needs all of
 * them: a grant that forgets a check does not compile.
 */
import type { Account } from '../storage/account-store.ts'
import { type Refusal, refuse } from './refusal.ts'
import type { Found, StoredGrant, StoredSource } from './stored.ts'
import type { TokenClient } from './token-request.ts'

/**
 * That a check has passed. It exists in types alone. Its member is private so that no literal has it,
 * and that a copy by spreading, of which members can differ, has lost it.
 */
export declare class Witness<Check extends string> {
  private readonly passed: { readonly [Name in Check]: true }
}

/** A credential that nothing speaks against, with the grant and the account that it comes from. */
export type Redeemable<Source extends StoredSource = StoredSource> = Found<Source> & {
  readonly grant: StoredGrant
  readonly account: Account
} & Witness<'session'> &
  Witness<'client'> &
  Witness<'time'> &
  Witness<'use'> &
  Witness<'key'> &
  Witness<'grant'> &
  Witness<'account'>

type AnyFound = Found<StoredSource>

/** Whether the session that a credential must not outlive still exists. */
export function sessionGoesOn<What extends Pick<AnyFound, 'source' | 'session' | 'browserSession'>>(
  found: What,
): found is What & Witness<'session'> {
  const { source, session, browserSession } = found
  if (!source.expiresWithSession) return true
  const { accountId, clientId, grantId } = source
  const authorization = browserSession?.authorizations[clientId] as { grantId?: string } | undefined
  return (
    accountId !== undefined &&
    session?.accountId === accountId &&
    browserSession?.accountId === accountId &&
    authorization?.grantId === grantId
  )
}

/** Whether a credential was issued to a client. */
export function isOfClient<What extends AnyFound>(
  found: What,
  client: TokenClient,
): found is What & Witness<'client'> {
  return found.source.clientId === client.clientId
}

/** Whether a credential has not expired. */
export function isInTime<What extends AnyFound>(
  found: What,
  now: number,
): found is What & Witness<'time'> {
  return found.source.exp > now
}

/**
 * Whether a credential was not used before.
 *
 * @param repeatableSince seconds since the epoch; after that a first use may be repeated.
 */
export function isUnused<What extends AnyFound>(
  found: What,
  repeatableSince = Number.POSITIVE_INFINITY,
): found is What & Witness<'use'> {
  return found.consumedAt === null || Math.floor(found.consumedAt) > repeatableSince
}

/** Whether the grant that a credential comes from is good for a client. */
export function hasUsableGrant<What extends AnyFound>(
  found: What,
  { clientId, now }: { clientId: string; now: number },
): found is What & { readonly grant: StoredGrant } & Witness<'grant'> {
  const { grant } = found
  return grant?.clientId === clientId && (grant.exp === undefined || grant.exp > now)
}

/**
 * The credential with its account, if that is good: an account that was disabled stops everything
 * that came of it at once.
 */
export function withAccount<
  What extends AnyFound & { readonly grant: StoredGrant } & Witness<'grant'>,
>(found: What): (What & { readonly account: Account } & Witness<'account'>) | Refusal {
  const { source, account, grant } = found
  if (!account || account.disabled) return refuse('account_gone')
  if (source.accountId !== grant.accountId) return refuse('account_mismatch')
  return found as What & { readonly account: Account } & Witness<'account'>
}
