import { hash, randomBytes } from 'node:crypto'
import { chromium } from 'playwright-core'
import {
  boundArguments,
  certificateOf,
  chromiumArguments,
  chromiumPath,
} from '../../test/support/chromium-program.ts'
import type { DbscFixtures } from './dbsc-scenario.ts'
import { openEnvironment } from './environment.ts'

/** Short, so that nobody waits ten minutes for the end of the scenario. */
const window = 8

/** A browser that binds sessions, and an app that people sign in to. */
export async function setUpDbsc(report: (text: string) => void): Promise<DbscFixtures> {
  await using opened = new AsyncDisposableStack()
  const environment = opened.use(
    await openEnvironment(report, {
      environment: { HOLDFAST_SESSION_PROOF_SECONDS: String(window) },
    }),
  )
  const { issuer, audience, email, password, sessions, accounts } = environment
  // The API answers there that it knows nobody; the browser's address is all that matters.
  const landing = `${audience}/callback`
  const { client_id } = await environment.register({
    client_name: 'Demo app',
    redirect_uris: [landing],
    token_endpoint_auth_method: 'none',
  })
  report('Chromium')
  const certificates = await Promise.all(
    [issuer, audience].map((origin) => certificateOf(Number(new URL(origin).port), 'localhost')),
  )
  const browser = await chromium.launch({
    executablePath: chromiumPath ?? '',
    args: [...chromiumArguments({}), ...boundArguments(certificates)],
  })
  opened.defer(() => browser.close())
  const context = await browser.newContext()
  const parameters = new URLSearchParams({
    client_id,
    response_type: 'code',
    redirect_uri: landing,
    scope: 'openid',
    code_challenge: hash('sha256', randomBytes(32), 'base64url'),
    code_challenge_method: 'S256',
  })
  const open = opened.move()
  return {
    issuer,
    email,
    password,
    context,
    window,
    hasLanded: ({ href }) => href.startsWith(landing),
    authorizeUrl: `${issuer}/authorize?${parameters}`,
    async boundSession() {
      const ada = await accounts.findByEmail(email)
      const own = await sessions.listOf(ada?.account.id ?? '')
      return own.find(({ binding }) => binding)?.uid
    },
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}
