import type { RouterContext } from '@koa/router'
import type { Provider } from 'oidc-provider'
import type { Accounts } from '../accounts/accounts.ts'
import { type ClientInfo, clientInfo } from '../http/client-info.ts'
import { type FormBody, readForm } from '../http/form-body.ts'
import type { FormTokens } from '../http/form-token.ts'
import { PageError } from '../pages/page-error.ts'
import type { Account } from '../storage/account-store.ts'

/** Who reads an account page, in which session: one whose key was proven, as on every page. */
export interface Reader {
  readonly sessionUid: string
  readonly account: Account
  /** What events say of a change. */
  readonly about: ClientInfo & { readonly accountId: string; readonly sessionUid: string }
}

export interface Readers {
  find(ctx: RouterContext): Promise<Reader | undefined>
  /** @throws PageError for a request without a session. */
  require(ctx: RouterContext): Promise<Reader>
  /** @throws PageError for a form that is not of this reader's pages. */
  submitted(ctx: RouterContext): Promise<{ reader: Reader; form: FormBody }>
}

export function createReaders({
  provider,
  accounts,
  forms,
}: {
  provider: Provider
  accounts: Pick<Accounts, 'findActive'>
  forms: FormTokens
}): Readers {
  async function find(ctx: RouterContext): Promise<Reader | undefined> {
    const { uid: sessionUid, accountId } = await provider.Session.get(ctx)
    const account = accountId && (await accounts.findActive(accountId))
    if (!account) return undefined
    return { sessionUid, account, about: { accountId, sessionUid, ...clientInfo(ctx) } }
  }

  async function require(ctx: RouterContext): Promise<Reader> {
    const reader = await find(ctx)
    if (!reader) throw signInFirst()
    return reader
  }

  return {
    find,
    require,
    async submitted(ctx) {
      const reader = await require(ctx)
      const form = await readForm(ctx)
      if (!forms.accepts(reader.sessionUid, form.get('token') ?? '')) {
        throw new PageError('invalid_form', 'Expected the token of this session')
      }
      return { reader, form }
    },
  }
}

export function signInFirst(): PageError {
  return new PageError('sign_in_first', 'Expected a session')
}
