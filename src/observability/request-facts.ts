import type { Context } from 'koa'
import type { KoaContextWithOIDC } from 'oidc-provider'
import type { Facts } from './events.ts'

/** What is known of a request by now. */
export function requestFacts(ctx: Context | KoaContextWithOIDC): Facts {
  const { oidc } = ctx as Partial<KoaContextWithOIDC>
  const token = oidc?.entities.AccessToken
  return {
    requestId: ctx.state.requestId,
    address: ctx.state.address,
    client: oidc?.client?.clientId,
    account: oidc?.account?.accountId ?? token?.accountId ?? oidc?.session?.accountId,
  }
}
