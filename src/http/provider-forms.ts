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
    if (oidc && ctx.response.is('html')) allowFormsTo(ctx, destination(oidc))
  }
}

function destination({ params, entities, redirectUriCheckPerformed }: KoaContextWithOIDC['oidc']) {
  const checked = redirectUriCheckPerformed ? params?.redirect_uri : undefined
  const uri =
    checked ?? params?.post_logout_redirect_uri ?? entities.Interaction?.params.redirect_uri
  return typeof uri === 'string' ? uri : undefined
}
