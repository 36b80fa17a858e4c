import type Koa from 'koa'
import type { Provider } from 'oidc-provider'
import { type Accounts, createAccounts } from '../../src/accounts/accounts.ts'
import { readLogo } from '../../src/clients/client-logo.ts'
import type { RequestedMetadata } from '../../src/clients/client-registration.ts'
import type { Account } from '../../src/storage/account-store.ts'
import { email, password, startTestServer } from './server.ts'
import { createUserAgent, type Page, type UserAgent } from './user-agent.ts'

export const ordersApi = 'https://api.example/orders'

/** The composed server with what journeys through its pages need. */
export interface IdentityProvider {
  readonly origin: string
  readonly provider: Provider
  readonly accounts: Accounts
  readonly ada: Account
  setLogo(clientId: string, image: Buffer): Promise<unknown>
  /** Errors that nobody foresaw. */
  readonly thrown: unknown[]
  close(): Promise<void>
}

/** Starts the server of {@link startTestServer} with clients and the API {@link ordersApi}. */
export async function startIdentityProvider(
  clients: readonly RequestedMetadata[] = [],
  environment: Record<string, string> = {},
): Promise<IdentityProvider> {
  const server = await startTestServer({
    HOLDFAST_TRUSTED_PROXIES: '127.0.0.0/8',
    HOLDFAST_DEVICE_FLOW: 'on',
    ...environment,
  })
  const { provider, storage, issuer } = server
  await storage.resourceServers.insert({
    identifier: ordersApi,
    name: 'Orders',
    scopes: ['orders:read', 'orders:write'],
    scopeLabels: { 'orders:read': 'See your orders & more' },
  })
  for (const client of clients) await server.addClient({ application_type: 'web', ...client })
  const thrown: unknown[] = []
  const app: Koa = provider
  app.on('error', (error) => thrown.push(error))
  const accounts = createAccounts({ store: storage.accounts })
  const ada = (await accounts.list()).find((account) => account.email === email)
  if (!ada) throw new Error('the test server has no account')
  return {
    origin: issuer,
    provider,
    accounts,
    ada,
    setLogo: (clientId, image) => storage.clientLogos.set(clientId, readLogo(image)),
    thrown,
    close: async () => server[Symbol.asyncDispose](),
  }
}

export const callbackUrl = 'https://rp.example/callback'

export const ordersClient = {
  client_id: 'orders',
  client_name: 'Harbour Orders',
  redirect_uris: [callbackUrl],
  post_logout_redirect_uris: ['https://rp.example/bye'],
  binding_method: 'dpop',
}

export function authorizationUrl(origin: string, parameters: Record<string, string> = {}): string {
  const query = new URLSearchParams({
    client_id: 'orders',
    response_type: 'code',
    redirect_uri: callbackUrl,
    scope: 'openid email',
    code_challenge: 'x'.repeat(43),
    code_challenge_method: 'S256',
    state: 'the state',
    ...parameters,
  })
  return `${origin}/authorize?${query}`
}

/** The page that a redirect of /authorize led to: its address, its form's token, its text. */
export interface Interacting {
  agent: UserAgent
  url: string
  token: string
  page: Page
}

export async function interact(agent: UserAgent, start: Page): Promise<Interacting> {
  const url = start.location ?? ''
  const page = await agent.get(url)
  return { agent, url, page, token: /name="token" value="([^"]+)"/.exec(page.text)?.[1] ?? '' }
}

export async function begin(
  { origin }: Pick<IdentityProvider, 'origin'>,
  parameters: Record<string, string> = {},
  agent: UserAgent = createUserAgent(origin),
): Promise<Interacting> {
  return interact(agent, await agent.get(authorizationUrl(origin, parameters)))
}

export function signIn(
  { agent, url, token }: Interacting,
  fields: Record<string, string> = {},
): Promise<Page> {
  return agent.post(`${url}/login`, {
    token,
    email,
    password,
    ...fields,
  })
}

/** Up to the consent page. */
export async function signedIn(
  idp: Pick<IdentityProvider, 'origin'>,
  parameters: Record<string, string> = {},
): Promise<Interacting> {
  const login = await begin(idp, parameters)
  const posted = await signIn(login)
  return interact(login.agent, await login.agent.get(posted.location ?? ''))
}
