/// <reference path="./engine-internals.d.ts" />
/**
 * The engine's DeviceCode (RFC 8628), held fast to a key: whoever asks for one shows the key that its
 * tokens will be bound to, and only that key redeems it.
 */
import Provider, { errors, type KoaContextWithOIDC } from 'oidc-provider'
import { AlreadyUsedError, ReRenderError } from 'oidc-provider/lib/helpers/re_render_errors.js'
import type { Edge } from '../http/edge.ts'
import type { UserCodeLimits, UserCodeRefusal } from '../limits/user-code-limits.ts'
import { isFailure } from '../storage/device-code-adapter.ts'
import { AlreadyConsumedError } from '../storage/unit-of-work.ts'
import { type BoundCredential, clientBinding, showsKeysOf } from './binding-policy.ts'
import { invalidGrant } from './bindings/invalid-grant.ts'
import { proofWindow, provenProof, type validateProofs } from './dpop-proofs.ts'
import { override } from './override.ts'

/** Too many codes were typed that there are not: the person is told when to try again. */
export class TooManyUserCodesError extends ReRenderError {
  readonly retryAfter: number

  constructor({ retryAfter }: UserCodeRefusal) {
    super('too many user codes')
    this.status = 429
    this.statusCode = 429
    this.retryAfter = retryAfter
  }
}

export interface DeviceCodesOptions {
  readonly edge: Pick<Edge, 'proofsOf'>
  readonly proofs: ReturnType<typeof validateProofs>
  readonly limits: UserCodeLimits
}

/** Replaces the engine's DeviceCode. */
export function bindDeviceCodes(
  engine: Provider,
  { edge, proofs, limits }: DeviceCodesOptions,
): void {
  /** Binds a new code to the key of the request, whose proof is used up by that. */
  async function bind(code: BoundCredential, ctx: KoaContextWithOIDC): Promise<void> {
    const shown = edge.proofsOf(ctx.req)
    const binding = clientBinding(ctx)
    const proof = proofs(ctx)
    if (binding && !binding.hasProof(ctx, shown)) throw new errors.InvalidRequest(binding.missing)
    if (proof && !(await markProof(engine, ctx))) {
      throw new errors.InvalidRequest('DPoP proof JWT Replay detected')
    }
    if (binding) code[binding.confirmation] = await binding.presented(ctx, shown)
    else if (proof) code.jkt = proof.thumbprint
  }

  override(
    engine,
    'DeviceCode',
    (Base) =>
      class extends Base implements BoundCredential {
        declare jkt?: string | undefined
        declare 'x5t#S256'?: string | undefined
        declare tbh?: string | undefined

        static override get IN_PAYLOAD(): string[] {
          return [...super.IN_PAYLOAD, 'jkt', 'x5t#S256', 'tbh']
        }

        override async save(): Promise<string> {
          const ctx = Provider.ctx
          const isNew = ctx?.oidc.route === 'device_authorization'
          if (isNew) await bind(this, ctx)
          const value = await super.save().catch((error: unknown) => {
            if (!(error instanceof AlreadyConsumedError)) throw error
            // Two codes alike, of 25 billion: the device asks again.
            if (isNew) throw new errors.TemporarilyUnavailable('try again')
            throw new AlreadyUsedError()
          })
          if (isFailure(this.error)) return value
          const step = isNew ? 'issued' : this.error ? 'denied' : this.accountId && 'approved'
          if (ctx && step) ctx.app.emit(`device_code.${step}`, ctx, this)
          return value
        }

        /**
         * At the token endpoint, a code that this request may redeem; a wrong key finds out nothing,
         * and consumes nothing. Elsewhere, the code that an interaction is about.
         */
        static override async find<T>(
          value: string,
          options?: { ignoreExpiration?: boolean },
        ): Promise<T | undefined> {
          const ctx = Provider.ctx
          if (ctx?.oidc.route !== 'token') {
            const stored = await this.adapter.findByUid(value)
            return stored ? (new this(stored as never) as T) : undefined
          }
          const code = await super.find<InstanceType<typeof Base> & BoundCredential>(value, options)
          if (!code || code.clientId !== ctx.oidc.client?.clientId) return code as T | undefined
          const binding = clientBinding(ctx)
          if (binding && !code[binding.confirmation]) {
            throw invalidGrant('the device code is not bound to a key')
          }
          if (!(await showsKeysOf(code, ctx, edge.proofsOf(ctx.req)))) {
            throw invalidGrant('the device code is bound to another key')
          }
          if (code.accountId && !(await isSignedIn(engine, code))) {
            throw invalidGrant('the session in which the device was let in has ended')
          }
          return code as T
        }

        // The one place where a user code can be guessed.
        static override async findByUserCode(
          userCode: string,
          options?: { ignoreExpiration?: boolean },
        ) {
          const ctx = Provider.ctx
          const typed = {
            address: ctx?.state.address ?? '',
            session: ctx?.oidc.session?.uid ?? '',
          }
          const refusal = await limits.admit(typed)
          if (refusal) {
            ctx?.app.emit('user_code.limited', ctx, refusal)
            throw new TooManyUserCodesError(refusal)
          }
          const code = await super.findByUserCode(userCode, options)
          if (code) await limits.found(typed)
          else ctx?.app.emit('user_code.unknown', ctx)
          return code
        }
      },
  )
}

/**
 * Whether the session in which a person said yes goes on. They may have ended it because of this
 * very device; what outlives sessions is a refresh token that somebody has received.
 */
async function isSignedIn(
  engine: Provider,
  { accountId, sessionUid, expiresWithSession }: InstanceType<Provider['DeviceCode']>,
): Promise<boolean> {
  // Then the engine has looked.
  if (expiresWithSession) return true
  const session = await engine.Session.findByUid(sessionUid ?? '')
  return session?.accountId === accountId
}

/** Marks the proof of a request as used: false for one that was used before. */
export async function markProof(engine: Provider, ctx: KoaContextWithOIDC): Promise<boolean> {
  const proof = provenProof(ctx)
  if (!proof) return true
  const until = Math.floor(Date.now() / 1000) + proofWindow
  return engine.ReplayDetection.unique(String(ctx.oidc.client?.clientId), proof.jti, until)
}
