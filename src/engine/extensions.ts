import type { Context } from 'koa'
import type Provider from 'oidc-provider'
import { matchesSecret } from '../clients/client-secret.ts'
import { fapi2Methods } from '../clients/profile.ts'
import { pathOfIssuer } from '../config/issuer-path.ts'
import { addMappedClaims } from './account-claims.ts'
import { nameAcr } from './authentication-context.ts'
import { richAuthorization } from './authorization-details.ts'
import { backchannel } from './backchannel-requests.ts'
import { keepStateInBrowsers } from './browser-state.ts'
import { logoutChannels } from './client-logout.ts'
import { trustConfiguredOrigins } from './configured-origins.ts'
import { bindDeviceCodes } from './device-codes.ts'
import { encryptedResponses } from './encrypted-responses.ts'
import { observeEngine } from './engine-events.ts'
import { secretsOf, useKeyRing } from './engine-keys.ts'
import type { Extension, ExtensionOptions } from './extension.ts'
import { explainFailedFetches } from './fetch-problems.ts'
import { interactionPath } from './interaction-path.ts'
import { checkJsonParameters } from './json-parameters.ts'
import { tolerateOwnClock } from './jwt-times.ts'
import { honourOfflineAccess } from './offline-access.ts'
import { openRedirects } from './open-redirects.ts'
import { interceptParameters } from './parameters.ts'
import { consumeRequestsOnce } from './pushed-requests.ts'
import { recordReplaysOnce } from './replay-detection.ts'
import { addSessionClaims } from './session-claims.ts'
import { bindSessions } from './session-model.ts'
import { keepShown } from './shown-client.ts'
import { tokenBinding } from './token-binding/token-binding.ts'

/**
 * Everything that Holdfast adds to oidc-provider, in the order in which it is added: of the two that
 * replace Session, the later one is asked first; every other model class is replaced once. The
 * engine documents its model classes as usable and not as replaceable: `test/engine/` is the gate
 * for each new release of the engine.
 */
export const extensions: readonly Extension[] = [
  { extend: trustConfiguredOrigins },
  { extend: checkParameters },
  encryptedResponses,
  { extend: honourOfflineAccess },
  { extend: explainFailedFetches },
  { extend: bindDevices },
  { extend: keepShown },
  richAuthorization,
  backchannel,
  { extend: consumeRequestsOnce },
  { extend: recordReplaysOnce },
  { extend: keepStateWithBrowser },
  tokenBinding,
  logoutChannels,
  { extend: holdSessions },
  { extend: nameAcr },
  { extend: addMappedClaims },
  { extend: claimSessions },
  { extend: compareSecretDigests },
  { extend: useCurrentKeys },
  { extend: tolerateClock },
  { extend: announceProfile },
  openRedirects,
  { extend: reportToOperator },
]

function checkParameters(engine: Provider): void {
  interceptParameters(engine, checkJsonParameters)
}

function bindDevices(
  engine: Provider,
  { deviceFlow, edge, proofs, times }: ExtensionOptions,
): void {
  if (!deviceFlow) return
  bindDeviceCodes(engine, { edge, proofs, limits: deviceFlow.limits, now: times.now })
}

function keepStateWithBrowser(
  engine: Provider,
  { issuer, keys, tables, times, additions, admitLargeRequest }: ExtensionOptions,
): void {
  const base = pathOfIssuer(issuer)
  keepStateInBrowsers(engine, {
    keys: () => secretsOf(keys.view(), 'form-token'),
    times,
    requests: tables.browserRequests,
    additions,
    sessionPath: base || '/',
    interactionPath: (uid) => interactionPath(base, uid),
    admitRow: admitLargeRequest,
  })
}

function holdSessions(
  engine: Provider,
  { sessions, tables, provenAt, securityEvents, times, additions }: ExtensionOptions,
): void {
  const requests = tables.browserRequests
  bindSessions(engine, { sessions, requests, provenAt, times, additions, events: securityEvents })
}

function claimSessions(engine: Provider, options: ExtensionOptions): void {
  addSessionClaims(engine, options)
}

function compareSecretDigests({ Client }: Provider): void {
  Client.prototype.compareClientSecret = function compareClientSecret(actual: string) {
    return matchesSecret(actual, this.clientSecret)
  }
}

function useCurrentKeys(engine: Provider, { keys }: ExtensionOptions): void {
  useKeyRing(engine, keys)
}

function reportToOperator(engine: Provider, { events, keys }: ExtensionOptions): void {
  observeEngine(engine, events, keys)
}

function tolerateClock(engine: Provider, { times, protocol }: ExtensionOptions): void {
  tolerateOwnClock(engine, times, protocol.clockToleranceS)
}

/** Metadata that the engine makes of its configuration, where a profile allows less. */
function announceProfile(engine: Provider, { protocol: { profile } }: ExtensionOptions): void {
  if (!profile) return
  engine.use(async (ctx: Context, next) => {
    await next()
    if (ctx.oidc?.route !== 'discovery') return
    const { token_endpoint_auth_methods_supported: methods } = ctx.body as Discovery
    Object.assign(ctx.body as Discovery, {
      require_pushed_authorization_requests: true,
      token_endpoint_auth_methods_supported: methods.filter((name) => fapi2Methods.includes(name)),
    })
  })
}

interface Discovery {
  readonly token_endpoint_auth_methods_supported: readonly string[]
}
