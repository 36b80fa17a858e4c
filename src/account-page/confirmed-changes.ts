/** Changes that have a page each, on which the person authenticates for just that. */
import type { RouterContext } from '@koa/router'
import type { FormBody } from '../http/form-body.ts'
import type { FormTokens } from '../http/form-token.ts'
import { allowScript } from '../http/script-source.ts'
import type { ConfirmPage } from '../pages/account-pages.ts'
import type { Views } from '../pages/views.ts'
import type { FreshAuthentication } from './fresh-authentication.ts'
import type { Reader } from './reader.ts'

/** A change, by a name that no other change of the session has. */
export type Change = Pick<ConfirmPage, 'action' | 'heading' | 'lead' | 'back' | 'field'> & {
  readonly name: string
}

export interface ConfirmedChanges {
  show(
    ctx: RouterContext,
    reader: Reader,
    change: Change,
    problem?: ConfirmPage['problem'],
  ): Promise<void>
  /** Whether the person has authenticated for a change; shows its page again where not. */
  isConfirmed(
    ctx: RouterContext,
    submitted: { reader: Reader; form: FormBody },
    change: Change,
  ): Promise<boolean>
}

export function createConfirmedChanges({
  fresh,
  forms,
  views,
  passwordScript,
}: {
  fresh: FreshAuthentication
  forms: FormTokens
  views: Pick<Views, 'confirm'>
  /** The script that shows a new password. */
  passwordScript: string
}): ConfirmedChanges {
  async function show(
    ctx: RouterContext,
    reader: Reader,
    { name, ...change }: Change,
    problem?: ConfirmPage['problem'],
  ) {
    const asked = await fresh.ask(ctx, reader, name)
    if (change.field?.isNewPassword) allowScript(ctx, passwordScript)
    const { email } = reader.account
    const token = forms.make(reader.sessionUid)
    ctx.type = 'html'
    ctx.body = views.confirm({ ...change, ...asked, email, token, ...(problem && { problem }) })
  }

  return {
    show,
    async isConfirmed(ctx, { reader, form }, change) {
      const refusal = await fresh.refusal(ctx, reader, { change: change.name, form })
      if (!refusal) return true
      ctx.status = refusal.status
      await show(ctx, reader, change, refusal.problem)
      return false
    },
  }
}
