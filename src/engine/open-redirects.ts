import type Provider from 'oidc-provider'
import { errors, type KoaContextWithOIDC } from 'oidc-provider'
import type { Extension } from './extension.ts'

declare module 'oidc-provider' {
  interface ClientMetadata {
    /** True for a client that registered itself and gets errors before a person has allowed it. */
    redirect_errors?: boolean | undefined
  }
}

/**
 * Shows a page for errors of clients that have registered themselves, where nobody has done anything
 * for them in this browser: no sign-in, and no consent at any time. Otherwise anyone could register
 * an address and have this server lead there, by `prompt=none` or a scope that does not exist (RFC
 * 9700 section 4.11.2). An administrator may excuse a client by `redirect_errors`, as OpenID Connect
 * has it. The engine tells of an error before it answers it, and looks at `allow_redirect` then.
 */
export const openRedirects: Extension = {
  extend: redirectNoStrangers,
  clientMetadata: ['redirect_errors'],
  checkClient({ redirect_errors: redirected }) {
    if (redirected === undefined || typeof redirected === 'boolean') return
    throw new errors.InvalidClientMetadata('redirect_errors must be a boolean')
  },
}

function redirectNoStrangers(engine: Provider): void {
  const keepHere = (ctx: KoaContextWithOIDC, error: Error) => {
    const { client, session, route } = ctx.oidc
    if (route !== 'authorization' || !client?.self_registered) return
    if (client.redirect_errors === true) return
    if (session?.accountId && session.grantIdFor(client.clientId)) return
    Object.assign(error, { allow_redirect: false })
    if (ctx.status < 400) ctx.status = 400
  }
  engine.on('authorization.error', keepHere)
  engine.on('server_error', keepHere)
}
