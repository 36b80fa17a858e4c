/** What the pages of an account have in common: who reads, where else there is to go, and the way in. */
import type { RouterContext } from '@koa/router'
import { type SecurityPageName, signInUrl } from '../clients/security-client.ts'
import type { FormTokens } from '../http/form-token.ts'
import { publicRoutes } from '../http/routes.ts'
import { allowScript } from '../http/script-source.ts'
import type { MessageKey } from '../pages/messages.ts'
import type { AccountFrame } from '../pages/security-page.ts'
import type { Passkeys } from '../passkeys/passkeys.ts'
import { type Reader, type Readers, signInFirst } from './reader.ts'

/** Passkeys, for pages that say something about them to their browser. */
export type PasskeyPages = Pick<Passkeys, 'isAllowed' | 'signalsOf' | 'endSignals'> & {
  /** What such a page runs. */
  readonly scriptUrl: string
}

export interface AccountPages {
  /** Shows a page to its reader; leads anyone else to a sign-in, and from there to the page. */
  show(
    ctx: RouterContext,
    name: SecurityPageName,
    render: (reader: Reader, frame: AccountFrame) => Promise<string>,
  ): Promise<void>
  /** Leads to a page, with the query of the request or without it. */
  redirect(ctx: RouterContext, name: SecurityPageName, keepsQuery?: boolean): void
}

export interface AccountPagesOptions {
  readonly readers: Readers
  readonly forms: FormTokens
  /** Whether an application may ask for approvals. */
  readonly hasApprovals: () => Promise<boolean>
  /** Whether there is something for people to do with their data. */
  readonly hasData: boolean
  readonly publicOrigin: string
  /** The public path of this server. */
  readonly base: string
  /** The script that shows local times. */
  readonly timesScript: string
}

const labels: readonly [name: SecurityPageName, label: MessageKey][] = [
  ['security_profile', 'account.profile'],
  ['security_sign_in', 'account.sign_in'],
  ['security_sessions', 'account.sessions'],
  ['security_applications', 'account.applications'],
  ['security_activity', 'account.activity'],
]
const data = ['security_data', 'account.data'] as const
const approvals = ['approvals', 'account.approvals'] as const

export function createAccountPages(options: AccountPagesOptions): AccountPages {
  const { readers, forms, hasApprovals, hasData, publicOrigin, base, timesScript } = options

  function redirect(ctx: RouterContext, name: SecurityPageName, keepsQuery = false) {
    ctx.status = 303
    // What /authorize has answered.
    ctx.redirect(base + publicRoutes[name].path + (keepsQuery ? ctx.search : ''))
  }

  async function frameOf(reader: Reader, current: SecurityPageName): Promise<AccountFrame> {
    const more = [...(hasData ? [data] : []), ...((await hasApprovals()) ? [approvals] : [])]
    const listed = [...labels, ...more]
    return {
      email: reader.account.email,
      token: forms.make(reader.sessionUid),
      pages: listed.map(([name, label]) => ({
        path: publicRoutes[name].path,
        label,
        isThis: name === current,
      })),
    }
  }

  return {
    redirect,

    async show(ctx, name, render) {
      const reader = await readers.find(ctx)
      // With the answer of /authorize, whether they have signed in or not.
      const isBack = ctx.query.iss !== undefined
      if (!reader && isBack) throw signInFirst()
      if (!reader) {
        ctx.status = 303
        ctx.redirect(signInUrl(publicOrigin + base, { to: name }))
        return
      }
      if (isBack) {
        redirect(ctx, name)
        return
      }
      allowScript(ctx, timesScript)
      ctx.type = 'html'
      ctx.body = await render(reader, await frameOf(reader, name))
    },
  }
}
