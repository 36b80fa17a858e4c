import type { Context } from 'koa'
import { readEmail } from '../accounts/email.ts'
import { canonicalCode, printedCodeDigest, stepOfCode } from '../accounts/one-time-codes.ts'
import type { Vault } from '../keys/vault.ts'
import type { LoginLimits } from '../limits/login-limits.ts'
import type { Events, Facts } from '../observability/events.ts'
import type { SecurityEvents } from '../observability/security-events.ts'
import type { Account } from '../storage/account-store.ts'
import type { SecondFactorTable } from '../storage/second-factor-table.ts'
import { clientInfo } from './client-info.ts'
import type { FormProblem } from './passkey-form.ts'

/** Codes of a code app, and recovery codes, in forms of our pages. */
export interface CodeForms {
  /**
   * Checks the code of an account whose password was checked before, and uses it up. The attempt is
   * counted.
   *
   * @returns undefined where the code is right.
   */
  refusal(
    ctx: Context,
    given: { account: Account; code: string; facts: Facts; sessionUid?: string },
  ): Promise<FormProblem | undefined>
}

export interface CodeFormsOptions {
  readonly table: Pick<SecondFactorTable, 'findCodeApp' | 'useStep' | 'useRecoveryCode' | 'reseal'>
  readonly vault: Vault
  readonly limits: LoginLimits
  readonly events: Pick<Events, 'signInFailed' | 'rateLimited'>
  readonly securityEvents: Pick<SecurityEvents, 'record' | 'report'>
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

/** What is sealed belongs to the code app of one account. */
export const codeAppOf = (accountId: string) => `code app ${accountId}`

export function createCodeForms({
  table,
  vault,
  limits,
  events,
  securityEvents,
  now,
}: CodeFormsOptions): CodeForms {
  async function usesCode(accountId: string, code: string): Promise<boolean> {
    const app = await table.findCodeApp(accountId)
    const opened = app && (await vault.open(app.sealed, codeAppOf(accountId)))
    const step = opened && stepOfCode(opened.text, code, now())
    if (step === undefined || !(await table.useStep(accountId, step))) return false
    if (opened?.isOld && app) {
      await table.reseal(accountId, app.sealed, await vault.seal(opened.text, codeAppOf(accountId)))
    }
    return true
  }

  return {
    async refusal(ctx, { account, code: typed, facts, sessionUid }) {
      const code = canonicalCode(typed)
      if (!code) return { status: 400, problem: 'code.empty' }
      const attempt = { email: readEmail(account.email), address: facts.address ?? '' }
      const { refusal } = await limits.admit(attempt)
      if (refusal) {
        events.rateLimited(facts, refusal.limit)
        ctx.set('retry-after', String(refusal.retryAfter))
        const values = { minutes: Math.ceil(refusal.retryAfter / 60) }
        return { status: 429, problem: { key: 'sign_in.limited', values } }
      }
      const digest = printedCodeDigest(code)
      const about = { accountId: account.id, sessionUid, ...clientInfo(ctx) }
      const isRight = digest
        ? await table.useRecoveryCode(digest, about)
        : await usesCode(account.id, code)
      if (isRight) {
        if (digest) securityEvents.report('recovery_code_used', about)
        await limits.succeeded(attempt)
        return undefined
      }
      events.signInFailed({ ...facts, account: account.id })
      // Who types it knows the password.
      await securityEvents.record('code_refused', about)
      return { status: 401, problem: 'code.wrong' }
    },
  }
}
