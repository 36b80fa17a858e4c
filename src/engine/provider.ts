import { readDPoPHeader } from '@holdfast/verify/authorization-server'
import Provider, { type ClientMetadata, errors, type KoaContextWithOIDC } from 'oidc-provider'
import { knownAcrs } from '../accounts/acr.ts'
import { bindingMethodOf, withBindingMethod } from '../clients/binding-method.ts'
import { ownClients } from '../clients/client-id.ts'
import {
  checkScopeMetadata,
  ownScopesOf,
  scopesAtResource,
  standardScopesOf,
  unregisteredResource,
} from '../clients/client-scopes.ts'
import { allowedAlgorithms, profileOf, withProfile } from '../clients/profile.ts'
import { loadExistingGrant, securityClient } from '../clients/security-client.ts'
import { pathOfIssuer } from '../config/issuer-path.ts'
import { lifetimes } from '../config/lifetimes.ts'
import { type SigningAlgorithm, signingAlgorithms } from '../config/signing-algorithms.ts'
import { publicRoutes } from '../http/routes.ts'
import { badStatus, type GuardedFetch } from '../net/guarded-fetch.ts'
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
import { checkCertificateMetadata, mtlsFeature } from './client-certificates.ts'
import {
  checkDefaults,
  createDefaultResource,
  createResourceOfScopes,
  requireScope,
} from './client-defaults.ts'
import { readKeySet, withoutUnusableKeys } from './client-keys.ts'
import { checkPkceMetadata, needsChallenge } from './client-pkce.ts'
import { checkSessionPolicy, sessionPolicyOf } from './client-session-policy.ts'
import { createUserCodes, withoutDeviceGrant } from './device-grant.ts'
import { encryptionAlgorithms } from './encrypted-responses.ts'
import { createEngine } from './engine.ts'
import { initialKeys, secretsOf } from './engine-keys.ts'
import type { ProviderOptions } from './extension.ts'
import { extensions } from './extensions.ts'
import { checkConsentMetadata, grantSkippedConsent } from './first-party.ts'
import { interactionPath } from './interaction-path.ts'
import { createInteractionPolicy } from './interaction-policy.ts'
import { isCurrentJwt, isRecentProof, isShortRequest, type JwtTimes } from './jwt-times.ts'
import { combineAdditions } from './model-additions.ts'
import { mtlsEndpointAliases } from './mtls-endpoints.ts'
import { leaveOutOfflineAccess } from './offline-access.ts'
import { proofAlgorithms } from './proof-algorithms.ts'
import { refusedFor } from './refusal-reason.ts'
import { boundParameters } from './request-bounds.ts'
import { withSessionPolicy } from './session-policy.ts'

/** The longest a client assertion may live, in seconds: its replay entry is kept for as long. */
const assertionLifetime = 10 * 60

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
      const grant = await loadExistingGrant(ctx)
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
          if (!isCurrentJwt(claims, now(), clockToleranceS) || !isShortRequest(claims, now())) {
            throw refusedFor(
              'request_object_time',
              new errors.InvalidRequestObject(
                'exp and nbf are required in the Request Object, which may be good for an hour',
              ),
            )
          }
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
        async getResourceServerInfo(_ctx, identifier, client) {
          const info =
            options.adminApi && identifier === adminResource(issuer)
              ? adminResourceInfo(identifier, client)
              : await resourceServerInfo(tables.resourceServers, identifier)
          return forClient(info, client)
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
        withSessionPolicy(createInteractionPolicy(), { now }),
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
        'require_pkce',
        'require_nonce',
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
        checkCertificateMetadata(metadata)
        checkPkceMetadata(metadata)
        checkScopeMetadata(metadata)
        checkConsentMetadata(metadata)
        checkDefaults(metadata, standardScopes)
        checkIdTokenClaims(metadata)
        for (const { checkClient } of extensions) checkClient?.(metadata, options)
        checkAdministration(metadata)
        if (!mtls && bindingMethodOf(metadata) === 'mtls') {
          throw new errors.InvalidClientMetadata(
            'binding_method mtls needs HOLDFAST_MTLS_PORT or HOLDFAST_CLIENT_CERT_FORMAT',
          )
        }
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
      checkAssertion(claims, options)
    },
    fetch: (url) => fetchForClient(options.guardedFetch, String(url)),
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

async function resourceServerInfo(table: ResourceServerTable, identifier: string) {
  const resourceServer = await table.find(identifier)
  if (!resourceServer) throw unknownResource()
  const { scopes, signingAlg } = resourceServer
  return jwtFor(resourceServer.identifier, scopes.join(' '), signingAlg)
}

/** An API with the scopes that a client may have of it. */
function forClient<Info extends { readonly scope: string }>(info: Info, client: unknown): Info {
  const scopes = scopesAtResource(client as ClientMetadata, info.scope.split(' '))
  if (scopes) return { ...info, scope: scopes.join(' ') }
  throw refusedFor('resource_unregistered', new errors.InvalidTarget(unregisteredResource))
}

/** The engine takes a client that has registered no scope of this server for one that may have all. */
function requireRegisteredScopes(
  { oidc: { client, params } }: KoaContextWithOIDC,
  standard: ReadonlySet<string>,
): void {
  const allowed = ownScopesOf(client as unknown as ClientMetadata)
  const asked = typeof params?.scope === 'string' ? params.scope.split(' ') : []
  const other = asked.find((scope) => standard.has(scope) && allowed?.has(scope) === false)
  if (other !== undefined) throw new errors.InvalidScope('requested scope is not allowed', other)
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

/** The engine fetches nothing but a client's `jwks_uri`, most often to authenticate that client. */
async function fetchForClient(guardedFetch: GuardedFetch, url: string): Promise<Response> {
  const { status, headers, body } = await guardedFetch(url, {
    requester: Provider.ctx?.oidc.client?.clientId,
    headers: { accept: 'application/json' },
  })
  const kept = ['cache-control', 'expires'].flatMap((name) => {
    const value = headers.get(name)
    return value === undefined ? [] : [[name, value] as [string, string]]
  })
  if (status !== 200) throw badStatus(status)
  return new Response(readKeySet(body), { status, headers: kept })
}

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

/** A client may be of a profile where the server is not. */
function checkAlgorithm(
  alg: unknown,
  client: unknown,
  Refusal: typeof errors.InvalidRequestObject | typeof errors.InvalidClientAuth,
): void {
  const { clientId: client_id, profile } = client as { clientId: string; profile?: string }
  if (allowedAlgorithms(profileOf({ client_id, profile }), [String(alg)]).length === 0) {
    throw new Refusal('the algorithm of this signature is not allowed by the profile of the client')
  }
}

/** What the engine does not check of a client assertion, at the endpoints that are the engine's. */
function checkAssertion(
  claims: JwtTimes & { readonly aud?: unknown },
  { issuer, keys, protocol }: ProviderOptions,
): void {
  const now = keys.now()
  const { acceptsEndpointAudiences, clockToleranceS } = protocol
  // Endpoints as strings are the engine's to check.
  if (typeof claims.aud !== 'string' || (claims.aud !== issuer && !acceptsEndpointAudiences)) {
    throw refusedFor(
      'client_authentication',
      new errors.InvalidClientAuth('aud of the client assertion must be the issuer, as a string'),
    )
  }
  if (!isCurrentJwt(claims, now, clockToleranceS)) {
    throw new errors.InvalidClientAuth('the client assertion is expired or not valid yet')
  }
  if (!(Number(claims.exp) <= now / 1000 + assertionLifetime)) {
    throw refusedFor(
      'client_authentication',
      new errors.InvalidClientAuth('the client assertion is good for too long'),
    )
  }
}
