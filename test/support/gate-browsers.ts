import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { CookieJar } from 'tough-cookie'
import type { RequestedMetadata } from '../../src/clients/client-registration.ts'
import { type Browser, createBrowser, type Page } from './browser.ts'
import {
  gateKey,
  startApplication,
  startGate,
  type TestApplication,
  type TestGate,
} from './gate.ts'
import { email, password, type TestServer } from './server.ts'
import { refreshProof, registrationProof } from './verify/dbsc.ts'
import { makeKey, type TestKey } from './verify/keys.ts'

export const app = 'https://app.example'

/** A gate with one application at {@link app}, whose people sign in at a real server. */
export interface BrowserGate extends AsyncDisposable {
  readonly gate: TestGate
  readonly application: TestApplication
  readonly clientId: string
  /** Moves the clock of the gate. */
  advance(milliseconds: number): void
  /** That clock. */
  now(): number
  /** Sends what is for {@link app} to the gate, and everything else where it goes. */
  readonly fetch: typeof globalThis.fetch
  /** A browser of a person who has no session anywhere. */
  newBrowser(): GateBrowser
}

/** A browser with its jar. */
export interface GateBrowser extends Browser {
  readonly jar: CookieJar
  /** Goes to a page and signs in on the way. */
  signIn(path?: string): Promise<Page>
  /** One request to the gate with the cookies of the jar, without following redirects. */
  send(path: string, init?: RequestInit): Promise<Response>
  /** What the gate has offered of DBSC (`Secure-Session-Registration`), oldest first. */
  readonly offers: readonly string[]
  /** Answers the last offer, or another one, with a key. */
  register(key?: TestKey, offer?: string): Promise<Response>
  /** Asks for a challenge of a session and answers it. */
  refresh(session: string, key?: TestKey): Promise<Response>
  /** A thief with a copy of the jar, or of some of its cookies. */
  copy(wanted?: (name: string) => boolean): GateBrowser
  /** The value of a cookie of the gate. */
  cookie(name: string): Promise<string | undefined>
}

export const gateSecret = Buffer.alloc(32, 7)

export async function startBrowserGate(
  server: TestServer,
  {
    application: settings = {},
    openid = {},
    client: metadata = {},
    options = {},
    config = {},
    proxy,
  }: {
    readonly application?: Readonly<Record<string, unknown>>
    readonly openid?: Readonly<Record<string, unknown>>
    readonly client?: RequestedMetadata
    readonly options?: Parameters<typeof startGate>[1]
    readonly config?: Readonly<Record<string, unknown>>
    /** Starts what listens at {@link app} in place of the gate. */
    readonly proxy?: (gate: TestGate, application: TestApplication) => Promise<Listener>
  } = {},
): Promise<BrowserGate> {
  await using opened = new AsyncDisposableStack()
  let offsetMs = 0
  const now = () => Date.now() + offsetMs
  const client = await server.addClient({
    application_type: 'web',
    redirect_uris: [`${app}/.gate/callback`],
    post_logout_redirect_uris: [`${app}/.gate/signed-out`],
    backchannel_logout_uri: `${app}/.gate/backchannel-logout`,
    ...metadata,
  })
  const application = opened.use(
    await startApplication({ audience: app, jwks: { keys: [gateKey.publicJwk] }, now }),
  )
  const gate = opened.use(
    await startGate(
      {
        issuer: { url: server.issuer },
        browsers: { secretFiles: ['unused'] },
        applications: [
          {
            origin: app,
            upstream: { url: application.url },
            openid: { clientId: client.client_id, ...openid },
            ...settings,
          },
        ],
        ...config,
      },
      { now, secrets: [gateSecret], fetch: undefined, ...options },
    ),
  )
  const fetch = fetchThrough(proxy ? await proxy(gate, application) : gate)
  const open = opened.move()
  return {
    ...{ gate, application, fetch, now, clientId: client.client_id },
    advance(milliseconds) {
      offsetMs += milliseconds
    },
    newBrowser: () => newBrowser(fetch),
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}

/** What listens on loopback; with an authority (PEM), by TLS. */
export type Listener = Readonly<{ port: number; ca?: string }>

/** A `fetch` that reaches {@link app} at the gate, or at what listens in its place. */
export function fetchThrough({ port, ca }: Listener): typeof globalThis.fetch {
  return async (input, init = {}) => {
    const url = new URL(input instanceof Request ? input.url : input)
    if (url.origin !== app) return globalThis.fetch(input, init)
    const tls = { ca, servername: url.hostname }
    const sent = (ca === undefined ? httpRequest : httpsRequest)({
      ...(ca !== undefined && tls),
      ...{ port, host: '127.0.0.1', path: url.pathname + url.search, agent: false },
      method: init.method ?? 'GET',
      headers: { ...Object.fromEntries(new Headers(init.headers)), host: url.host },
    })
    const body = init.body instanceof URLSearchParams ? String(init.body) : init.body
    if (init.body instanceof URLSearchParams) {
      sent.setHeader('content-type', 'application/x-www-form-urlencoded')
    }
    sent.end(body as string | undefined)
    const [answer] = (await once(sent, 'response')) as [IncomingMessage]
    const chunks: Buffer[] = []
    for await (const chunk of answer) chunks.push(chunk)
    const headers = new Headers()
    for (let at = 0; at < answer.rawHeaders.length; at += 2) {
      headers.append(answer.rawHeaders[at] ?? '', answer.rawHeaders[at + 1] ?? '')
    }
    return new Response(chunks.length > 0 ? Buffer.concat(chunks) : null, {
      status: answer.statusCode ?? 0,
      headers,
    })
  }
}

function newBrowser(send: typeof globalThis.fetch, jar = new CookieJar()): GateBrowser {
  const offers: string[] = []
  const key = makeKey()
  const fetch: typeof globalThis.fetch = async (...request) => {
    const response = await send(...request)
    const offer = response.headers.get('secure-session-registration')
    if (offer !== null) offers.push(offer)
    return response
  }
  const browser = createBrowser({ fetch, jar })

  async function sendWith(path: string, init: RequestInit = {}): Promise<Response> {
    const response = await fetch(app + path, {
      ...init,
      headers: {
        cookie: await jar.getCookieString(app + path),
        ...(init.headers as Record<string, string>),
      },
    })
    for (const cookie of response.headers.getSetCookie()) await jar.setCookie(cookie, app + path)
    return response
  }
  const dbsc = (path: string, headers: Record<string, string>) =>
    sendWith(`/.gate/dbsc/${path}`, { method: 'POST', headers })

  return {
    ...browser,
    ...{ jar, offers },
    send: sendWith,
    async signIn(path = '/') {
      let page = await browser.visit(app + path)
      if (page.html.includes('>Sign in<')) {
        page = await browser.submit(page, 'Sign in', { email, password })
      }
      if (page.html.includes('>Allow<')) page = await browser.submit(page, 'Allow')
      return page
    },
    register(by = key, offer = offers.at(-1) ?? '') {
      const parameter = (name: string) => new RegExp(`;${name}="([^"]+)"`).exec(offer)?.[1]
      const claims = { jti: parameter('challenge'), authorization: parameter('authorization') }
      return dbsc('registration', { 'secure-session-response': registrationProof(claims, {}, by) })
    },
    async refresh(session, by = key) {
      const id = { 'sec-secure-session-id': session }
      const asked = await dbsc('refresh', id)
      const jti = /^"([^"]+)"/.exec(asked.headers.get('secure-session-challenge') ?? '')?.[1]
      if (jti === undefined) return asked
      return dbsc('refresh', { ...id, 'secure-session-response': refreshProof({ jti }, {}, by) })
    },
    copy(wanted = () => true) {
      const { cookies, ...rest } = jar.serializeSync() as NonNullable<
        ReturnType<typeof jar.serializeSync>
      >
      const kept = cookies.filter((cookie) => wanted(cookie.key ?? ''))
      return newBrowser(send, CookieJar.deserializeSync({ ...rest, cookies: kept }))
    },
    async cookie(name) {
      return (await jar.getCookies(app)).find((each) => each.key === name)?.value
    },
  }
}
