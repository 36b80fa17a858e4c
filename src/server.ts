import type { Provider } from 'oidc-provider'
import { createAccounts } from './accounts/accounts.ts'
import { claimsByScope, createFindAccount } from './accounts/claims.ts'
import { loadClientAuthorities } from './certificates/client-authorities.ts'
import type { Config } from './config/config.ts'
import { deriveSecrets, readOrMakeSecret } from './config/secret.ts'
import { createDoctorCodes } from './doctor/codes.ts'
import { doctorEndpoint } from './doctor/observation.ts'
import { loadAssets } from './http/assets.ts'
import { createEdge } from './http/edge.ts'
import { errorPages } from './http/error-pages.ts'
import { listen } from './http/listen.ts'
import { postAsGet } from './http/post-as-get.ts'
import { allowProviderForms } from './http/provider-forms.ts'
import { requestId } from './http/request-id.ts'
import { securityHeaders } from './http/security-headers.ts'
import { singleHeaders } from './http/single-headers.ts'
import { createInteractionRouter } from './interaction/interaction-router.ts'
import { createProviderPages } from './interaction/provider-pages.ts'
import { createViews } from './interaction/views.ts'
import { createSecurityRouter } from './my-security/security-router.ts'
import { logBearerClients, logEngineEvents } from './observability/events.ts'
import { createLog, type Log } from './observability/log.ts'
import { createSecurityEvents } from './observability/security-events.ts'
import { serveAliasesOnly } from './provider/mtls-endpoints.ts'
import { createProvider, type MtlsOptions } from './provider/provider.ts'
import { loadSigningKeys } from './provider/signing-keys.ts'
import { createDbsc } from './session-binding/dbsc.ts'
import { dbscMiddleware } from './session-binding/dbsc-middleware.ts'
import { createProofRouter } from './session-binding/proof-router.ts'
import { relyingOrigins } from './session-binding/relying-origins.ts'
import { createSessionClaims } from './session-binding/session-claims.ts'
import { bindSessions } from './session-binding/session-model.ts'
import { bindSessionsByTokenBinding } from './session-binding/token-binding.ts'
import type { Storage } from './storage/open-storage.ts'

export interface RunningServer extends AsyncDisposable {
  readonly issuer: string
  readonly provider: Provider
  /** The certificate that clients must trust, when it is the development authority's. */
  readonly authorityFile: string | undefined
}

/** The identity provider on an open storage, as a koa application that nobody listens with yet. */
export async function createIdentityProvider(
  config: Config,
  storage: Storage,
  log: Log = createLog('silent'),
): Promise<Provider> {
  const { issuer } = config
  const secrets = deriveSecrets(config.secret ?? (await readOrMakeSecret(config.dataFolder)))
  const accounts = createAccounts({ store: storage.accounts })
  const assets = loadAssets()
  const views = createViews({ assets: assets.urls })

  const edge = createEdge(config)
  const mtls = await mtlsOptions(config)
  const { browserSessions: sessions } = storage
  const events = createSecurityEvents({ table: storage.securityEvents, log })
  const dbsc = createDbsc({
    issuer,
    secret: secrets.sessionBindingKey,
    lifetime: config.sessionProofLifetime,
    sessions,
    replays: storage.replays,
    events,
    relyingOrigins: () => relyingOrigins(storage.clients),
  })

  const claims = createSessionClaims(sessions)

  const provider = createProvider({
    issuer,
    jwks: await loadSigningKeys(storage.signingKeys, secrets.keyEncryptionKey),
    secrets,
    dpopNonces: config.dpopNonces,
    keyOverlapHours: config.keyOverlapHours,
    edge,
    mtls,
    tokenBinding: config.tokenBinding !== 'off',
    tables: storage,
    findAccount: createFindAccount(accounts),
    claims: claimsByScope,
    pages: createProviderPages(views),
    extraTokenClaims: claims.ofAccessToken,
    bindSessions(engine) {
      // First: a session that has no key on this connection is not even named.
      bindSessionsByTokenBinding(engine, (request) => edge.proofsOf(request).tokenBinding, events)
      bindSessions(engine, { sessions, events, provenAt: dbsc.provenAt })
      claims.addToIdTokens(engine)
    },
  })

  provider.use(requestId())
  provider.use(securityHeaders())
  provider.use(errorPages({ render: views.error }))
  provider.use(singleHeaders())
  const codes = createDoctorCodes(storage.artifacts)
  provider.use(doctorEndpoint({ edge, codes, mtls: config.mtls }))
  provider.use(edge.middleware)
  if (mtls?.origin) provider.use(serveAliasesOnly(edge, mtls.origin))
  provider.use(allowProviderForms())
  provider.use(postAsGet(['/authorize', '/session/end']))
  provider.use(assets.middleware)
  provider.use(dbscMiddleware({ provider, dbsc, events, hop: views.hop }))
  const interactions = createInteractionRouter({
    provider,
    accounts,
    views,
    publicOrigin: issuer,
    formKey: secrets.formTokenKey,
    resourceWords: async (identifier) => {
      const name = (await storage.resourceServers.find(identifier))?.name
      return name ? { name } : undefined
    },
  })
  provider.use(createProofRouter({ provider, dbsc, hop: views.hop }).routes())
  provider.use(interactions.routes())
  const security = createSecurityRouter({
    provider,
    accounts,
    views,
    tables: storage,
    events,
    publicOrigin: issuer,
    formKey: secrets.formTokenKey,
  })
  provider.use(security.routes())
  return provider
}

async function mtlsOptions({ mtls }: Config): Promise<MtlsOptions | undefined> {
  const { origin, authorityFile, revocationFile } = mtls
  if (!mtls.port && !mtls.forwarded) return undefined
  return {
    origin,
    authorities: authorityFile
      ? await loadClientAuthorities({ authorityFile, revocationFile })
      : undefined,
    onUntrusted: (ctx, reason) => ctx.app.emit('client_certificate.untrusted', ctx, reason),
  }
}

/**
 * Listens with the identity provider on an open storage. Disposing finishes requests
 * that were begun; the storage stays open, and whoever opened it closes it.
 */
export async function startServer(
  config: Config,
  storage: Storage,
  log: Log,
): Promise<RunningServer> {
  await using opened = new AsyncDisposableStack()
  const provider = await createIdentityProvider(config, storage, log)
  logEngineEvents(provider, log)
  logBearerClients(await storage.clients.list(), log)
  const handler = provider.callback()
  const { authorityFile } = opened.use(await listen(handler, config))
  const { port } = config.mtls
  if (port) {
    const mtls = { ...config, listen: { ...config.listen, port } }
    opened.use(await listen(handler, mtls, { askForCertificates: true }))
  }
  const open = opened.move()
  return {
    issuer: config.issuer,
    provider,
    authorityFile,
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}
