import type { Context, Middleware } from 'koa'
import type { KoaContextWithOIDC } from 'oidc-provider'
import { allowFormsTo } from './form-action.ts'

/**
 * Some pages of oidc-provider are a form that submits itself: response_mode=form_post posts to the
 * relying party, and a logout in between is followed by a redirect to it.
 */
export function allowProviderForms(): Middleware {
  return async (ctx, next) => {
    await next()
    const { oidc } = ctx as Context & Partial<KoaContextWithOIDC>
    if (oidc && ctx.response.is('html')) allowFormsTo(ctx, destination(oidc, ctx.status))
  }
}

function destination(
  { params, entities, client, redirectUriCheckPerformed }: KoaContextWithOIDC['oidc'],
  status: number,
) {
  const checked = redirectUriCheckPerformed ? params?.redirect_uri : undefined
  // The engine looks at this one only for a client, and refuses what is not registered.
  const afterLogout = client && status < 400 ? params?.post_logout_redirect_uri : undefined
  const uri = checked ?? afterLogout ?? entities.Interaction?.params.redirect_uri
  return typeof uri === 'string' ? uri : undefined
}
