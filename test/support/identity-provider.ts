import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type Koa from 'koa'
import { type ClientMetadata, type Configuration, Provider } from 'oidc-provider'
import { type Accounts, createAccounts } from '../../src/accounts/accounts.ts'
import { claimsByScope, createFindAccount } from '../../src/accounts/claims.ts'
import { createDevicePages } from '../../src/engine/device-pages.ts'
import { createInteractionPolicy } from '../../src/engine/interaction-policy.ts'
import { keepShown } from '../../src/engine/shown-client.ts'
import { noteClientAddress } from '../../src/http/client-address.ts'
import { errorPages } from '../../src/http/error-pages.ts'
import { createFormTokens } from '../../src/http/form-token.ts'
import { allowProviderForms } from '../../src/http/provider-forms.ts'
import { requestId } from '../../src/http/request-id.ts'
import { publicRoutes } from '../../src/http/routes.ts'
import { formRoutes, onRoutes, routing } from '../../src/http/routing.ts'
import { sameOrigin } from '../../src/http/same-origin.ts'
import { securityHeaders } from '../../src/http/security-headers.ts'
import { suggestedCodes } from '../../src/interaction/device-forms.ts'
import {
  createInteractionRouter,
  type InteractionDependencies,
} from '../../src/interaction/interaction-router.ts'
import { createProviderPages } from '../../src/interaction/provider-pages.ts'
import type { LoginLimits } from '../../src/limits/login-limits.ts'
import { trustedPeers } from '../../src/net/trusted-peers.ts'
import { loadAssets } from '../../src/pages/assets.ts'
import { createViews } from '../../src/pages/views.ts'
import type { Account } from '../../src/storage/account-store.ts'
import { CHEAP, PASSWORD } from './accounts.ts'
import { recordingEvents } from './events.ts'
import { createMemoryAccountStore } from './memory-account-store.ts'
import { everyFeature } from './routed.ts'

export const API = 'https://api.example/orders'

export interface IdentityProvider {
  origin: string
  provider: Provider
  accounts: Accounts
  ada: Account
  thrown: unknown[]
  close(): Promise<void>
}

export interface IdentityProviderOptions {
  clients?: ClientMetadata[]
  configuration?: Configuration
  resourceLabels?: InteractionDependencies['resourceLabels']
  limits?: LoginLimits
}

export async function startIdentityProvider({
  clients = [],
  configuration = {},
  resourceLabels,
  limits = { admit: async () => undefined, succeeded: async () => {} },
}: IdentityProviderOptions = {}): Promise<IdentityProvider> {
  const server = createServer()
  const origin = await listen(server)
  const accounts = createAccounts({ store: createMemoryAccountStore(), cost: CHEAP })
  const assets = loadAssets()
  const views = createViews({ assets: assets.urls })
  const pages = createProviderPages(views)
  const provider = new Provider(origin, {
    clients,
    claims: claimsByScope,
    clientDefaults: { token_endpoint_auth_method: 'none' },
    cookies: { keys: ['a key for tests'] },
    extraClientMetadata: { properties: ['binding_method'] },
    features: {
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({
          scope: 'orders:read orders:write',
          accessTokenFormat: 'jwt',
        }),
      },
      rpInitiatedLogout: { enabled: true, ...pages },
      deviceFlow: { enabled: true, ...createDevicePages(views) },
    },
    findAccount: createFindAccount(accounts),
    interactions: {
      policy: createInteractionPolicy(),
      url: (_ctx, { uid }) => `/interaction/${uid}`,
    },
    renderError: pages.renderError,
    routes: {
      authorization: '/authorize',
      device_authorization: '/device_authorization',
      code_verification: publicRoutes.device.path,
    },
    scopes: ['openid', 'offline_access'],
    ttl: {
      Interaction: 600,
      Session: 600,
      Grant: 600,
      AccessToken: 60,
      AuthorizationCode: 60,
      DeviceCode: 60,
      IdToken: 60,
    },
    ...configuration,
  })
  keepShown(provider)
  const thrown: unknown[] = []
  const formKey = randomBytes(32)
  const app: Koa = provider
  app.on('error', (error) => thrown.push(error))
  const router = createInteractionRouter({
    provider,
    accounts,
    views,
    events: recordingEvents().events,
    limits,
    failures: { add: async () => {} },
    forms: createFormTokens(() => [formKey]),
    ...(resourceLabels ? { resourceLabels } : {}),
  })
  provider.use(routing({ issuer: origin, arrivalPath: '', features: everyFeature }))
  provider.use(requestId())
  provider.use(noteClientAddress(trustedPeers(['127.0.0.0/8'])))
  provider.use(securityHeaders({ issuer: origin }))
  provider.use(errorPages({ render: views.error }))
  provider.use(onRoutes(formRoutes, sameOrigin({ publicOrigin: origin })))
  provider.use(onRoutes(['device'], suggestedCodes()))
  provider.use(allowProviderForms())
  provider.use(assets.middleware)
  provider.use(router.routes())
  server.on('request', provider.callback())
  const ada = await accounts.add({
    email: 'ada@example.com',
    name: 'Ada Lovelace',
    password: PASSWORD,
  })
  return { origin, provider, accounts, ada, thrown, close: () => close(server) }
}

async function listen(server: Server): Promise<string> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

async function close(server: Server) {
  server.closeAllConnections()
  server.close()
  await once(server, 'close')
}
