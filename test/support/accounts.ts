import type { Accounts } from '../../src/accounts/accounts.ts'
import { readEmail } from '../../src/accounts/email.ts'
import type { Account } from '../../src/storage/account-store.ts'

export const testPassword = 'a password for tests'

/** The least that argon2 accepts: the suite tests us, not the hash. */
export const cheapCost = { memoryCost: 8, timeCost: 1, parallelism: 1 }

/** The account that somebody signs in to with what they type, if it is right. */
export async function authenticated(
  accounts: Accounts,
  typed: string,
  password: string,
): Promise<Account | undefined> {
  return (await accounts.authenticate(readEmail(typed), password)).account
}
