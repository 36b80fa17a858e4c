import type { KoaContextWithOIDC } from 'oidc-provider'
import type { Edge } from '../http/edge.ts'
import type { Binding } from './bindings/binding.ts'

/*
 * A refresh token outlives certificates, and sometimes keys. Bound to one key for ever it would
 * send a person to sign in again at each renewal. Where the operator allows it, the key takes its
 * leave instead: it names its successor in a refresh, and for the overlap both are good, until the
 * successor is used. A certificate that authenticates the client has been named by registration.
 */

/** The parameter of a refresh that names the next key. */
export const successorParameter = 'successor'

/** The key that may take over, and until when, in seconds since the epoch. */
export interface Successor {
  readonly confirmation: string
  readonly until: number
}

/** What is needed of a refresh token. */
export interface RenewableToken {
  readonly clientId?: string | undefined
  jkt?: string | undefined
  'x5t#S256'?: string | undefined
  tbh?: string | undefined
  successor?: Successor | undefined
  /** The key whose place another has taken in this request. */
  reboundFrom?: string
}

/** Confirmations, for the log. */
export interface KeyChange {
  readonly from: string | undefined
  readonly to: string | undefined
}

export type KeyRenewal = ReturnType<typeof createKeyRenewal>

export function createKeyRenewal({
  edge,
  overlap,
  now = () => Math.floor(Date.now() / 1000),
}: {
  edge: Pick<Edge, 'proofsOf'>
  /** Seconds. */
  overlap: number
  now?: () => number
}) {
  const changes = new WeakMap<KoaContextWithOIDC, [event: string, change: KeyChange][]>()
  return {
    /**
     * Looks at a refresh token that was found and not consumed yet. When the key of the request is
     * one that may take over, the token is taken for bound to it; the engine then compares that
     * with the proof it has verified, as ever.
     */
    async prepare(
      ctx: KoaContextWithOIDC,
      { confirmation, presented, readSuccessor }: Binding,
      token: RenewableToken,
    ): Promise<void> {
      if (token.clientId !== ctx.oidc.client?.clientId) return
      const key = await presented(ctx, edge.proofsOf(ctx.req))
      const bound = token[confirmation]
      if (key && bound && key !== bound && mayTakeOver(ctx, confirmation, token, key, now())) {
        token[confirmation] = key
        token.reboundFrom = bound
        token.successor = undefined
      }
      const named = ctx.oidc.params?.[successorParameter]
      // Whoever cannot prove the present key names nobody: the engine refuses that request.
      if (typeof named === 'string') {
        token.successor = { confirmation: readSuccessor(named, ctx), until: now() + overlap }
      }
    },

    /** Gives a refresh token that follows another the successor of that one. */
    carryOver(ctx: KoaContextWithOIDC, token: RenewableToken): void {
      const before = ctx.oidc.entities.RotatedRefreshToken as RenewableToken | undefined
      if (!before) return
      const bound = token['x5t#S256'] ?? token.jkt ?? token.tbh
      token.successor = before.successor
      const made: [string, KeyChange][] = []
      if (before.reboundFrom) {
        made.push(['refresh_token.rebound', { from: before.reboundFrom, to: bound }])
      }
      if (ctx.oidc.params?.[successorParameter]) {
        const to = token.successor?.confirmation
        made.push(['refresh_token.successor_named', { from: bound, to }])
      }
      changes.set(ctx, made)
    },

    /** Tells of what is stored now. Before that, all of it could still come to nothing. */
    announce(ctx: KoaContextWithOIDC): void {
      for (const [event, change] of changes.get(ctx) ?? []) ctx.app.emit(event, ctx, change)
    },
  }
}

const certificateMethods = ['tls_client_auth', 'self_signed_tls_client_auth']

function mayTakeOver(
  ctx: KoaContextWithOIDC,
  confirmation: Binding['confirmation'],
  { successor }: RenewableToken,
  key: string,
  now: number,
): boolean {
  if (successor?.confirmation === key && now < successor.until) return true
  // RFC 8705 section 7.1: the client has authenticated by this very certificate.
  const method = ctx.oidc.client?.clientAuthMethod ?? ''
  return confirmation === 'x5t#S256' && certificateMethods.includes(method)
}
