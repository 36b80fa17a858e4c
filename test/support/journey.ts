import { PASSWORD } from './accounts.ts'
import type { IdentityProvider } from './identity-provider.ts'
import { createUserAgent, type Page, type UserAgent } from './user-agent.ts'

export const CALLBACK = 'https://rp.example/callback'

export const CLIENT = {
  client_id: 'orders',
  client_name: 'Harbour Orders',
  redirect_uris: [CALLBACK],
  post_logout_redirect_uris: ['https://rp.example/bye'],
  binding_method: 'dpop',
}

export function authorizationUrl(origin: string, parameters: Record<string, string> = {}): string {
  const query = new URLSearchParams({
    client_id: 'orders',
    response_type: 'code',
    redirect_uri: CALLBACK,
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
    email: 'ada@example.com',
    password: PASSWORD,
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
