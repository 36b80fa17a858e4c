import type { Configuration, KoaContextWithOIDC } from 'oidc-provider'
import { allowFormsTo } from '../http/form-action.ts'
import { oauthErrorMessage } from '../pages/error-messages.ts'
import type { Views } from '../pages/views.ts'

type RpInitiatedLogout = NonNullable<NonNullable<Configuration['features']>['rpInitiatedLogout']>

export interface ProviderPages {
  renderError: NonNullable<Configuration['renderError']>
  logoutSource: NonNullable<RpInitiatedLogout['logoutSource']>
  postLogoutSuccessSource: NonNullable<RpInitiatedLogout['postLogoutSuccessSource']>
}

/** The pages that oidc-provider asks its host to draw, by the names of its options. */
export function createProviderPages(
  views: Pick<Views, 'error' | 'signOut' | 'signedOut'>,
): ProviderPages {
  return {
    renderError(ctx, out, error) {
      // The engine redirects with a code, and saves its session after that: when that fails, the
      // code must not stand in the answer.
      ctx.remove('location')
      ctx.type = 'html'
      ctx.body = views.error({ ...oauthErrorMessage(out, error), requestId: ctx.state.requestId })
    },

    logoutSource(ctx, form) {
      const { params } = ctx.oidc
      if (typeof params?.post_logout_redirect_uri === 'string') {
        allowFormsTo(ctx, params.post_logout_redirect_uri)
      }
      ctx.type = 'html'
      ctx.body = views.signOut({ form, formId: 'op.logoutForm', ...clientName(ctx) })
    },

    async postLogoutSuccessSource(ctx) {
      const session = await ctx.oidc.provider.Session.get(ctx)
      ctx.type = 'html'
      ctx.body = views.signedOut({ stillSignedIn: Boolean(session.accountId), ...clientName(ctx) })
    },
  }
}

function clientName(ctx: KoaContextWithOIDC): { clientName?: string } {
  const { client } = ctx.oidc
  return client ? { clientName: client.clientName ?? client.clientId } : {}
}
