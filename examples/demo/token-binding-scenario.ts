import { CookieJar } from 'tough-cookie'
import { createBrowser, type Page } from '../../test/support/browser.ts'
import type { RelyingParty, Tokens } from './relying-party.ts'
import { type Runner, type SignIn, signIn } from './steps.ts'
import { plainFetch } from './token-binding-servers.ts'

type Fetch = typeof globalThis.fetch

/** A relying party of the scenario, from outside and from inside. */
interface Party {
  readonly origin: string
  readonly redirectUri: string
  readonly clientId: string
  readonly clientSecret: string
  readonly client: RelyingParty
  /** Its connections to the identity provider and the API. */
  readonly fetch: Fetch
  readonly lastResponse: () => Response
  /** Its key at the identity provider, which is not secret. */
  readonly tokenBindingId: string
  /** What it was issued at the last login. */
  readonly tokens: () => Tokens | undefined
}

export interface TokenBindingFixtures extends Omit<SignIn, 'redirectUri'>, AsyncDisposable {
  readonly issuer: string
  readonly apiUrl: string
  readonly orders: Party
  readonly papers: Party
  readonly browserFetch: Fetch
  readonly thiefFetch: Fetch
}

/**
 * The scenario with Token Binding: a person's browser signs in to two relying parties with another key
 * at each name, and a thief has cookies, codes, tokens and a client's secret, and no key.
 */
export async function runTokenBindingScenario(
  fixtures: TokenBindingFixtures,
  { owner, thief }: Runner,
): Promise<void> {
  const { issuer, apiUrl, orders, papers, thiefFetch } = fixtures
  const jar = new CookieJar()
  const browser = createBrowser({ fetch: fixtures.browserFetch, jar })

  await owner('discovery', 'accept', () =>
    fixtures.browserFetch(`${issuer}/.well-known/openid-configuration`),
  )
  let callback = new URL(issuer)
  await owner('sign in and consent in the browser', 'accept', async () => {
    const at = { ...fixtures, redirectUri: orders.redirectUri }
    callback = await signIn(browser, new URL('/login', orders.origin), at)
    return new Response(null, { status: callback.searchParams.has('code') ? 200 : 400 })
  })
  await thief('authorization code, brought by another browser', async () =>
    asResponse(await createBrowser({ fetch: thiefFetch }).visit(callback)),
  )
  await thief('authorization code, brought without Token Binding', async () =>
    asResponse(await createBrowser({ fetch: plainFetch }).visit(callback)),
  )
  await owner('the same code, brought by its browser', 'accept', async () =>
    asResponse(await browser.visit(callback)),
  )
  let tokens = orders.tokens() ?? nothing
  await owner('call the API', 'accept', () => orders.client.callApi(tokens))

  // Bound tokens may come from everywhere: they are worth as little to a reader of logs.
  const inQuery = () => `${apiUrl}?access_token=${tokens.accessToken}`
  const inForm = () => ({
    method: 'POST',
    body: new URLSearchParams({ access_token: tokens.accessToken }),
  })
  const inHeader = () => ({ headers: { authorization: `Bearer ${tokens.accessToken}` } })
  await owner('access token in the query', 'accept', () => orders.fetch(inQuery()))
  await owner('access token in a form', 'accept', () => orders.fetch(apiUrl, inForm()))

  // A thief has the access token.
  await thief('access token in the query', () => thiefFetch(inQuery()))
  await thief('access token in a form', () => thiefFetch(apiUrl, inForm()))
  await thief('access token as Bearer', () => thiefFetch(apiUrl, inHeader()))
  await thief('access token without Token Binding', () => plainFetch(apiUrl, inHeader()))
  await thief('access token by another relying party', () => papers.fetch(apiUrl, inHeader()))
  await thief('access token at userinfo', () => thiefFetch(`${issuer}/userinfo`, inHeader()))

  // The thief has the refresh token and the client's secret.
  const askForTokens = (by: Fetch, { refreshToken }: Tokens, headers = {}) =>
    by(`${issuer}/token`, {
      method: 'POST',
      headers: {
        authorization: `Basic ${btoa(`${orders.clientId}:${orders.clientSecret}`)}`,
        ...headers,
      },
      body: new URLSearchParams({ grant_type: 'refresh_token', refresh_token: refreshToken }),
    })
  await thief('refresh token without Token Binding', () => askForTokens(plainFetch, tokens))
  await thief("refresh token, thief's key", () => askForTokens(thiefFetch, tokens))
  await thief("refresh token, the owner's ID in the header of proxies", () =>
    askForTokens(plainFetch, tokens, { 'sec-provided-token-binding-id': orders.tokenBindingId }),
  )

  // The thief has the cookies of the browser.
  const silently = `${issuer}/authorize?${new URLSearchParams({
    client_id: papers.clientId,
    response_type: 'code',
    redirect_uri: papers.redirectUri,
    scope: 'openid',
    code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
    code_challenge_method: 'S256',
    prompt: 'none',
  })}`
  await thief('cookies of the browser, elsewhere', async () => {
    const thiefBrowser = createBrowser({ fetch: thiefFetch, jar: await jar.clone() })
    const { url } = await thiefBrowser.visit(silently, { until: papers.redirectUri })
    const error = url.searchParams.get('error')
    return Response.json({ error }, { status: error ? 400 : 200 })
  })

  // The owner is signed in still, and goes on to another name.
  await owner('on to another relying party, without a password', 'accept', async () => {
    const consent = await browser.visit(`${papers.origin}/login`)
    return asResponse(await browser.submit(consent, 'Allow'))
  })
  await thief('access token of one relying party by the other', () => {
    const { accessToken } = papers.tokens() ?? nothing
    return orders.fetch(apiUrl, { headers: { authorization: `Bearer ${accessToken}` } })
  })

  // The first sign-in is untouched by all of it.
  const before = tokens
  await owner('refresh', 'accept', async () => {
    tokens = await orders.client.refresh(tokens)
    return orders.lastResponse()
  })
  await owner('call the API with the new token', 'accept', () => orders.client.callApi(tokens))
  await owner('the old refresh token, used twice', 'reject', () =>
    askForTokens(orders.fetch, before),
  )
  await owner('the new refresh token: its family has ended', 'reject', () =>
    askForTokens(orders.fetch, tokens),
  )
}

const nothing: Tokens = { accessToken: '', refreshToken: '', subject: '' }

function asResponse({ status, html }: Page): Response {
  return new Response(html, { status })
}
