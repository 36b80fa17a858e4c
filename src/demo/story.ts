import { generateKeyPair } from 'jose'
import { type Browser, createBrowser } from './browser.ts'
import { makeProof } from './proof.ts'
import type { RelyingParty, Tokens } from './relying-party.ts'

export interface Row {
  readonly who: 'owner' | 'thief'
  readonly case: string
  readonly expected: 'accept' | 'reject'
  readonly got: 'accept' | 'reject' | 'fault'
  readonly status: number
  /** The OAuth error code of a refusal. */
  readonly error: string | null
}

/** A scene ends with the response that decides it. */
type Scene = () => Promise<Response>

export interface Stage {
  readonly issuer: string
  readonly apiUrl: string
  readonly redirectUri: string
  readonly clientId: string
  readonly clientSecret: string
  readonly email: string
  readonly password: string
  readonly relyingParty: RelyingParty
  /** The last response that the relying party got from the identity provider. */
  readonly lastResponse: () => Response
}

/**
 * Plays the story: a person signs in, a thief who has everything but the private key tries what
 * thieves try (client credentials and all), and the person goes on.
 *
 * @param onRow told of each row as soon as it is known.
 */
export async function playStory(stage: Stage, onRow: (row: Row) => void): Promise<Row[]> {
  const rows: Row[] = []
  const play = async (
    who: Row['who'],
    name: string,
    expected: Row['expected'],
    scene: Scene,
  ): Promise<void> => {
    const row = { who, case: name, expected, ...(await judge(scene)) }
    rows.push(row)
    onRow(row)
  }
  const owner = (name: string, expected: Row['expected'], scene: Scene) =>
    play('owner', name, expected, scene)
  const thief = (name: string, scene: Scene) => play('thief', name, 'reject', scene)

  const { relyingParty, apiUrl, issuer } = stage
  const tokenEndpoint = `${issuer}/token`
  const thiefKey = await generateKeyPair('ES256', { extractable: true })
  const { ownerKey } = relyingParty
  const browser = createBrowser()
  const callApi = (init: RequestInit = {}, url = apiUrl) => fetch(url, init)
  const dpop = (accessToken: string, proof?: string) => ({
    headers: { authorization: `DPoP ${accessToken}`, ...(proof && { dpop: proof }) },
  })

  // The owner signs in.
  await owner('discovery', 'accept', async () =>
    fetch(`${issuer}/.well-known/openid-configuration`),
  )
  let login = await relyingParty.begin()
  await owner('pushed authorization request', 'accept', async () => stage.lastResponse())
  let callback = new URL(issuer)
  await owner('sign in and consent in the browser', 'accept', async () => {
    callback = await signIn(browser, login.authorizeUrl, stage)
    return new Response(null, { status: callback.searchParams.has('code') ? 200 : 400 })
  })
  let tokens: Tokens = { accessToken: '', refreshToken: '', subject: '' }
  await owner('code for tokens, with a DPoP proof', 'accept', async () => {
    tokens = await relyingParty.finish(callback, login)
    return stage.lastResponse()
  })
  await owner('call the API', 'accept', () => relyingParty.callApi(tokens))

  // A thief has the access token, and has seen a request of the owner's.
  const { accessToken } = tokens
  const request = { method: 'GET', url: apiUrl, accessToken }
  const usedProof = await makeProof(ownerKey, request)
  await owner('call the API again', 'accept', () => callApi(dpop(accessToken, usedProof)))
  await thief('access token as Bearer', () =>
    callApi({ headers: { authorization: `Bearer ${accessToken}` } }),
  )
  await thief('access token in the query', () =>
    callApi({}, `${apiUrl}?access_token=${accessToken}`),
  )
  await thief('access token in a form', () =>
    callApi({ method: 'POST', body: new URLSearchParams({ access_token: accessToken }) }),
  )
  await thief('access token without a proof', () => callApi(dpop(accessToken)))
  await thief("proof by the thief's own key", async () =>
    callApi(dpop(accessToken, await makeProof(thiefKey, request))),
  )
  await thief("the owner's proof, replayed", () => callApi(dpop(accessToken, usedProof)))
  await thief('proof for another method', async () =>
    callApi(dpop(accessToken, await makeProof(ownerKey, { ...request, method: 'DELETE' }))),
  )
  await thief('proof for another URL', async () =>
    callApi(dpop(accessToken, await makeProof(ownerKey, { ...request, url: `${apiUrl}/1` }))),
  )
  await thief('proof for another token', async () =>
    callApi(dpop(accessToken, await makeProof(ownerKey, { ...request, accessToken: 'other' }))),
  )

  // The thief has the refresh token and the client's secret as well.
  const askForTokens = async (parameters: Record<string, string>, key?: typeof thiefKey) =>
    fetch(tokenEndpoint, {
      method: 'POST',
      headers: {
        authorization: `Basic ${btoa(`${stage.clientId}:${stage.clientSecret}`)}`,
        ...(key && { dpop: await makeProof(key, { method: 'POST', url: tokenEndpoint }) }),
      },
      body: new URLSearchParams(parameters),
    })
  const refreshing = (token: string) => ({ grant_type: 'refresh_token', refresh_token: token })
  await thief('refresh token without a proof', () => askForTokens(refreshing(tokens.refreshToken)))
  await thief("refresh token, thief's key", () =>
    askForTokens(refreshing(tokens.refreshToken), thiefKey),
  )

  // The owner signs in on another device, and the thief reads the code on its way.
  login = await relyingParty.begin()
  callback = await signIn(createBrowser(), login.authorizeUrl, stage)
  const exchanging = {
    grant_type: 'authorization_code',
    code: callback.searchParams.get('code') ?? '',
    code_verifier: login.codeVerifier,
    redirect_uri: stage.redirectUri,
  }
  await thief("authorization code, thief's key", () => askForTokens(exchanging, thiefKey))
  await owner('the same code, by its owner', 'accept', () => askForTokens(exchanging, ownerKey))
  await owner('the same code, used twice', 'reject', () => askForTokens(exchanging, ownerKey))

  // The first sign-in is untouched by all of it.
  const before = tokens
  await owner('refresh', 'accept', async () => {
    tokens = await relyingParty.refresh(tokens)
    return stage.lastResponse()
  })
  await owner('call the API with the new token', 'accept', () => relyingParty.callApi(tokens))
  await owner('the old refresh token, used twice', 'reject', () =>
    askForTokens(refreshing(before.refreshToken), ownerKey),
  )
  await owner('the new refresh token: its family has ended', 'reject', () =>
    askForTokens(refreshing(tokens.refreshToken), ownerKey),
  )
  return rows
}

/** The login and the consent form, to the redirect that carries the code. */
async function signIn(
  browser: Browser,
  authorizeUrl: URL,
  { email, password, redirectUri }: Stage,
): Promise<URL> {
  const loginPage = await browser.visit(authorizeUrl)
  const consentPage = await browser.submit(loginPage, 'Sign in', { email, password })
  const arrived = await browser.submit(consentPage, 'Allow', {}, { until: redirectUri })
  return arrived.url
}

async function judge(scene: Scene): Promise<Pick<Row, 'got' | 'status' | 'error'>> {
  const response = await scene()
  const { status } = response
  if (response.ok) return { got: 'accept', status, error: null }
  const error = challengeError(response) ?? (await bodyError(response))
  // A refusal is one that speaks of the request. A server that breaks has refused nothing.
  return { got: [400, 401, 403].includes(status) ? 'reject' : 'fault', status, error }
}

function challengeError(response: Response): string | null {
  return /error="([^"]+)"/.exec(response.headers.get('www-authenticate') ?? '')?.[1] ?? null
}

async function bodyError(response: Response): Promise<string | null> {
  try {
    return ((await response.json()) as { error?: string }).error ?? null
  } catch {
    return null
  }
}
