import type { IncomingMessage } from 'node:http'
import Provider, {
  type Configuration,
  errors,
  type KoaContextWithOIDC,
  type TokenEndpointGrantContext,
  type UnknownObject,
} from 'oidc-provider'
import type { Edge } from '../http/edge.ts'
import type { UserCodeLimits } from '../limits/user-code-limits.ts'
import type { ArtifactTable } from '../storage/artifact-table.ts'
import type { DevicePollTable } from '../storage/device-poll-table.ts'
import { collectMark } from '../storage/pending-marks.ts'
import { withReadAhead } from '../storage/read-ahead.ts'
import { type ReplayTable, replayMark } from '../storage/replay-table.ts'
import { AlreadyConsumedError, asUnitOfWork } from '../storage/unit-of-work.ts'
import { clientBinding, requireProof } from './binding-policy.ts'
import { invalidGrant } from './bindings/invalid-grant.ts'
import { type BrowserStateOptions, keepStateInBrowsers } from './browser-state.ts'
import { matchesSecret } from './client-secret.ts'
import { bindDeviceCodes } from './device-codes.ts'
import { deviceGrant } from './device-grant.ts'
import { withSlowDown } from './device-polls.ts'
import { proofWindow, provenKey, validateProofs } from './dpop-proofs.ts'
import { engineGrant } from './engine-grants.ts'
import { checkJsonParameters } from './json-parameters.ts'
import {
  type KeyRenewal,
  type RenewableToken,
  type Successor,
  successorParameter,
} from './key-renewal.ts'
import { override } from './override.ts'
import { interceptParameters } from './parameters.ts'
import { createRepeatedRefresh } from './repeated-refresh.ts'
import { keepShown } from './shown-client.ts'
import { endPresentedFamily, keepFamilies } from './token-families.ts'
import { refuseUnauthorizedGrants } from './unauthorized-grants.ts'

/**
 * oidc-provider with every credential bound and every single use atomic. The engine documents its
 * model classes as usable and not as replaceable: this file is the one that does it, and
 * `test/provider/` is the gate for each new release of the engine.
 */
export function createEngine({
  issuer,
  configuration,
  artifacts,
  replays,
  refreshReuseSeconds,
  edge,
  renewal,
  devices,
  browserState,
  bindSessions,
}: {
  issuer: string
  configuration: Configuration
  artifacts: ArtifactTable
  replays: ReplayTable
  refreshReuseSeconds: number
  edge: Pick<Edge, 'proofsOf' | 'originOf'>
  /** Undefined where a client that changes its key has to sign in again. */
  renewal: KeyRenewal | undefined
  /** Undefined where the device flow is off. */
  devices: { polls: DevicePollTable; limits: UserCodeLimits } | undefined
  browserState: BrowserStateOptions
  bindSessions: (engine: Provider) => void
}): Provider {
  const proofs = validateProofs()
  const repeats =
    refreshReuseSeconds > 0
      ? createRepeatedRefresh({ artifacts, seconds: refreshReuseSeconds })
      : undefined
  class Engine extends Provider {
    constructor() {
      super(issuer, configuration)
      trustOnlyConfiguredOrigins(this, edge)
      interceptParameters(this, checkJsonParameters)
      bindRefreshTokens(this, edge, renewal)
      if (devices) bindDeviceCodes(this, { edge, proofs, limits: devices.limits })
      keepShown(this)
      keepFamilies(this, artifacts)
      repeats?.excuse(this)
      consumeRequestsOnce(this, artifacts)
      markReplaysOnce(this, replays)
      refuseUnauthorizedGrants(this)
      keepStateInBrowsers(this, browserState)
      bindSessions(this)
      this.Client.prototype.compareClientSecret = function compareClientSecret(actual: string) {
        return matchesSecret(actual, this.clientSecret)
      }
    }

    // The engine calls this for each of its own grants while it is constructed.
    override registerGrantType<Params extends object = UnknownObject>(
      name: string,
      handler: (ctx: TokenEndpointGrantContext<Params>) => void | Promise<void>,
      ...[parameters, ...rest]: GrantParameters
    ): void {
      const own = engineGrant(this, name, proofs) ?? handler
      const grant =
        devices && name === deviceGrant ? withSlowDown(this, devices.polls, own as never) : own
      const boundHandler = async (ctx: TokenEndpointGrantContext<Params>) => {
        requireProof(ctx, edge.proofsOf(ctx.req))
        try {
          await withReadAhead(() => asUnitOfWork(artifacts, async () => grant(ctx)))
          proofs.remember(ctx)
          renewal?.announce(ctx)
        } catch (error) {
          if (!(error instanceof AlreadyConsumedError)) throw error
          if (await repeats?.complete(ctx, error.written)) return
          await endAfterLostRace(ctx, artifacts)
          throw new errors.InvalidGrant(`${error.message} by a concurrent request`)
        }
      }
      const known = renewal && name === 'refresh_token' ? [successorParameter] : []
      super.registerGrantType(name, boundHandler, [...known, ...(parameters ?? [])], ...rest)
    }
  }
  return new Engine()
}

type GrantParameters =
  Parameters<Provider['registerGrantType']> extends [unknown, unknown, ...infer Rest] ? Rest : never

/**
 * What becomes of a grant when one of its credentials was used twice at the same moment. A code is
 * used twice only by a thief or a broken client, so everything issued from it ends (RFC 6749
 * section 4.1.2). Two refreshes at once, both with a proof by the right key, are two tabs of one
 * client: the loser is refused and the winner keeps its tokens. So are two requests of one device
 * by the key that its code is bound to. A refresh token that comes back later is reuse, which the
 * engine answers by ending the family.
 */
async function endAfterLostRace(ctx: KoaContextWithOIDC, artifacts: ArtifactTable): Promise<void> {
  const {
    AuthorizationCode: code,
    DeviceCode,
    RotatedRefreshToken: refreshToken,
  } = ctx.oidc.entities
  const deviceCode = clientBinding(ctx) ? undefined : DeviceCode
  const used = code ?? deviceCode ?? refreshToken
  if (!used?.grantId || refreshToken?.isSenderConstrained()) return
  await endPresentedFamily(ctx, used.grantId, artifacts)
}

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
 * Binds the refresh tokens of confidential clients as well; the engine binds those of public
 * clients (RFC 9449 section 5, RFC 8705 section 4). The engine compares whatever is bound before
 * it consumes anything.
 */
function bindRefreshTokens(
  engine: Provider,
  edge: Pick<Edge, 'proofsOf'>,
  renewal: KeyRenewal | undefined,
): void {
  override(
    engine,
    'RefreshToken',
    (Base) =>
      class extends Base implements RenewableToken {
        declare successor?: Successor | undefined
        reboundFrom?: string

        static override get IN_PAYLOAD(): string[] {
          return [...super.IN_PAYLOAD, 'successor']
        }

        override async save(): Promise<string> {
          const ctx = Provider.ctx
          const binding = ctx && clientBinding(ctx)
          if (binding) {
            this[binding.confirmation] ??= await binding.presented(ctx, edge.proofsOf(ctx.req))
          }
          if (ctx) renewal?.carryOver(ctx, this)
          return super.save()
        }

        // A client whose tokens were bearer tokens and are bound now must sign in again: nobody
        // knows whose hands an unbound refresh token is in.
        static override async find<T>(
          value: string,
          options?: { ignoreExpiration?: boolean },
        ): Promise<T | undefined> {
          const token = await super.find(value, options)
          const ctx = Provider.ctx
          const binding = ctx?.oidc.route === 'token' ? clientBinding(ctx) : undefined
          if (token && ctx && binding) {
            if (!token[binding.confirmation]) {
              throw invalidGrant('the refresh token is not bound to a key')
            }
            await renewal?.prepare(ctx, binding, token)
          }
          return token as T | undefined
        }
      },
  )
}

/**
 * A pushed authorization request is consumed together with the code that it becomes, in one
 * statement: the engine consumes it first, and a crash in between would leave neither. Each
 * response type has a code in it, so that nothing is answered without this. The loser of a race
 * gets the error of a request that was used.
 */
function consumeRequestsOnce(engine: Provider, artifacts: ArtifactTable): void {
  const consumptions = new WeakMap<KoaContextWithOIDC, () => Promise<void>>()
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
          consumptions.set(Provider.ctx, () => super.consume())
        }
      },
  )
  override(
    engine,
    'AuthorizationCode',
    (Base) =>
      class extends Base {
        override async save(): Promise<string> {
          const consume = Provider.ctx && consumptions.get(Provider.ctx)
          if (!consume) return super.save()
          try {
            return await asUnitOfWork(artifacts, async () => {
              await consume()
              return super.save()
            })
          } catch (error) {
            if (!(error instanceof AlreadyConsumedError)) throw error
            throw new errors.InvalidRequestUri(
              'request_uri is invalid, expired, or was already used',
            )
          }
        }
      },
  )
}

/**
 * One statement instead of find, then save, and a mark that lasts as long as the proof can. At the
 * token endpoint it waits for the statement at the end of the grant.
 */
function markReplaysOnce(engine: Provider, replays: ReplayTable): void {
  override(
    engine,
    'ReplayDetection',
    (Base) =>
      class extends Base {
        // A proof from the edge of the future is good for twice the engine's window, and the
        // engine would forget it after once.
        static override async unique(issuer: string, jti: string, exp: number): Promise<boolean> {
          const mark = replayMark(issuer, jti, exp + proofWindow)
          const ctx = Provider.ctx
          const collected =
            ctx?.oidc.route === 'token' && collectMark({ mark, refuse: refusalOf(ctx) })
          return collected || replays.insert(mark)
        }
      },
  )
}

/** What the engine says of a value that it is told to have seen: the client's assertion comes first. */
function refusalOf(ctx: KoaContextWithOIDC): () => Error {
  return provenKey(ctx) === undefined
    ? () => new errors.InvalidClientAuth('client assertion tokens must only be used once')
    : () => new errors.InvalidGrant('DPoP proof JWT Replay detected')
}
