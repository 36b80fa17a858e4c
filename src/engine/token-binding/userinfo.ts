import Provider, { errors } from 'oidc-provider'
import type { ProvenTokenBinding } from '../../http/edge.ts'
import { override } from '../override.ts'
import { refusedFor } from '../refusal-reason.ts'

declare module 'oidc-provider' {
  interface AccessToken {
    tbh?: string | undefined
  }
}

/**
 * Userinfo is an API like any other: a token that is bound to a Token Binding ID is good with that one
 * only (draft-ietf-oauth-token-binding-08 section 3.3).
 */
export function checkTokenBindingAtUserinfo(
  engine: Provider,
  tokenBindingOf: ProvenTokenBinding,
): void {
  override(
    engine,
    'AccessToken',
    (Base) =>
      class extends Base {
        static override async find<T>(
          value: string,
          options?: { ignoreExpiration?: boolean },
        ): Promise<T | undefined> {
          const token = await super.find(value, options)
          const ctx = Provider.ctx
          if (token?.tbh !== undefined && ctx?.oidc.route === 'userinfo') {
            if (token.tbh !== tokenBindingOf(ctx)?.provided.tbh) {
              throw refusedFor('key_mismatch', new errors.InvalidToken('failed tbh verification'))
            }
          }
          return token as T | undefined
        }
      },
  )
}
