import Provider, { errors, type KoaContextWithOIDC } from 'oidc-provider'
import type { TokenBindingOf } from '../http/token-binding-reader.ts'
import { clientBinding } from './binding-policy.ts'
import { invalidGrant } from './bindings/invalid-grant.ts'
import { referredTbh } from './bindings/token-binding.ts'
import { override } from './override.ts'

declare module 'oidc-provider' {
  interface RefreshToken {
    tbh?: string | undefined
  }
  interface AccessToken {
    tbh?: string | undefined
  }
  interface ClientCredentials {
    tbh?: string | undefined
  }
}

/**
 * Binds tokens to the keys of the client's TLS connections (draft-ietf-oauth-token-binding-08). A
 * refresh token is for this server, and bound to the provided ID (section 2). An access token is for
 * another server, and bound to the ID that the client provides there: here, the referred one
 * (section 3.2). Where this server is the resource, that is the provided one again.
 */
export function bindTokensByTokenBinding(engine: Provider, tokenBindingOf: TokenBindingOf): void {
  keepTbh(engine, 'RefreshToken')
  keepTbh(engine, 'AccessToken')
  keepTbh(engine, 'ClientCredentials')
  checkRefreshTokens(engine, tokenBindingOf)
  bindAccessTokens(engine, tokenBindingOf)
}

type TokenName = 'RefreshToken' | 'AccessToken' | 'ClientCredentials'

function keepTbh<Name extends TokenName>(engine: Provider, name: Name): void {
  const keep = (Base: Provider['AccessToken']) =>
    class extends Base {
      static override get IN_PAYLOAD() {
        return [...super.IN_PAYLOAD, 'tbh']
      }

      override isSenderConstrained(): boolean {
        return this.tbh !== undefined || super.isSenderConstrained()
      }
    }
  // What the three classes differ in is not touched.
  override(engine, name, keep as unknown as (Base: Provider[Name]) => Provider[Name])
}

function checkRefreshTokens(engine: Provider, tokenBindingOf: TokenBindingOf): void {
  override(
    engine,
    'RefreshToken',
    (Base) =>
      class extends Base {
        override async save(): Promise<string> {
          // Inherited, whatever the client's metadata says by now.
          this.tbh = Provider.ctx?.oidc.entities.RotatedRefreshToken?.tbh
          return super.save()
        }

        static override async find<T>(
          value: string,
          options?: { ignoreExpiration?: boolean },
        ): Promise<T | undefined> {
          const token = await super.find(value, options)
          const ctx = Provider.ctx
          // Section 7.1: every mismatch is fatal, and a connection without a key is one.
          if (token?.tbh !== undefined && ctx?.oidc.route === 'token') {
            if (token.tbh !== tokenBindingOf(ctx.req)?.provided.tbh) {
              throw invalidGrant('the refresh token is bound to another Token Binding')
            }
          }
          return token as T | undefined
        }
      },
  )
}

function bindAccessTokens(engine: Provider, tokenBindingOf: TokenBindingOf): void {
  function tbhFor(audience: unknown, ctx: KoaContextWithOIDC): string | undefined {
    if (clientBinding(ctx)?.method !== 'token-binding') return undefined
    const proof = tokenBindingOf(ctx.req)
    const isForThisServer = audience === undefined || audience === engine.issuer
    const tbh = isForThisServer ? proof?.provided.tbh : referredTbh(proof)
    // The resource may be one that only the code or refresh token names.
    if (tbh === undefined) {
      throw invalidGrant('an access token for this resource needs a referred Token Binding')
    }
    return tbh
  }

  override(
    engine,
    'AccessToken',
    (Base) =>
      class extends Base {
        override async save(): Promise<string> {
          const ctx = Provider.ctx
          this.tbh = ctx && tbhFor(this.aud, ctx)
          return super.save()
        }

        static override async find<T>(
          value: string,
          options?: { ignoreExpiration?: boolean },
        ): Promise<T | undefined> {
          const token = await super.find(value, options)
          const ctx = Provider.ctx
          // Section 3.3, where this server is the resource.
          if (token?.tbh !== undefined && ctx?.oidc.route === 'userinfo') {
            if (token.tbh !== tokenBindingOf(ctx.req)?.provided.tbh) {
              throw new errors.InvalidToken('failed tbh verification')
            }
          }
          return token as T | undefined
        }
      },
  )
  override(
    engine,
    'ClientCredentials',
    (Base) =>
      class extends Base {
        override async save(): Promise<string> {
          const ctx = Provider.ctx
          this.tbh = ctx && tbhFor(this.aud, ctx)
          return super.save()
        }
      },
  )
}

/** Section 3.4. The engine writes the other members of `cnf`. */
export function confirmTokenBinding(
  _ctx: KoaContextWithOIDC,
  { tbh }: { tbh?: string | undefined },
  { payload }: { payload: Record<string, unknown> },
): void {
  if (tbh !== undefined) payload.cnf = { ...(payload.cnf as object | undefined), tbh }
}
