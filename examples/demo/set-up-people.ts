import { execFile } from 'node:child_process'
import { hash, randomBytes } from 'node:crypto'
import { promisify } from 'node:util'
import Koa from 'koa'
import * as oidc from 'openid-client'
import { chromium } from 'playwright-core'
import getRawBody from 'raw-body'
import { CookieJar } from 'tough-cookie'
import { passkeyAndSessionAcr } from '../../src/accounts/acr.ts'
import {
  boundArguments,
  certificateOf,
  chromiumArguments,
  chromiumPath,
} from '../../test/support/chromium-program.ts'
import { openEnvironment } from './environment.ts'
import { othersOf } from './gate-program.ts'
import type { PeopleFixtures } from './people-scenario.ts'
import { recordingFetch } from './recording-fetch.ts'
import { createRelyingParty } from './relying-party.ts'

/** Short, so that nobody waits ten minutes for the end of the scenario. */
const windowS = 8
const email = 'mia@example.com'
const run = promisify(execFile)

/** A browser with a passkey provider, an application that demands passkeys, and a phisher's proxy. */
export async function setUpPeople(report: (text: string) => void): Promise<PeopleFixtures> {
  await using opened = new AsyncDisposableStack()
  const environment = opened.use(
    await openEnvironment(report, {
      environment: { HOLDFAST_SESSION_PROOF_SECONDS: String(windowS) },
    }),
  )
  const { issuer, audience } = environment
  // The API answers there that it knows nobody; the browser's address is all that matters.
  const redirectUri = `${audience}/callback`
  const bank = await environment.register({
    client_name: 'Bank',
    redirect_uris: [redirectUri],
    grant_types: ['authorization_code', 'refresh_token'],
    session_policy: { required_acr: passkeyAndSessionAcr },
  })
  const news = await environment.register({
    client_name: 'News',
    redirect_uris: [redirectUri],
    token_endpoint_auth_method: 'none',
  })
  const { fetch, lastResponse } = recordingFetch(globalThis.fetch)
  const relyingParty = await createRelyingParty({
    ...{ issuer, redirectUri, fetch, clientId: bank.client_id },
    resource: audience,
    authentication: oidc.ClientSecretBasic(bank.client_secret ?? ''),
    dpopKey: await oidc.randomDPoPKeyPair('ES256'),
  })

  report('phisher')
  const phisher = createPhisher(issuer)
  const proxy = opened.use(await environment.serve('login.phisher.example', phisher.serve))

  report('Chromium')
  const certificates = await Promise.all(
    [issuer, audience, proxy.origin].map((origin) => {
      const { port, hostname } = new URL(origin)
      return certificateOf(Number(port), hostname)
    }),
  )
  const browser = await chromium.launch({
    executablePath: chromiumPath ?? '',
    args: [
      ...chromiumArguments({ 'login.phisher.example': '127.0.0.1' }),
      ...boundArguments(certificates),
    ],
  })
  opened.defer(() => browser.close())

  const authorizeUrl = (clientId: string, more: Record<string, string> = {}) => {
    const url = new URL(`${issuer}/authorize`)
    url.search = String(
      new URLSearchParams({
        client_id: clientId,
        response_type: 'code',
        redirect_uri: redirectUri,
        scope: 'openid',
        code_challenge: hash('sha256', randomBytes(32), 'base64url'),
        code_challenge_method: 'S256',
        ...more,
      }),
    )
    return url.href
  }
  const open = opened.move()
  return {
    ...{ issuer, email, windowS, relyingParty, lastResponse, redirectUri },
    context: await browser.newContext(),
    bankUrl: (more) => authorizeUrl(bank.client_id, more),
    newsUrl: (more) => authorizeUrl(news.client_id, more),
    phisher: { origin: proxy.origin, jar: phisher.jar, typed: phisher.typed },
    async addAccount() {
      const { stdout } = await run(
        process.execPath,
        ['bin/holdfast.cjs', 'accounts', 'add', email],
        // Settings of a server that the person at the terminal runs are not those of the demo's.
        { env: { ...othersOf(process.env), ...environment.variables } },
      )
      return /https:\S+\/link\/\S+/.exec(stdout)?.[0] ?? ''
    },
    async boundSession() {
      const found = await environment.accounts.findByEmail(email)
      const own = await environment.sessions.listOf(found?.account.id ?? '')
      return own.find(({ binding }) => binding)?.uid
    },
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}

/**
 * A phisher: serves the pages of an identity provider at an origin of its own, sends on what is
 * typed there, and keeps it with the cookies of the session that comes of it.
 */
function createPhisher(issuer: string) {
  const jar = new CookieJar()
  const typed = new Map<string, string>()

  const serve = (origin: string) => {
    const there = (text: string) => text.replaceAll(issuer, origin)
    const app = new Koa()
    app.use(async (ctx) => {
      const url = issuer + ctx.url
      const body = ctx.method === 'POST' ? await getRawBody(ctx.req, { encoding: 'utf8' }) : null
      for (const [name, value] of new URLSearchParams(body ?? '')) typed.set(name, value)
      const answer = await fetch(url, {
        method: ctx.method,
        redirect: 'manual',
        headers: {
          accept: ctx.get('accept'),
          cookie: await jar.getCookieString(url),
          ...(body !== null && { 'content-type': ctx.get('content-type') }),
        },
        body,
      })
      for (const cookie of answer.headers.getSetCookie()) await jar.setCookie(cookie, url)
      ctx.status = answer.status
      for (const name of ['content-type', 'content-security-policy', 'location']) {
        const value = answer.headers.get(name)
        if (value !== null) ctx.set(name, there(value))
      }
      ctx.body = /text|script/.test(answer.headers.get('content-type') ?? '')
        ? there(await answer.text())
        : Buffer.from(await answer.arrayBuffer())
    })
    return app
  }
  return { jar, typed, serve }
}
