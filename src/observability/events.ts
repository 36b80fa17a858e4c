import type Koa from 'koa'
import type Provider from 'oidc-provider'
import type { errors, KoaContextWithOIDC } from 'oidc-provider'
import { bindingMethodOf } from '../provider/binding-policy.ts'
import type { KeyChange } from '../provider/key-renewal.ts'
import type { StoredClient } from '../storage/client-table.ts'
import type { Log } from './log.ts'

type ProtocolError = errors.OIDCProviderError

/** What the operator reads of what the engine does. Never a token, code, key or cookie value. */
export function logEngineEvents(engine: Provider, log: Log): void {
  const refused = (event: string) => (ctx: KoaContextWithOIDC, error: ProtocolError) => {
    log.warn(
      { event, ...about(ctx), error: error.error, detail: error.error_detail ?? error.message },
      'refused',
    )
  }
  engine.on('authorization.error', refused('authorization.error'))
  engine.on('end_session.error', refused('end_session.error'))
  engine.on('grant.error', refused('grant.error'))
  engine.on('introspection.error', refused('introspection.error'))
  engine.on('pushed_authorization_request.error', refused('pushed_authorization_request.error'))
  engine.on('revocation.error', refused('revocation.error'))
  engine.on('userinfo.error', refused('userinfo.error'))
  engine.on('server_error', (ctx: KoaContextWithOIDC, error: Error) => {
    log.error({ event: 'server_error', ...about(ctx), err: error }, 'failed')
  })
  const app: Koa = engine
  app.on('error', (error: NodeJS.ErrnoException) => {
    if (isHangUp(error)) log.debug({ event: 'hang_up', code: error.code }, 'the client hung up')
    else log.error({ event: 'error', err: error }, 'failed')
  })
  app.on('edge.refused', (ctx: KoaContextWithOIDC, reason: string) => {
    log.warn(
      { event: 'edge.refused', ...about(ctx), peer: ctx.req.socket.remoteAddress, reason },
      'refused',
    )
  })
  app.on('client_certificate.untrusted', (ctx: KoaContextWithOIDC, reason: string) => {
    log.warn({ event: 'client_certificate.untrusted', ...about(ctx), reason }, 'refused')
  })
  app.on('refresh_token.successor_named', (ctx: KoaContextWithOIDC, keys: KeyChange) => {
    log.warn({ event: 'refresh_token.successor_named', ...about(ctx), ...keys }, 'next key named')
  })
  app.on('refresh_token.rebound', (ctx: KoaContextWithOIDC, keys: KeyChange) => {
    log.warn({ event: 'refresh_token.rebound', ...about(ctx), ...keys }, 'bound to the next key')
  })
  engine.on('grant.success', (ctx: KoaContextWithOIDC) => {
    log.info({ event: 'grant.success', ...about(ctx) }, 'tokens issued')
  })
  engine.on('grant.revoked', (ctx: KoaContextWithOIDC) => {
    log.warn({ event: 'grant.revoked', ...about(ctx) }, 'a grant and all its tokens ended')
  })
}

/** Says at each start which clients have asked for tokens that whoever steals them can use. */
export function logBearerClients(clients: readonly StoredClient[], log: Log): void {
  for (const { metadata } of clients) {
    if (bindingMethodOf(metadata) !== 'bearer') continue
    log.warn({ event: 'client.bearer', client: metadata.client_id }, 'tokens are bound to nothing')
  }
}

/** What a connection ends with when its client goes away in the middle of a request. */
function isHangUp({ code = '' }: NodeJS.ErrnoException): boolean {
  return /^(ECONNRESET|ECONNABORTED|EPIPE|ERR_STREAM_PREMATURE_CLOSE|HPE_\w+)$/.test(code)
}

function about(ctx: KoaContextWithOIDC) {
  const { oidc } = ctx
  return {
    route: oidc?.route,
    client: oidc?.client?.clientId,
    grantType: oidc?.params?.grant_type,
    requestId: ctx.state.requestId,
  }
}
