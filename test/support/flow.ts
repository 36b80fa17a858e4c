import { hash, randomBytes } from 'node:crypto'
import { generateKeyPair } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import { type KeyPair, makeProof } from '../../src/doctor/proof.ts'
import { type Browser, type BrowserOptions, createBrowser, type Page } from './browser.ts'
import { email, password, type TestServer } from './server.ts'

export const callback = 'http://127.0.0.1/callback'

export function newKey(): Promise<KeyPair> {
  return generateKeyPair('ES256', { extractable: true })
}

export interface Answer {
  readonly status: number
  readonly headers: Headers
  // biome-ignore lint/suspicious/noExplicitAny: JSON of any shape, which the tests take apart
  readonly body: any
}

/** Posts a form to an endpoint, with a DPoP proof by `key` when there is one. */
export async function post(
  server: Pick<TestServer, 'issuer'>,
  path: string,
  parameters: Record<string, string>,
  { key, proof, headers = {}, fetch = globalThis.fetch, origin = server.issuer }: PostOptions = {},
): Promise<Answer> {
  const url = `${origin}${path}`
  const dpop = proof ?? (key && (await makeProof(key, { method: 'POST', url })))
  const response = await fetch(url, {
    method: 'POST',
    headers: { ...headers, ...(dpop && { dpop }) },
    body: new URLSearchParams(parameters),
  })
  return { status: response.status, headers: response.headers, body: await readBody(response) }
}

export interface PostOptions {
  readonly key?: KeyPair
  readonly proof?: string
  readonly headers?: Record<string, string>
  /** With a client certificate, for instance. */
  readonly fetch?: typeof globalThis.fetch
  readonly origin?: string
}

async function readBody(response: Response): Promise<unknown> {
  const text = await response.text()
  return text.startsWith('{') ? JSON.parse(text) : text
}

/** A browser in which the account of the test server is signed in after its first request. */
export interface Person {
  readonly browser: Browser
  /** Takes an authorization request through login and consent to where the redirect points. */
  authorize(parameters: Record<string, string>): Promise<URL>
}

export interface PersonOptions extends BrowserOptions {
  readonly credentials?: { readonly email: string; readonly password: string }
}

export function createPerson(
  server: Pick<TestServer, 'issuer'>,
  { credentials = { email, password }, ...options }: PersonOptions = {},
): Person {
  const browser = createBrowser(options)
  return {
    browser,
    async authorize(parameters) {
      const { redirect_uri: until = callback } = parameters
      const url = `${server.issuer}/authorize?${new URLSearchParams(parameters)}`
      let page: Page = await browser.visit(url, { until })
      if (page.html.includes('>Sign in<')) {
        page = await browser.submit(page, 'Sign in', credentials, { until })
      }
      if (page.html.includes('>Allow<')) page = await browser.submit(page, 'Allow', {}, { until })
      return page.url
    },
  }
}

export interface CodeRequest {
  readonly code: string
  /** The parameters of the token request that redeems the code. */
  readonly exchange: Record<string, string>
}

/** Signs a person in and returns the code with what redeems it. */
export async function obtainCode(
  person: Person,
  client: ClientMetadata,
  parameters: Record<string, string> = {},
): Promise<CodeRequest> {
  const verifier = randomBytes(32).toString('base64url')
  const { redirect_uri = callback } = parameters
  const arrived = await person.authorize({
    client_id: client.client_id,
    response_type: 'code',
    redirect_uri,
    scope: 'openid',
    code_challenge: hash('sha256', verifier, 'base64url'),
    code_challenge_method: 'S256',
    ...parameters,
  })
  const code = arrived.searchParams.get('code')
  if (!code) throw new Error(`no code came back: ${arrived.search}`)
  return {
    code,
    exchange: {
      grant_type: 'authorization_code',
      client_id: client.client_id,
      code,
      code_verifier: verifier,
      redirect_uri,
    },
  }
}

/** A `client_secret_basic` header (RFC 6749 section 2.3.1). */
export function basic({ client_id, client_secret }: ClientMetadata): Record<string, string> {
  return { authorization: `Basic ${btoa(`${client_id}:${client_secret}`)}` }
}

/** The parameters of a refresh. */
export function refreshing(client: ClientMetadata, token: string): Record<string, string> {
  return { grant_type: 'refresh_token', client_id: client.client_id, refresh_token: token }
}
