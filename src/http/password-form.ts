import type { Context } from 'koa'
import type { Accounts } from '../accounts/accounts.ts'
import { QueueFullError } from '../accounts/bounded-queue.ts'
import { readEmail } from '../accounts/email.ts'
import { readUsername } from '../accounts/username.ts'
import type { SignInRules } from '../clients/sign-in-rules.ts'
import type { LoginLimits } from '../limits/login-limits.ts'
import type { Events, Facts } from '../observability/events.ts'
import type { Account } from '../storage/account-store.ts'
import type { FailedSignInTable } from '../storage/failed-sign-in-table.ts'
import { clientInfo } from './client-info.ts'
import type { FormProblem } from './passkey-form.ts'

export interface PasswordFormsOptions {
  readonly accounts: Pick<Accounts, 'authenticate' | 'isBusy' | 'nameOf'>
  /** Whether a username may be typed in place of an email. */
  readonly usernames: boolean
  readonly limits: LoginLimits
  /** Failed sign-ins that the owner of an account is shown. */
  readonly failures: Pick<FailedSignInTable, 'add'>
  readonly rules: Pick<SignInRules, 'takesPasswordOf'>
  readonly events: Pick<Events, 'signInFailed' | 'rateLimited' | 'shed'>
}

export type TypedPassword =
  | { readonly account: Account }
  | ({ readonly account: undefined } & FormProblem)

/** Passwords in forms of our pages. */
export interface PasswordForms {
  /**
   * Authenticates by an email or username and a password, and counts the attempt. The answer is the same for an
   * unknown email, a wrong password and an account whose password does not count.
   */
  authenticate(
    ctx: Context,
    typed: { email: string; password: string; facts: Facts },
  ): Promise<TypedPassword>
}

export function createPasswordForms({
  accounts,
  usernames,
  limits,
  failures,
  rules,
  events,
}: PasswordFormsOptions): PasswordForms {
  function busy(): TypedPassword {
    events.shed('passwords')
    return { account: undefined, status: 503, problem: 'sign_in.busy' }
  }

  /** One name for all that an account can be typed by: two names have no more attempts than one. */
  async function nameOf(typed: string) {
    const username = usernames ? readUsername(typed) : undefined
    return username === undefined ? readEmail(typed) : accounts.nameOf(username)
  }

  return {
    async authenticate(ctx, { email, password, facts }) {
      if (!email.trim() || !password) {
        return { account: undefined, status: 400, problem: 'sign_in.empty' }
      }
      // Before the attempt is counted: people must not be locked out by a flood of others.
      if (accounts.isBusy()) return busy()
      const canonical = await nameOf(email)
      const attempt = { email: canonical, address: facts.address ?? '' }
      const admission = await limits.admit(attempt)
      if (admission.refusal) {
        const { limit, retryAfter } = admission.refusal
        events.rateLimited(facts, limit)
        ctx.set('retry-after', String(retryAfter))
        const values = { minutes: Math.ceil(retryAfter / 60) }
        return { account: undefined, status: 429, problem: { key: 'sign_in.limited', values } }
      }
      const authentication = await accounts
        .authenticate(canonical, password, admission)
        .catch((error: unknown) => {
          if (!(error instanceof QueueFullError)) throw error
          return 'busy' as const
        })
      if (authentication === 'busy') return busy()
      const { account } = authentication
      if (account && (await rules.takesPasswordOf(account))) {
        await limits.succeeded(attempt)
        return { account }
      }
      const of = account ? account.id : authentication.of
      events.signInFailed({ ...facts, account: of })
      // Beside the answer, which takes as long for an unknown email.
      if (of) failures.add(of, clientInfo(ctx)).catch((error) => ctx.app.emit('error', error, ctx))
      return { account: undefined, status: 401, problem: 'sign_in.wrong' }
    },
  }
}
