// Modules of oidc-provider that are not its interface, as far as they are used here. The version is
// pinned, and test/provider/ is the gate for each new one.

declare module 'oidc-provider/lib/helpers/re_render_errors.js' {
  /** Shows the form for user codes again. */
  export class ReRenderError extends Error {
    status: number
    statusCode: number
    userCode?: string
    constructor(message: string, userCode?: string)
  }
  export class NoCodeError extends ReRenderError {}
  export class NotFoundError extends ReRenderError {}
  export class ExpiredError extends ReRenderError {}
  export class AlreadyUsedError extends ReRenderError {
    constructor(userCode?: string)
  }
  export class AbortedError extends ReRenderError {
    constructor()
  }
}

declare module 'oidc-provider/lib/helpers/weak_cache.js' {
  import type Provider from 'oidc-provider'
  import type { JWK, KoaContextWithOIDC } from 'oidc-provider'

  export interface ServerChallenge {
    nextChallenge(): string
    checkChallenge(nonce: string): boolean
  }

  /** What the engine keeps of a provider. */
  export function get(provider: Provider): {
    readonly keystore: object
    readonly jwks: { readonly keys: readonly JWK[] }
    readonly DPoPNonces: ServerChallenge
    readonly configuration: {
      readonly clockTolerance: number
      readonly features: {
        readonly dPoP: { requireNonce(ctx: KoaContextWithOIDC): boolean }
      }
      readonly dPoPSigningAlgValues: readonly string[]
    }
  }
}
