import { createMemoryKeys, registeredDomain, TokenBindingAgent } from '@holdfast/token-binding-tls'
import * as oidc from 'openid-client'
import { agentFetch } from '../../test/support/agent-fetch.ts'
import { openEnvironment } from './environment.ts'
import { recordingFetch } from './recording-fetch.ts'
import { createRelyingParty, type RelyingParty, type Tokens } from './relying-party.ts'
import type { TokenBindingFixtures } from './token-binding-scenario.ts'
import { createTokenBindingApi, createTokenBindingRelyingParty } from './token-binding-servers.ts'

/**
 * Three registered names on loopback, each over real TLS: the identity provider's, the one of a
 * relying party and its API, and the one of another relying party.
 */
export async function setUpTokenBinding(
  report: (text: string) => void,
): Promise<TokenBindingFixtures> {
  await using opened = new AsyncDisposableStack()
  const environment = opened.use(
    await openEnvironment(report, {
      environment: { HOLDFAST_TOKEN_BINDING: 'tls' },
      names: { issuer: 'id.holdfast.example', api: 'api.orders.example' },
      makeApi: createTokenBindingApi,
    }),
  )
  const { issuer, audience } = environment

  /** Somebody with keys of their own. */
  const connect = (keys = createMemoryKeys()) => {
    const agent = new TokenBindingAgent({ keys, keepAlive: true })
    opened.defer(() => agent.destroy())
    return agentFetch(agent)
  }

  async function openRelyingParty(clientId: string, name: string) {
    let client: RelyingParty | undefined
    let tokens: Tokens | undefined
    const serving = await environment.serve(name, (origin) =>
      createTokenBindingRelyingParty({
        origin,
        issuer,
        clientId,
        client: () => client as RelyingParty,
        onTokens: (issued) => {
          tokens = issued
        },
      }),
    )
    const { origin } = opened.use(serving)
    const redirectUri = `${origin}/callback`
    const { client_secret: clientSecret = '' } = await environment.register({
      client_id: clientId,
      client_name: clientId,
      redirect_uris: [redirectUri],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      binding_method: 'token-binding',
      id_token_token_binding_cnf: 'tbh',
    })
    const keys = createMemoryKeys()
    const server = connect(keys)
    const { fetch, lastResponse } = recordingFetch(referring(server, issuer, audience))
    client = await createRelyingParty({
      issuer,
      clientId,
      authentication: oidc.ClientSecretBasic(clientSecret),
      redirectUri,
      resource: audience,
      fetch,
    })
    const parts = { origin, redirectUri, clientId, clientSecret, client, fetch, lastResponse }
    const { id } = await keys.keyFor(registeredDomain(new URL(issuer).hostname), 'ecdsap256')
    return { ...parts, tokens: () => tokens, tokenBindingId: id.toString('base64url') }
  }

  const orders = await openRelyingParty('orders', 'app.orders.example')
  const papers = await openRelyingParty('papers', 'app.papers.example')
  const [browserFetch, thiefFetch] = [connect(), connect()]
  const open = opened.move()
  return {
    ...environment,
    orders,
    papers,
    browserFetch,
    thiefFetch,
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}

/** Before each token request, a request to the API has its key shown at the token endpoint. */
function referring(fetch: typeof globalThis.fetch, issuer: string, audience: string) {
  return async (...request: Parameters<typeof fetch>): Promise<Response> => {
    if (String(request[0]) === `${issuer}/token`) await fetch(`${audience}/token`)
    return fetch(...request)
  }
}
