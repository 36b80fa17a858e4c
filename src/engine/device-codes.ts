/// <reference path="./engine-internals.d.ts" />
/**
 * The engine's DeviceCode (RFC 8628), bound to a key: the client that asks for one shows the key that its
 * tokens will be bound to, and only that key redeems it.
 */
import Provider, { errors } from 'oidc-provider'
import { AlreadyUsedError, ReRenderError } from 'oidc-provider/lib/helpers/re_render_errors.js'
import type { UserCodeLimits, UserCodeRefusal } from '../limits/user-code-limits.ts'
import { AlreadyConsumedError } from '../storage/already-consumed.ts'
import { isFailure } from '../storage/device-code-adapter.ts'
import { grantedDetails } from './authorization-details.ts'
import { browserOf } from './browser-state.ts'
import { override } from './override.ts'
import { refusedFor } from './refusal-reason.ts'
import { type ShownKeyOptions, shownKey } from './shown-key.ts'

/** Too many incorrect codes: the page says when to try again. */
export class TooManyUserCodesError extends ReRenderError {
  readonly retryAfter: number

  constructor({ retryAfter }: UserCodeRefusal) {
    super('too many user codes')
    this.status = 429
    this.statusCode = 429
    this.retryAfter = retryAfter
  }
}

export interface DeviceCodesOptions extends ShownKeyOptions {
  readonly limits: UserCodeLimits
}

/** Replaces the engine's DeviceCode. */
export function bindDeviceCodes(
  engine: Provider,
  { edge, proofs, limits, now }: DeviceCodesOptions,
): void {
  override(
    engine,
    'DeviceCode',
    (Base) =>
      class extends Base {
        declare jkt?: string | undefined
        declare 'x5t#S256'?: string | undefined
        declare tbh?: string | undefined

        static override get IN_PAYLOAD(): string[] {
          return [...super.IN_PAYLOAD, 'jkt', 'x5t#S256', 'tbh']
        }

        override async save(): Promise<string> {
          const ctx = Provider.ctx
          const isNew = ctx?.oidc.route === 'device_authorization'
          if (isNew) Object.assign(this, await shownKey(ctx, { edge, proofs, now }))
          else if (ctx && this.accountId) this.rar = grantedDetails(ctx)
          const value = await super.save().catch((error: unknown) => {
            if (!(error instanceof AlreadyConsumedError)) throw error
            // Two codes alike, of 25 billion: the device asks again.
            if (isNew) {
              throw refusedFor('user_code_taken', new errors.TemporarilyUnavailable('try again'))
            }
            throw new AlreadyUsedError()
          })
          if (isFailure(this.error)) return value
          const step = isNew ? 'issued' : this.error ? 'denied' : this.accountId && 'approved'
          if (ctx && step) ctx.app.emit(`device_code.${step}`, ctx, this)
          return value
        }

        // The code that an interaction is about. What a device presents is looked up elsewhere.
        static override async find<T>(value: string): Promise<T | undefined> {
          const stored = await this.adapter.findByUid(value)
          return stored ? (new this(stored as never) as T) : undefined
        }

        // The one place where a user code can be guessed.
        static override async findByUserCode(
          userCode: string,
          options?: { ignoreExpiration?: boolean },
        ) {
          const ctx = Provider.ctx
          const typed = {
            address: ctx?.state.address ?? '',
            session: browserOf(ctx?.oidc.session),
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
