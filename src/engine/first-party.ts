/**
 * Applications of the operator need no consent page where an administrator says so by
 * `skip_consent`. A grant is written all the same, so that the person sees the client at My security
 * and can withdraw what it has.
 */
import { type ClientMetadata, errors, type KoaContextWithOIDC, type Provider } from 'oidc-provider'
import { redirectUrisOf } from '../clients/redirect-uris.ts'
import { isOfThisMachine } from '../net/this-machine.ts'
import { requestFacts } from '../observability/request-facts.ts'
import type { ProviderOptions } from './extension.ts'

declare module 'oidc-provider' {
  interface ClientMetadata {
    /** Whether people are not asked for their consent; only an administrator sets it. */
    skip_consent?: boolean | undefined
  }
}

type Grant = InstanceType<Provider['Grant']>

type ConsentMetadata = Pick<
  ClientMetadata,
  'skip_consent' | 'self_registered' | 'application_type' | 'redirect_uris'
>

/**
 * RFC 8252 section 8.6: any app of a device can receive what is sent to loopback or to a scheme of its
 * own, in the name of the client. Without a page, nobody would notice.
 *
 * @throws the engine's `invalid_client_metadata`.
 */
export function checkConsentMetadata(metadata: ConsentMetadata): void {
  const { skip_consent: skips, self_registered, application_type } = metadata
  if (skips === undefined || skips === false) return
  if (skips !== true) throw new errors.InvalidClientMetadata('skip_consent must be a boolean')
  if (self_registered) {
    throw new errors.InvalidClientMetadata(
      'skip_consent is not for clients that registered themselves',
    )
  }
  if (application_type === 'native' || !redirectUrisOf(metadata).every(isWebAddress)) {
    throw new errors.InvalidClientMetadata(
      'skip_consent needs redirect_uris that are https and not of this machine (RFC 8252 section 8.6)',
    )
  }
}

function isWebAddress(uri: string): boolean {
  const url = URL.parse(uri)
  return url?.protocol === 'https:' && !isOfThisMachine(url.hostname)
}

/** Whether a request needs no consent page: never at another device, where anyone could have sent it. */
export function skipsConsent({ oidc }: KoaContextWithOIDC): boolean {
  const { skip_consent: skips } = oidc.client as unknown as ConsentMetadata
  return skips === true && oidc.entities.DeviceCode === undefined
}

/**
 * The grant of a request, with everything that it asks for where its client needs no consent. One
 * that asks for the page by `prompt=consent` gets it.
 */
export async function grantSkippedConsent(
  ctx: KoaContextWithOIDC,
  existing: Grant | undefined,
  { events }: Pick<ProviderOptions, 'events'>,
): Promise<Grant | undefined> {
  const { client, account, params, provider } = ctx.oidc
  const prompts = String(params?.prompt ?? '').split(' ')
  if (!client || !account || !skipsConsent(ctx) || prompts.includes('consent')) return existing
  // Who signs in again may be another person.
  if (ctx.oidc.promptPending('login')) return existing
  const { accountId } = account
  const grant = existing ?? new provider.Grant({ accountId, clientId: client.clientId })
  const added = addMissing(ctx, grant)
  if (!added) return existing
  await grant.save()
  events.consentSkipped(requestFacts(ctx), added)
  return grant
}

/** Claims that the engine asks nobody about. */
const everyToken = new Set(['sub', 'sid', 'auth_time', 'acr', 'amr', 'iss'])

/** Adds what the grant has not got; undefined where that is nothing. */
function addMissing({ oidc }: KoaContextWithOIDC, grant: Grant) {
  const without = (asked: Iterable<string>, had: string) => {
    const known = new Set(had.split(' '))
    return [...asked].filter((each) => !known.has(each))
  }
  const scopes = without(oidc.requestParamOIDCScopes, grant.getOIDCScopeEncountered())
  const named = [...oidc.requestParamClaims].filter((claim) => !everyToken.has(claim))
  const claims = without(named, grant.getOIDCClaimsEncountered().join(' '))
  const resources = Object.entries(oidc.resourceServers ?? {}).flatMap(([indicator, api]) => {
    const asked = [...oidc.requestParamScopes].filter((scope) => api.scopes.has(scope))
    const missing = without(asked, grant.getResourceScopeEncountered(indicator))
    return missing.length > 0 ? [{ indicator, scopes: missing }] : []
  })
  if (scopes.length + claims.length + resources.length === 0) return undefined
  if (scopes.length > 0) grant.addOIDCScope(scopes.join(' '))
  if (claims.length > 0) grant.addOIDCClaims(claims)
  for (const { indicator, scopes } of resources) grant.addResourceScope(indicator, scopes.join(' '))
  return { scopes, resources: resources.map(({ indicator }) => indicator) }
}
