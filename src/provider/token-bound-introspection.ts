import type Provider from 'oidc-provider'
import type { KoaContextWithOIDC } from 'oidc-provider'
import { override } from './override.ts'

/**
 * Shows `cnf.tbh` to resource servers that introspect (draft-ietf-oauth-token-binding-08 section
 * 3.5), in plain answers and in signed ones (RFC 9701). The engine writes the other members of `cnf`.
 */
export function showTokenBindingInIntrospection(engine: Provider): void {
  engine.use(async (ctx, next) => {
    await next()
    if (ctx.oidc?.route === 'introspection') addTbh(ctx.body, ctx as KoaContextWithOIDC)
  })
  override(
    engine,
    'IdToken',
    (Base) =>
      class extends Base {
        override async issue(purpose: Parameters<typeof Base.prototype.issue>[0]): Promise<string> {
          if (purpose.use === 'introspection') addTbh(this.extra.token_introspection, this.ctx)
          return super.issue(purpose)
        }
      },
  )
}

/** The engine has made an empty `cnf` for whatever is sender-constrained. */
function addTbh(answer: unknown, { oidc }: KoaContextWithOIDC): void {
  const { AccessToken, ClientCredentials, RefreshToken } = oidc.entities
  const tbh = (AccessToken ?? ClientCredentials ?? RefreshToken)?.tbh
  const { cnf } = answer as { cnf?: Record<string, string> }
  if (tbh !== undefined && cnf) cnf.tbh = tbh
}
