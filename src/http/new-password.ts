import type { Context } from 'koa'
import { AccountError } from '../accounts/account-error.ts'
import type { Accounts } from '../accounts/accounts.ts'
import { QueueFullError } from '../accounts/bounded-queue.ts'
import type { Events, Facts } from '../observability/events.ts'
import type { MessageKey } from '../pages/messages.ts'
import type { Account } from '../storage/account-store.ts'
import type { Limiter } from '../storage/limiter.ts'
import type { FormProblem } from './passkey-form.ts'

export type HashedPassword =
  | { readonly hash: string }
  | ({ readonly hash: undefined } & FormProblem)

/** New passwords in forms of our pages. */
export interface NewPasswords {
  /** Checks a new password and hashes it. Who the sender is was checked before. */
  hash(
    ctx: Pick<Context, 'set'>,
    account: Account,
    typed: { password: string; facts: Facts },
  ): Promise<HashedPassword>
}

const problems: Readonly<Partial<Record<AccountError['code'], MessageKey>>> = {
  password_guessable: 'password.guessable',
  password_too_long: 'password.too_long',
  password_too_short: 'password.too_short',
}

/** New passwords of one account that are looked at, in a time in seconds: each is work. */
export const newPasswordLimit = { name: 'new-passwords', points: 20, duration: 15 * 60 }

export function createNewPasswords({
  accounts,
  limiter,
  events,
}: {
  accounts: Pick<Accounts, 'hashNewPassword'>
  /** By account, over all nodes. */
  limiter: Limiter
  events: Pick<Events, 'rateLimited' | 'shed'>
}): NewPasswords {
  return {
    async hash(ctx, account, { password, facts }) {
      const waitS = await limiter.take(account.id)
      if (waitS !== undefined) {
        events.rateLimited(facts, 'new_passwords')
        ctx.set('retry-after', String(waitS))
        const values = { minutes: Math.ceil(waitS / 60) }
        return { hash: undefined, status: 429, problem: { key: 'sign_in.limited', values } }
      }
      try {
        return { hash: await accounts.hashNewPassword(password, account) }
      } catch (error) {
        if (error instanceof QueueFullError) {
          events.shed('passwords')
          return { hash: undefined, status: 503, problem: 'sign_in.busy' }
        }
        const problem = error instanceof AccountError && problems[error.code]
        if (!problem) throw error
        return { hash: undefined, status: 400, problem }
      }
    },
  }
}
