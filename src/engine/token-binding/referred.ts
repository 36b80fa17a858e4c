import Provider, { errors, type KoaContextWithOIDC } from 'oidc-provider'
import { isReferredChallenge } from '../../bindings/token-binding-challenge.ts'
import type { ProvenTokenBinding } from '../../http/edge.ts'
import { override } from '../override.ts'
import { refusedFor } from '../refusal-reason.ts'

declare module 'oidc-provider' {
  interface Interaction {
    referredTbh?: string | undefined
  }
  interface AuthorizationCode {
    referredTbh?: string | undefined
  }
}

/**
 * Keeps the key that the browser has for the relying party from the first authorization request to
 * the ID tokens (OpenID Connect Token Bound Authentication draft 04 section 3). A browser sends the
 * referred binding once, with the request that the relying party's redirect leads to (RFC 8473
 * section 5.3): on the way back from login and consent it has none.
 */
export function keepReferredTokenBinding(
  engine: Provider,
  tokenBindingOf: ProvenTokenBinding,
): void {
  /**
   * Undefined where nobody needs it.
   *
   * @throws the engine's `invalid_request` where someone does and it did not come: a code or an ID
   *   token that should have been bound is not issued unbound.
   */
  function referredTbh(ctx: KoaContextWithOIDC): string | undefined {
    const { entities, params } = ctx.oidc
    const forCode = isReferredChallenge(params?.code_challenge)
    if (!forCode && !wantsBoundIdTokens(ctx)) return undefined
    const referred = tokenBindingOf(ctx)?.referred
    const fromRequest = referred === 'unsupported' ? undefined : referred?.tbh
    const { Interaction: resumed } = entities
    // The request that resumes it is another: what it refers to is not asked.
    const tbh = resumed ? resumed.referredTbh : fromRequest
    if (tbh === undefined) {
      throw refusedFor(
        'token_binding_missing',
        new errors.InvalidRequest(
          `${forCode ? 'referred_tb' : 'id_token_token_binding_cnf'} needs a referred Token Binding`,
        ),
      )
    }
    return tbh
  }

  override(
    engine,
    'Interaction',
    (Base) =>
      class extends Base {
        static override get IN_PAYLOAD() {
          return [...super.IN_PAYLOAD, 'referredTbh']
        }

        override async save(ttl: number): Promise<string> {
          const ctx = Provider.ctx
          if (ctx && ctx.oidc.entities.Interaction !== this) this.referredTbh = referredTbh(ctx)
          return super.save(ttl)
        }
      },
  )

  override(
    engine,
    'AuthorizationCode',
    (Base) =>
      class extends Base {
        static override get IN_PAYLOAD() {
          return [...super.IN_PAYLOAD, 'referredTbh']
        }

        override async save(): Promise<string> {
          const ctx = Provider.ctx
          if (ctx) this.referredTbh = referredTbh(ctx)
          return super.save()
        }
      },
  )

  override(
    engine,
    'IdToken',
    (Base) =>
      class extends Base {
        override async issue(purpose: Parameters<typeof Base.prototype.issue>[0]): Promise<string> {
          if (purpose.use === 'idtoken' && wantsBoundIdTokens(this.ctx)) {
            // By the front channel, beside the code; others are made by the token endpoint.
            const tbh = this.ctx.oidc.entities.AuthorizationCode?.referredTbh
            if (tbh === undefined)
              throw refusedFor(
                'token_binding_missing',
                new errors.InvalidRequest('no referred Token Binding'),
              )
            this.set('cnf', { ...(this.extra.cnf as object | undefined), tbh })
          }
          return super.issue(purpose)
        }
      },
  )
}

/** Section 5.1: the metadata is there, or the client does not know what to do with `cnf`. */
function wantsBoundIdTokens(ctx: KoaContextWithOIDC): boolean {
  const { id_token_token_binding_cnf } = ctx.oidc.client as unknown as Record<string, unknown>
  return id_token_token_binding_cnf !== undefined
}
