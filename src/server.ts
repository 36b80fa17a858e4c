import type { Provider } from 'oidc-provider'
import { createAccounts } from './accounts/accounts.ts'
import { claimsByScope, createFindAccount } from './accounts/claims.ts'
import type { Config } from './config/config.ts'
import { deriveSecrets, readOrMakeSecret } from './config/secret.ts'
import { loadAssets } from './http/assets.ts'
import { errorPages } from './http/error-pages.ts'
import { listen } from './http/listen.ts'
import { allowProviderForms } from './http/provider-forms.ts'
import { requestId } from './http/request-id.ts'
import { securityHeaders } from './http/security-headers.ts'
import { createInteractionRouter } from './interaction/interaction-router.ts'
import { createProviderPages } from './interaction/provider-pages.ts'
import { createViews } from './interaction/views.ts'
import { logBearerClients, logEngineEvents } from './observability/events.ts'
import type { Log } from './observability/log.ts'
import { createProvider } from './provider/provider.ts'
import { loadSigningKeys } from './provider/signing-keys.ts'
import type { Storage } from './storage/open-storage.ts'

export interface RunningServer extends AsyncDisposable {
  readonly issuer: string
  readonly provider: Provider
  /** The certificate that clients must trust, when it is the development authority's. */
  readonly authorityFile: string | undefined
}

/** The identity provider on an open storage, as a koa application that nobody listens with yet. */
export async function createIdentityProvider(config: Config, storage: Storage): Promise<Provider> {
  const { issuer } = config
  const secrets = deriveSecrets(config.secret ?? (await readOrMakeSecret(config.dataFolder)))
  const accounts = createAccounts({ store: storage.accounts })
  const assets = loadAssets()
  const views = createViews({ assets: assets.urls })

  const provider = createProvider({
    issuer,
    jwks: await loadSigningKeys(storage.signingKeys, secrets.keyEncryptionKey),
    secrets,
    dpopNonces: config.dpopNonces,
    refreshReuseSeconds: config.refreshReuseSeconds,
    tables: storage,
    findAccount: createFindAccount(accounts),
    claims: claimsByScope,
    pages: createProviderPages(views),
  })

  provider.use(requestId())
  provider.use(securityHeaders())
  provider.use(errorPages({ render: views.error }))
  provider.use(allowProviderForms())
  provider.use(assets.middleware)
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
  provider.use(interactions.routes())
  return provider
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
  const provider = await createIdentityProvider(config, storage)
  logEngineEvents(provider, log)
  logBearerClients(await storage.clients.list(), log)
  const listening = await listen(provider.callback(), config)
  return {
    issuer: config.issuer,
    provider,
    authorityFile: listening.authorityFile,
    [Symbol.asyncDispose]: () => listening[Symbol.asyncDispose](),
  }
}
