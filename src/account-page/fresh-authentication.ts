/**
 * What every change of a credential needs: the person authenticates for just this change, on the
 * page that makes it. There is no time after a sign-in in which a change is free, so that a session
 * which was stolen, however new it is, changes nothing.
 */
import type { RouterContext } from '@koa/router'
import type { Accounts } from '../accounts/accounts.ts'
import type { SignInRules } from '../clients/sign-in-rules.ts'
import type { CodeForms } from '../http/code-form.ts'
import type { FormBody } from '../http/form-body.ts'
import type { FormProblem, PasskeyForms } from '../http/passkey-form.ts'
import type { PasswordForms } from '../http/password-form.ts'
import { requestFacts } from '../observability/request-facts.ts'
import type { AuthenticationView } from '../pages/account-pages.ts'
import type { PasskeyTable } from '../storage/passkey-table.ts'
import type { Reader } from './reader.ts'

export interface FreshAuthentication {
  /** What a page asks the person for. */
  ask(ctx: RouterContext, reader: Reader, change: string): Promise<AuthenticationView>
  /**
   * Checks what was submitted.
   *
   * @param change the same that was asked for: a passkey that was shown for one change counts for
   * no other.
   * @returns undefined where the person has authenticated.
   */
  refusal(
    ctx: RouterContext,
    reader: Reader,
    given: { change: string; form: FormBody },
  ): Promise<FormProblem | undefined>
}

export interface FreshAuthenticationOptions {
  readonly passkeys: PasskeyForms | undefined
  readonly passwords: PasswordForms
  readonly codes: CodeForms
  readonly accounts: Pick<Accounts, 'hasPassword'>
  readonly rules: Pick<SignInRules, 'takesPasswordOf'>
  readonly table: Pick<PasskeyTable, 'listOf'>
}

export function createFreshAuthentication({
  passkeys,
  passwords,
  codes,
  accounts,
  rules,
  table,
}: FreshAuthenticationOptions): FreshAuthentication {
  const purposeOf = ({ sessionUid }: Reader, change: string) => `change ${sessionUid} ${change}`

  return {
    async ask(ctx, reader, change) {
      const { account } = reader
      const [own, takesPassword, hasPassword] = await Promise.all([
        table.listOf(account.id),
        rules.takesPasswordOf(account),
        accounts.hasPassword(account),
      ])
      const hasPasskey = passkeys && own.length > 0
      return {
        passkey: hasPasskey ? passkeys.request(ctx, purposeOf(reader, change), own) : undefined,
        password: takesPassword && hasPassword,
        code: account.hasCodeApp === true,
      }
    },

    async refusal(ctx, reader, { change, form }) {
      const { account } = reader
      const facts = { ...requestFacts(ctx), account: account.id }
      if (passkeys && form.get('credential')) {
        const purpose = purposeOf(reader, change)
        const shown = await passkeys.authenticate(ctx, {
          ...{ form, purpose, facts },
          accountId: account.id,
        })
        return shown.account ? undefined : shown
      }
      const password = form.get('password') ?? ''
      if (!password) return { status: 400, problem: 'confirm.empty' }
      const typed = await passwords.authenticate(ctx, { email: account.email, password, facts })
      if (typed.account) {
        if (!typed.account.hasCodeApp) return undefined
        const code = form.get('code') ?? ''
        const { sessionUid } = reader
        return codes.refusal(ctx, { account: typed.account, code, facts, sessionUid })
      }
      return typed.status === 401 ? { status: 401, problem: 'confirm.wrong' } : typed
    },
  }
}
