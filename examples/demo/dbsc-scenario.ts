import { setTimeout } from 'node:timers/promises'
import type { BrowserContext, Page } from 'playwright-core'
import type { Runner } from './steps.ts'

export interface DbscFixtures extends AsyncDisposable {
  readonly issuer: string
  /** An authorization request of the demo's app, which leads back to it with a code or an error. */
  readonly authorizeUrl: string
  readonly hasLanded: (url: URL) => boolean
  readonly email: string
  readonly password: string
  readonly context: BrowserContext
  /** Seconds for which a copy of all cookies is good. */
  readonly window: number
  /** The name of the browser's session, once it is bound to a key. */
  readonly boundSession: () => Promise<string | undefined>
}

/** What a step's end looks like to the judge: the app was told a code, or an error. */
function answerAt(url: string): Response {
  const parameters = URL.parse(url)?.searchParams
  if (parameters?.has('code')) return new Response()
  return Response.json({ error: parameters?.get('error') ?? 'login_required' }, { status: 401 })
}

/**
 * The scenario with the browser's session: a person signs in with Chromium, and a thief has a complete
 * copy of its cookies.
 */
export async function runDbscScenario(
  fixtures: DbscFixtures,
  { owner, thief }: Runner,
): Promise<void> {
  const { context, issuer, authorizeUrl, hasLanded, window: seconds } = fixtures
  const silently = `${authorizeUrl}&prompt=none`
  const page = await context.newPage()

  await owner('sign in and consent, in Chromium', 'accept', async () => {
    await signIn(page, fixtures)
    return answerAt(page.url())
  })
  await owner('the browser has bound its session to a key', 'accept', async () =>
    (await fixtures.boundSession())
      ? new Response()
      : Response.json({ error: 'unbound' }, { status: 401 }),
  )

  const stolen = (await context.cookies(issuer))
    .map(({ name, value }) => `${name}=${value}`)
    .join('; ')
  const useCopy = async (cookie = stolen) => {
    const answer = await fetch(silently, { redirect: 'manual', headers: { cookie } })
    return answerAt(answer.headers.get('location') ?? '')
  }
  await thief(`all cookies, within ${seconds} seconds of the last proof`, () => useCopy(), 'accept')
  await thief('all cookies but the short-lived one', () => {
    const kept = stolen.split('; ').filter((cookie) => !cookie.startsWith('__Host-holdfast_bound'))
    return untilRefused(() => useCopy(kept.join('; ')))
  })
  await thief(`all cookies, after ${seconds} seconds`, () => untilRefused(useCopy))
  await thief('a new short-lived cookie, without the key', () => refreshWithoutKey(fixtures))

  await owner('the app asks again: no new sign-in', 'accept', async () => {
    await page.goto(silently)
    await page.waitForURL(hasLanded)
    return answerAt(page.url())
  })
  await owner('sign out', 'accept', async () => {
    await page.goto(`${issuer}/session/end`)
    await page.getByRole('button', { name: 'Sign out' }).click()
    await page.getByText('You are signed out').waitFor()
    return new Response()
  })
  await owner('the app asks after that', 'reject', async () => {
    await page.goto(silently)
    await page.waitForURL(hasLanded)
    return answerAt(page.url())
  })
}

async function signIn(page: Page, { authorizeUrl, email, password, hasLanded }: DbscFixtures) {
  await page.goto(authorizeUrl)
  await page.getByLabel('Email').fill(email)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('button', { name: 'Allow' }).click()
  await page.waitForURL(hasLanded)
}

/** The window closes by itself; the thief tries until it has. */
async function untilRefused(attempt: () => Promise<Response>): Promise<Response> {
  const deadline = Date.now() + 30_000
  let answer = await attempt()
  while (answer.ok && Date.now() < deadline) {
    await setTimeout(250)
    answer = await attempt()
  }
  return answer
}

/** The name of the session is no secret: applications are told it. */
async function refreshWithoutKey({ issuer, boundSession }: DbscFixtures): Promise<Response> {
  return fetch(`${issuer}/dbsc/refresh`, {
    method: 'POST',
    headers: {
      'sec-secure-session-id': (await boundSession()) ?? '',
      'secure-session-response': 'forged',
    },
  })
}

/** What the binding does not prevent. */
export const residualWindow = (windowS: number) => `
What stays open: a copy of all cookies works until the short-lived one ends, here after ${windowS} seconds
and by default after ten minutes. Whoever has the device itself has its key as well, and on Linux the
key is a file: this scenario shows the protocol, not the hardware that keeps keys elsewhere.`
