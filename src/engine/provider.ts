import { readDPoPHeader } from '@holdfast/verify/authorization-server'
import Provider, { type ClientMetadata, errors, type KoaContextWithOIDC } from 'oidc-provider'
import { knownAcrs } from '../accounts/acr.ts'
import { withBindingMethod } from '../clients/binding-method.ts'
import { ownClients } from '../clients/client-id.ts'
import {
  checkScopeMetadata,
  scopesAtResource,
  standardScopesOf,
  unregisteredResource,
} from '../clients/client-scopes.ts'
import { allowedAlgorithms, withProfile } from '../clients/profile.ts'
import { loadExistingGrant, securityClient } from '../clients/security-client.ts'
import { pathOfIssuer } from '../config/issuer-path.ts'
import { lifetimes } from '../config/lifetimes.ts'
import { type SigningAlgorithm, signingAlgorithms } from '../config/signing-algorithms.ts'
import { publicRoutes } from '../http/routes.ts'
import { createEngineAdapter } from '../storage/engine-adapter.ts'
import { createEngineTimes } from '../storage/engine-times.ts'
import type { ResourceServerTable } from '../storage/resource-server-table.ts'
import { checkIdTokenClaims, requireRegisteredClaims } from './account-claims.ts'
import { adminResource, adminScopesOf, checkAdministration } from './admin-resource.ts'
import { checkDetails, withDetailsConsent, withDetailsResources } from './authorization-details.ts'
import {
  backchannelLifetime,
  checkSignedRequest,
  cibaFeature,
  withNobody,
} from './backchannel-requests.ts'
import { artifactsOfRequest } from './browser-request.ts'
import { checkAudienceMetadata } from './client-audience.ts'
import { checkCertificateMetadata, mtlsFeature } from './client-certificates.ts'
import {
  checkDefaults,
  createDefaultResource,
  createResourceOfScopes,
  fillScope,
  requireRegisteredScopes,
  requireScope,
} from './client-defaults.ts'
import { checkAlgorithm, checkAssertion, checkRequestTimes } from './client-jwts.ts'
import { fetchKeySet, withoutUnusableKeys } from './client-keys.ts'
import { checkPkceMetadata, needsChallenge } from './client-pkce.ts'
import { checkSessionPolicy, sessionPolicyOf } from './client-session-policy.ts'
import { createUserCodes, withoutDeviceGrant } from './device-grant.ts'
import { encryptionAlgorithms } from './encrypted-responses.ts'
import { createEngine } from './engine.ts'
import { initialKeys, secretsOf } from './engine-keys.ts'
import type { ProviderOptions } from './extension.ts'
import { extensions } from './extensions.ts'
import { checkConsentMetadata, grantSkippedConsent } from './first-party.ts'
import { takeConsent } from './given-consent.ts'
import { interactionPath } from './interaction-path.ts'
import { createInteractionPolicy } from './interaction-policy.ts'
import { isRecentProof } from './jwt-times.ts'
import { combineAdditions } from './model-additions.ts'
import { mtlsEndpointAliases } from './mtls-endpoints.ts'
import { leaveOutOfflineAccess } from './offline-access.ts'
import { proofAlgorithms } from './proof-algorithms.ts'
import { refusedFor } from './refusal-reason.ts'
import { boundParameters } from './request-bounds.ts'
import { withSessionPolicy } from './session-policy.ts'

/** The authorization server as a koa application: the engine, configured. */
export function createProvider(options: ProviderOptions): Provider {
  const { issuer, tables, pages, edge, mtls, deviceFlow } = options
  const { clockToleranceS, profile } = options.protocol
  const { jwks, cookieKeys, nonceSecret } = initialKeys(options.keys)
  const { now } = options.keys
  const times = createEngineTimes({ now })
  const clients = withoutUnusableKeys(tables.clients)
  const base = pathOfIssuer(issuer)
  const standardScopes = standardScopesOf(options.claims)
  const resourceOfScopes = createResourceOfScopes(tables.resourceServers, standardScopes)
  const userCodes = createUserCodes(() => secretsOf(options.keys.view(), 'form-token'))
  const { artifacts } = tables
  const adapted = { artifacts, times, ownClients, ofRequest: artifactsOfRequest }
  const proven = allowedAlgorithms(profile, proofAlgorithms)
  const signed = allowedAlgorithms(profile, signingAlgorithms)
  const engine = createEngine(issuer, {
    adapter: createEngineAdapter(
      deviceFlow
        ? { ...adapted, clients, userCodes }
        : { ...adapted, clients: withoutDeviceGrant(clients) },
    ),
    jwks,
    findAccount: withNobody(options.findAccount),
    clients: [securityClient(issuer)],
    async loadExistingGrant(ctx) {
      const grant = (await loadExistingGrant(ctx)) ?? (await takeConsent(ctx))
      const granted = await grantSkippedConsent(ctx, grant, options)
      leaveOutOfflineAccess(ctx, granted)
      return granted
    },
    // The engine knows of acr and auth_time itself.
    claims: { ...options.claims, amr: null },
    scopes: [...standardScopes],
    routes: {
      authorization: '/authorize',
      token: '/token',
      userinfo: '/userinfo',
      pushed_authorization_request: '/par',
      introspection: '/introspect',
      revocation: '/revoke',
      jwks: '/jwks',
      end_session: '/session/end',
      device_authorization: '/device_authorization',
      backchannel_authentication: publicRoutes.backchannel_authentication.path,
      code_verification: publicRoutes.device.path,
    },
    acrValues: [...knownAcrs],
    features: {
      devInteractions: { enabled: false },
      // By it an app says that it must have an acr; see session-binding/authentication-context.ts.
      claimsParameter: {
        enabled: true,
        assertClaimsParameter: async (_ctx, asked, client) =>
          requireRegisteredClaims(asked, client as unknown as ClientMetadata, options.claims),
      },
      // The engine may change this in a minor release; it is pinned, and tests look at its tokens.
      externalSigningSupport: { enabled: true, ack: 'experimental-01' },
      clientCredentials: { enabled: true },
      // Named by it in the metadata, and served by src/token-endpoint: its own are good for nobody.
      introspection: { enabled: true, allowedPolicy: nobody },
      jwtIntrospection: { enabled: true },
      // JARM: authorization responses that are signed (FAPI 2.0 Message Signing section 5.4).
      jwtResponseModes: { enabled: true },
      encryption: { enabled: true },
      // JSON, unless a client has userinfo_signed_response_alg.
      jwtUserinfo: { enabled: true },
      revocation: { enabled: true, allowedPolicy: nobody },
      dPoP: {
        enabled: true,
        nonceSecret,
        // The engine judges the time of a proof by the clock of its node: a proof that is not of
        // this moment by the clock of the database needs a nonce.
        requireNonce: (ctx) =>
          options.dpopNonces === 'required' ||
          !isRecentProof(readDPoPHeader(ctx.req.rawHeaders), now(), options.proofs.window),
      },
      // Signed by the client's own keys; a secret of which only a digest is stored signs nothing.
      requestObjects: {
        enabled: true,
        assertJwtClaimsAndHeader: async (ctx, claims, { alg }, client) => {
          // What was pushed without a signature is ours, and ends with its row.
          if (alg === 'none') return
          checkAlgorithm(alg, client, errors.InvalidRequestObject)
          checkRequestTimes(claims, { now: now(), clockToleranceS })
          await checkSignedRequest(ctx, claims)
        },
      },
      ...(deviceFlow && { deviceFlow: { enabled: true, ...deviceFlow.pages } }),
      // Nothing answers to a client that is not registered for it.
      ciba: cibaFeature(options.findByEmail),
      ...(mtls && { mTLS: mtlsFeature({ ...mtls, edge, now }) }),
      resourceIndicators: {
        enabled: true,
        defaultResource: withDetailsResources(
          createDefaultResource(resourceOfScopes),
          tables.detailsTypes,
        ),
        async getResourceServerInfo(ctx, identifier, client) {
          return options.adminApi && identifier === adminResource(issuer)
            ? forClient(adminResourceInfo(identifier, client), client, [])
            : resourceServerInfo(ctx, { table: tables.resourceServers, identifier, client })
        },
      },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource: pages.logoutSource,
        postLogoutSuccessSource: pages.postLogoutSuccessSource,
      },
    },
    clientBasedCORS: mayCallFrom,
    renderError: pages.renderError,
    interactions: {
      policy: withDetailsConsent(
        withSessionPolicy(createInteractionPolicy(), { now, groupDemands: options.groupDemands }),
        tables.detailsTypes,
      ),
      url: (_ctx, { uid, prompt }) =>
        `${interactionPath(base, uid)}${prompt.name === 'proof' ? '/proof' : ''}`,
    },
    // What else lives at the origin is not shown the session, and may be another Holdfast.
    cookies: { keys: cookieKeys, ...(base && { long: { path: base } }) },

    // No token leaves by the front channel; an ID token may, for clients that register it.
    responseTypes: profile ? ['code'] : ['code', 'code id_token'],
    // The engine knows S256 only.
    pkce: { required: needsChallenge },
    allowOmittingSingleRegisteredRedirectUri: false,
    clientAuthMethods: [
      'none',
      'client_secret_basic',
      'client_secret_post',
      'private_key_jwt',
      ...(mtls ? (['self_signed_tls_client_auth'] as const) : []),
      ...(mtls?.authorities ? (['tls_client_auth'] as const) : []),
    ],
    discovery: {
      ...(mtls?.origin && {
        mtls_endpoint_aliases: mtlsEndpointAliases(mtls.origin + base, {
          deviceFlow: deviceFlow !== undefined,
        }),
      }),
      ...Object.assign({}, ...extensions.map(({ metadata }) => metadata?.(options))),
      registration_endpoint: options.registrationEndpoint,
      // draft-emelia-oauth-as-metadata-dpop-required-00: no client can be bound in another way.
      ...(profile && !mtls && { dpop_bound_access_tokens_required: true }),
      ...(options.clientDocuments && { client_id_metadata_document_supported: true }),
    },
    clientDefaults: {
      id_token_signed_response_alg: 'ES256',
      introspection_signed_response_alg: 'ES256',
      authorization_signed_response_alg: 'ES256',
    },
    enabledJWA: {
      ...encryptionAlgorithms,
      clientAuthSigningAlgValues: proven,
      dPoPSigningAlgValues: proven,
      idTokenSigningAlgValues: signed,
      introspectionSigningAlgValues: signed,
      authorizationSigningAlgValues: signed,
      userinfoSigningAlgValues: signed,
      requestObjectSigningAlgValues: proven,
    },
    extraClientMetadata: {
      properties: [
        'binding_method',
        'administration',
        'session_policy',
        'profile',
        'refresh_tokens',
        'self_registered',
        'open_client',
        'require_pkce',
        'require_nonce',
        'endpoint_audience',
        'resource_scopes',
        'skip_consent',
        'default_resource',
        'default_scope',
        'id_token_claims',
        'logo',
        ...extensions.flatMap(({ clientMetadata = [] }) => clientMetadata),
      ],
      validator: (_ctx, _key, _value, metadata) => {
        checkSessionPolicy(metadata)
        const { require_pushed_authorization_requests: isPushed } = metadata
        // The engine has filled in its default, which says nothing.
        const registered = withBindingMethod({
          ...metadata,
          require_pushed_authorization_requests: isPushed || undefined,
        })
        Object.assign(metadata, withProfile(registered, profile))
        checkCertificateMetadata(metadata, mtls !== undefined)
        checkPkceMetadata(metadata)
        checkAudienceMetadata(metadata)
        checkScopeMetadata(metadata)
        checkConsentMetadata(metadata)
        checkDefaults(metadata, standardScopes)
        checkIdTokenClaims(metadata)
        for (const { checkClient } of extensions) checkClient?.(metadata, options)
        checkAdministration(metadata)
      },
    },
    // One that is known already: a validator of it is called with every request.
    extraParams: {
      state: async (ctx) => {
        await boundParameters(ctx)
        requireRegisteredScopes(ctx, standardScopes)
        requireScope(ctx, standardScopes)
      },
      authorization_details: async (ctx) => {
        await checkDetails(ctx, tables.detailsTypes)
      },
    },
    assertJwtClientAuthClaimsAndHeader: async (_ctx, claims, { alg }, client) => {
      checkAlgorithm(alg, client, errors.InvalidClientAuth)
      checkAssertion(claims, {
        issuer,
        now: now(),
        ...options.protocol,
        ...(client.endpoint_audience === true && { acceptsEndpointAudiences: true }),
      })
    },
    // It fetches nothing but a client's `jwks_uri`, most often to authenticate that client.
    fetch: (url) =>
      fetchKeySet(options.guardedFetch, String(url), Provider.ctx?.oidc.client?.clientId),
    clockTolerance: clockToleranceS,

    ttl: {
      ...lifetimes,
      BackchannelAuthenticationRequest: backchannelLifetime,
      // Of someone who has not signed in there is a form's token to remember.
      Session: (_ctx, { accountId }) => (accountId ? lifetimes.Session : lifetimes.Interaction),
    },
    expiresWithSession: async (ctx, { scopes }) =>
      !scopes.has('offline_access') || sessionPolicyOf(ctx).ends_tokens === true,
  })
  const additions = combineAdditions(extensions.flatMap(({ models }) => models?.(options) ?? []))
  for (const { extend } of extensions) extend(engine, { ...options, times, additions })
  return engine
}

function unknownResource() {
  return refusedFor('resource_unknown', new errors.InvalidTarget('unknown resource'))
}

async function resourceServerInfo(
  ctx: KoaContextWithOIDC,
  {
    table,
    identifier,
    client,
  }: { table: ResourceServerTable; identifier: string; client: unknown },
) {
  const resourceServer = await table.find(identifier)
  if (!resourceServer) throw unknownResource()
  const { scopes, openScopes, signingAlg } = resourceServer
  fillScope(ctx, client, openScopes)
  const info = jwtFor(resourceServer.identifier, scopes.join(' '), signingAlg)
  return forClient(info, client, openScopes)
}

/** An API with the scopes that a client may have of it. */
function forClient<Info extends { readonly scope: string }>(
  info: Info,
  client: unknown,
  openScopes: readonly string[],
): Info {
  const scopes = scopesAtResource(client as ClientMetadata, info.scope.split(' '), openScopes)
  if (scopes) return { ...info, scope: scopes.join(' ') }
  throw refusedFor('resource_unregistered', new errors.InvalidTarget(unregisteredResource))
}

function jwtFor(audience: string, scope: string, alg: SigningAlgorithm = 'ES256') {
  return {
    scope,
    audience,
    accessTokenFormat: 'jwt' as const,
    jwt: { sign: { alg } },
  }
}

function adminResourceInfo(identifier: string, client: unknown) {
  const scopes = adminScopesOf((client as { administration?: string }).administration)
  if (!scopes) throw unknownResource()
  return jwtFor(identifier, scopes.join(' '))
}

const nobody = async () => false

/**
 * Scripts may call from where a public client's redirects go: that is where such an app lives. Only
 * http and https have origins of their own; all others are `null`, as is every sandboxed frame.
 */
export function mayCallFrom(
  _ctx: unknown,
  origin: string,
  client: { clientAuthMethod?: string | undefined; redirectUris?: readonly string[] | undefined },
): boolean {
  if (client.clientAuthMethod !== 'none') return false
  return (client.redirectUris ?? []).some((uri) => webOrigin(uri) === origin)
}

function webOrigin(uri: string): string | undefined {
  const url = URL.parse(uri)
  return url && /^https?:$/.test(url.protocol) ? url.origin : undefined
}
