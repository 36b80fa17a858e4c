import type { IncomingMessage } from 'node:http'
import Provider, {
  type Configuration,
  errors,
  type TokenEndpointGrantContext,
  type UnknownObject,
} from 'oidc-provider'
import { type ProofCheck, proofWindow } from '../bindings/dpop.ts'
import { matchesSecret } from '../clients/client-secret.ts'
import type { Edge } from '../http/edge.ts'
import type { UserCodeLimits } from '../limits/user-code-limits.ts'
import { AlreadyConsumedError } from '../storage/already-consumed.ts'
import type { EngineTimes } from '../storage/engine-times.ts'
import type { ReplayTable } from '../storage/replay-table.ts'
import { type BrowserStateOptions, keepStateInBrowsers } from './browser-state.ts'
import { bindDeviceCodes } from './device-codes.ts'
import { checkJsonParameters } from './json-parameters.ts'
import { override } from './override.ts'
import { interceptParameters } from './parameters.ts'
import { refusedFor } from './refusal-reason.ts'
import { keepShown } from './shown-client.ts'

/**
 * oidc-provider with every credential bound and every single use atomic. The engine documents its
 * model classes as usable and not as replaceable: this file is the one that does it, and
 * `test/provider/` is the gate for each new release of the engine.
 */
export function createEngine({
  issuer,
  configuration,
  replays,
  edge,
  times,
  devices,
  browserState,
  bindSessions,
}: {
  issuer: string
  configuration: Configuration
  replays: ReplayTable
  edge: Pick<Edge, 'proofsOf' | 'originOf'>
  times: EngineTimes
  /** Undefined where the device flow is off. */
  devices: { limits: UserCodeLimits; proofs: ProofCheck } | undefined
  browserState: BrowserStateOptions
  bindSessions: (engine: Provider) => void
}): Provider {
  class Engine extends Provider {
    constructor() {
      super(issuer, configuration)
      trustOnlyConfiguredOrigins(this, edge)
      interceptParameters(this, checkJsonParameters)
      if (devices) bindDeviceCodes(this, { edge, now: times.now, ...devices })
      keepShown(this)
      consumeRequestsOnce(this)
      markReplaysOnce(this, replays, times)
      keepStateInBrowsers(this, browserState)
      bindSessions(this)
      this.Client.prototype.compareClientSecret = function compareClientSecret(actual: string) {
        return matchesSecret(actual, this.clientSecret)
      }
    }

    // The engine calls this for each of its own grants while it is constructed. None of them is
    // made by it: whatever path would lead to its own token endpoint ends here.
    override registerGrantType<Params extends object = UnknownObject>(
      name: string,
      _handler: (ctx: TokenEndpointGrantContext<Params>) => void | Promise<void>,
      ...rest: GrantParameters
    ): void {
      const refuse = () => {
        throw new Error('tokens are issued by src/token-endpoint')
      }
      super.registerGrantType(name, refuse, ...rest)
    }
  }
  return new Engine()
}

type GrantParameters =
  Parameters<Provider['registerGrantType']> extends [unknown, unknown, ...infer Rest] ? Rest : never

/**
 * Public URLs, DPoP's `htu` among them, come from the configuration: never from `Host`, from
 * `X-Forwarded-*`, or from a request line with an absolute URL.
 */
function trustOnlyConfiguredOrigins(engine: Provider, edge: Pick<Edge, 'originOf'>): void {
  const originOf = ({ req }: { req: IncomingMessage }) => edge.originOf(req)
  type Request = { req: IncomingMessage; originalUrl: string }
  Object.defineProperties(engine.request, {
    protocol: {
      get(this: Request) {
        return originOf(this).protocol.slice(0, -1)
      },
    },
    host: {
      get(this: Request) {
        return originOf(this).host
      },
    },
    origin: {
      get(this: Request) {
        return originOf(this).origin
      },
    },
    href: {
      get(this: Request) {
        return originOf(this).origin + this.originalUrl.replace(/^https?:\/\/[^/?]*/i, '')
      },
    },
  })
}

/**
 * A pushed authorization request is consumed together with the code that it becomes, in one
 * statement: the engine consumes it first, and a crash in between would leave neither. Each
 * response type has a code in it, so that nothing is answered without this. The loser of a race
 * gets the error of a request that was used.
 */
function consumeRequestsOnce(engine: Provider): void {
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
          this.consumes = Provider.ctx?.oidc.entities.PushedAuthorizationRequest?.jti
          return super.save().catch((error: unknown) => {
            if (!(error instanceof AlreadyConsumedError)) throw error
            throw refusedFor(
              'request_replayed',
              new errors.InvalidRequestUri('request_uri is invalid, expired, or was already used'),
            )
          })
        }
      },
  )
}

/** One statement instead of find, then save, and a mark that lasts as long as the proof can. */
function markReplaysOnce(engine: Provider, replays: ReplayTable, { now }: EngineTimes): void {
  override(
    engine,
    'ReplayDetection',
    (Base) =>
      class extends Base {
        // A proof from the edge of the future is good for twice the engine's window, and the
        // engine would forget it after once. The engine counts from the clock of its node, which
        // may be behind: no mark ends before the window does.
        static override async unique(issuer: string, jti: string, exp: number): Promise<boolean> {
          const windowEnd = Math.ceil(now() / 1000) + proofWindow
          return replays.markOnce(issuer, jti, Math.max(exp, windowEnd) + proofWindow)
        }
      },
  )
}
