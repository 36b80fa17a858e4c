import Provider, { errors } from 'oidc-provider'
import type { ExtensionOptions } from './extension.ts'
import { override } from './override.ts'
import { refusedFor } from './refusal-reason.ts'

/**
 * A pushed authorization request is consumed together with the code that it becomes, in one
 * statement: the engine consumes it first, and a crash in between would leave neither. Each
 * response type has a code in it, so that nothing is answered without this. The loser of a race
 * gets the error of a request that was used.
 */
export function consumeRequestsOnce(
  engine: Provider,
  { additions }: Pick<ExtensionOptions, 'additions'>,
): void {
  override(
    engine,
    'PushedAuthorizationRequest',
    (Base) =>
      class extends Base {
        /** So that it ends with its client. */
        declare clientId?: string | undefined

        static override get IN_PAYLOAD(): string[] {
          return [...super.IN_PAYLOAD, 'clientId']
        }

        override async save(ttl: number): Promise<string> {
          this.clientId ??= Provider.ctx?.oidc.client?.clientId
          return super.save(ttl)
        }

        override async consume(): Promise<void> {
          if (!Provider.ctx) return super.consume()
          // One that an interaction remembers is not among what the engine knows of this request.
          Provider.ctx.oidc.entity('PushedAuthorizationRequest', this)
        }
      },
  )
  override(
    engine,
    'AuthorizationCode',
    (Base) =>
      class extends Base {
        declare consumes?: string | undefined

        static override get IN_PAYLOAD(): string[] {
          return [...super.IN_PAYLOAD, 'consumes']
        }

        override async save(): Promise<string> {
          const ctx = Provider.ctx
          if (ctx) Object.assign(this, additions.keepInCode(ctx))
          this.consumes = ctx?.oidc.entities.PushedAuthorizationRequest?.jti
          return super.save()
        }
      },
  )
}

/** The error for the loser of a race. */
export function requestConsumed(): Error {
  return refusedFor(
    'request_replayed',
    new errors.InvalidRequestUri('request_uri is invalid, expired, or was already used'),
  )
}
