import { setTimeout } from 'node:timers/promises'
import { decodeJwt } from 'jose'
import { Secret, TOTP } from 'otpauth'
import type { BrowserContext, Page } from 'playwright-core'
import { CookieJar } from 'tough-cookie'
import { passkeyAndSessionAcr } from '../../src/accounts/acr.ts'
import {
  type Page as Answer,
  createUserAgent,
  type UserAgent,
} from '../../test/support/user-agent.ts'
import { addVirtualAuthenticator } from '../../test/support/virtual-authenticator.ts'
import type { RelyingParty, Tokens } from './relying-party.ts'
import type { Runner } from './steps.ts'

export interface PeopleFixtures extends AsyncDisposable {
  readonly issuer: string
  readonly email: string
  readonly context: BrowserContext
  readonly redirectUri: string
  /** The bank, which demands a passkey and a bound session. */
  readonly relyingParty: RelyingParty
  readonly lastResponse: () => Response
  readonly bankUrl: (more?: Record<string, string>) => string
  /** An application that takes passwords as well. */
  readonly newsUrl: (more?: Record<string, string>) => string
  /** Seconds for which a copy of all cookies is good. */
  readonly windowS: number
  /** `holdfast accounts add`, and the link that it prints. */
  readonly addAccount: () => Promise<string>
  /** The name of the browser's session, once it is bound to a key. */
  readonly boundSession: () => Promise<string | undefined>
  readonly phisher: {
    readonly origin: string
    readonly jar: CookieJar
    /** What was typed last, by the name of the field. */
    readonly typed: ReadonlyMap<string, string>
  }
}

const password = 'a mast, a keel and nine sails'
const guess = 'correct horse battery staple'

/**
 * The scenario of people: an invitation, a passkey, a bound session and a call of an API; then a thief
 * of all cookies, a phisher with a proxy of the sign-in page, and a thief of a recovery code.
 */
export async function runPeopleScenario(fixtures: PeopleFixtures, runner: Runner): Promise<void> {
  const page = await fixtures.context.newPage()
  await addVirtualAuthenticator(page)
  const tokens = await arrive(fixtures, runner, page)
  const { secret, codes } = await addMethods(fixtures, runner, page)
  await stealSession(fixtures, runner, page)
  await phish(fixtures, runner, { page, secret })
  await stealRecoveryCode(fixtures, runner, codes)
  await runner.owner('the owner, after all of it: refresh, and call the API', 'accept', async () =>
    fixtures.relyingParty.callApi(await fixtures.relyingParty.refresh(tokens)),
  )
}

/** From the invitation to the API. */
async function arrive(
  fixtures: PeopleFixtures,
  { owner, thief }: Runner,
  page: Page,
): Promise<Tokens> {
  const { relyingParty } = fixtures
  let link = ''
  await owner('an operator adds an account: accounts add', 'accept', async () => {
    link = await fixtures.addAccount()
    return link ? new Response() : refused('no link')
  })
  await owner('the link, in Chromium: a passkey, and no password', 'accept', async () => {
    await page.goto(link)
    await page.getByRole('button', { name: 'Create the passkey' }).click()
    await page.getByText('Your passkey was added').waitFor()
    return new Response()
  })
  await thief('the link, once more', async () =>
    answered(await createUserAgent(fixtures.issuer).get(link)),
  )
  const login = await relyingParty.begin(undefined, { acr_values: passkeyAndSessionAcr })
  let callback = new URL(fixtures.issuer)
  await owner('sign in to the bank with the passkey, and allow it', 'accept', async () => {
    await page.goto(login.authorizeUrl.href)
    await page.getByRole('button', { name: 'Use a passkey' }).click({ noWaitAfter: true })
    await page.getByRole('button', { name: 'Allow' }).click()
    await page.waitForURL((url) => url.href.startsWith(fixtures.redirectUri))
    callback = new URL(page.url())
    return answerAt(page.url())
  })
  await owner('the browser has bound its session to a key', 'accept', async () =>
    (await fixtures.boundSession()) ? new Response() : refused('unbound'),
  )
  let tokens: Tokens = { accessToken: '', refreshToken: '', subject: '' }
  await owner('code for tokens, with a DPoP proof', 'accept', async () => {
    tokens = await relyingParty.finish(callback, login)
    return fixtures.lastResponse()
  })
  await owner('the ID token: by passkey, in a bound session', 'accept', async () =>
    decodeJwt(tokens.idToken ?? '').acr === passkeyAndSessionAcr ? new Response() : refused('acr'),
  )
  await owner('call the API', 'accept', () => relyingParty.callApi(tokens))
  return tokens
}

/** Other ways to sign in, which the owner adds by the passkey. */
async function addMethods({ issuer }: PeopleFixtures, { owner }: Runner, page: Page) {
  const confirm = () =>
    page.getByRole('button', { name: 'Continue with a passkey' }).click({ noWaitAfter: true })
  await owner('set a password, by the passkey', 'accept', async () => {
    await page.goto(`${issuer}/security/password`)
    await page.getByLabel('New password').fill(password)
    await confirm()
    // The form has the same heading as the link that follows it.
    await page.waitForURL(`${issuer}/security/sign-in`)
    return new Response()
  })
  let secret = ''
  let codes: string[] = []
  await owner('set up a code app, by the passkey', 'accept', async () => {
    await page.goto(`${issuer}/security/code-app`)
    await confirm()
    await page.getByLabel('Then type the code').waitFor()
    secret = (await page.locator('input[name=secret]').getAttribute('value')) ?? ''
    // That of the step before: the one of now is for later.
    await page.getByLabel('Then type the code').fill(codeOf(secret, -1))
    await page.getByRole('button', { name: 'Finish' }).click()
    await page.getByText('Recovery codes').first().waitFor()
    codes = await page.locator('main li code').allTextContents()
    return codes.length === 10 ? new Response() : refused('no codes')
  })
  return { secret, codes }
}

/** A thief has a copy of all cookies, and not the key. */
async function stealSession(fixtures: PeopleFixtures, { owner, thief }: Runner, page: Page) {
  const { issuer, context, windowS } = fixtures
  await owner('open the account page', 'accept', async () => {
    await page.goto(`${issuer}/security/sign-in`)
    await page.getByText('Passkeys').first().waitFor()
    return new Response()
  })
  const jar = new CookieJar()
  for (const { name, value } of await context.cookies(issuer)) {
    await jar.setCookie(`${name}=${value}; Path=/; Secure`, issuer)
  }
  const agent = createUserAgent(issuer, jar)
  const within = `all cookies, within ${windowS} seconds`
  await thief(`${within}: add a passkey`, () => change(agent, issuer, 'passkeys/add'))
  await thief(`${within}: set another password`, () =>
    change(agent, issuer, 'password', { new_password: 'a password of the thief' }),
  )
  await thief(`${within}: new recovery codes`, () => change(agent, issuer, 'recovery-codes'))
  const token = tokenOf((await agent.get(`${issuer}/security/sessions`)).text)
  await thief(`all cookies, after ${windowS} seconds: the bank`, () =>
    untilRefused(async () => silently(agent, fixtures.bankUrl)),
  )
  await thief(`all cookies, after ${windowS} seconds: sign the owner out`, async () =>
    answered(await agent.post(`${issuer}/security/sessions/end-others`, { token })),
  )
}

/** A phisher shows the pages of the identity provider at another origin, and sends on what is typed. */
async function phish(
  { issuer, bankUrl, newsUrl, email, phisher }: PeopleFixtures,
  { owner, thief }: Runner,
  { page, secret }: { page: Page; secret: string },
) {
  const copied = (url: string) => url.replace(issuer, phisher.origin)
  await thief('a proxy of the sign-in page: the passkey of the bank', async () => {
    await page.goto(copied(bankUrl()))
    await page.getByRole('button', { name: 'Use a passkey' }).click({ noWaitAfter: true })
    await page.getByText('Your browser did not use a passkey').waitFor()
    return refused('passkey_not_used')
  })
  await page.goto(copied(newsUrl()))
  await page.getByLabel('Email').fill(email)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByLabel('Code').waitFor()
  const phished = phisher.typed.get('password') ?? ''
  await thief('the password that was typed there, at the bank', async () => {
    const agent = createUserAgent(issuer)
    const { location = '' } = await agent.get(bankUrl())
    const { text } = await agent.get(location)
    const typed = { token: tokenOf(text), email, password: phished }
    return answered(await agent.post(`${location}/login`, typed))
  })
  // What no code of an app prevents: it is typed into the wrong page, and sent on at once.
  await thief(
    'password and code typed there, at an app that takes them',
    async () => {
      await page.getByLabel('Code').fill(codeOf(secret))
      await page.getByRole('button', { name: 'Sign in' }).click()
      await page.getByRole('button', { name: 'Allow' }).waitFor()
      return new Response()
    },
    'accept',
  )
  const agent = createUserAgent(issuer, phisher.jar)
  await thief('the session of that, at the bank', () => silently(agent, bankUrl))
  await thief('the session of that: add a passkey, by password and code', () =>
    change(agent, issuer, 'passkeys/add', {
      password: phished,
      code: phisher.typed.get('code') ?? '',
    }),
  )
  await owner('sees the sign-in, and ends all others', 'accept', async () => {
    await page.goto(`${issuer}/security/sessions`)
    await page.getByRole('button', { name: 'Sign out everywhere but here' }).click()
    await page.getByRole('button', { name: 'Sign out everywhere but here' }).waitFor({
      state: 'detached',
    })
    return new Response()
  })
  await thief('the session of that, now at the app that takes passwords', () =>
    silently(agent, newsUrl),
  )
}

/** A thief of the password and of one recovery code, which the owner has used. */
async function stealRecoveryCode(
  { issuer, newsUrl, email }: PeopleFixtures,
  { owner, thief }: Runner,
  [code = '']: readonly string[],
) {
  async function signIn(): Promise<Response> {
    const agent = createUserAgent(issuer)
    const { location = '' } = await agent.get(newsUrl())
    const { text } = await agent.get(location)
    const asked = await agent.post(`${location}/login`, { token: tokenOf(text), email, password })
    const field = (name: string) => fieldOf(asked.text, name)
    const proven = { token: field('token'), account: field('account'), proof: field('proof') }
    return answered(await agent.post(`${location}/code`, { ...proven, code }))
  }
  await owner('without the phone: password and a recovery code', 'accept', signIn)
  await thief('the same recovery code, and the password', signIn)
}

/** The code of a secret, so many steps from now. */
const codeOf = (secret: string, steps = 0) =>
  new TOTP({ secret: Secret.fromBase32(secret) }).generate({
    timestamp: Date.now() + steps * 30_000,
  })

const fieldOf = (text: string, name: string) =>
  new RegExp(`name="${name}" value="([^"]+)"`).exec(text)?.[1] ?? ''
const tokenOf = (text: string) => fieldOf(text, 'token')

/** Sends the form of a change, as the page shows it, with what the thief knows or guesses. */
async function change(
  agent: UserAgent,
  issuer: string,
  path: string,
  fields: Record<string, string> = {},
): Promise<Response> {
  const url = `${issuer}/security/${path}`
  const shown = await agent.get(url)
  const typed = { token: tokenOf(shown.text), password: guess, code: '000000', ...fields }
  return answered(await agent.post(url, typed))
}

/** Whether an application is told a code without a page. */
async function silently(
  agent: UserAgent,
  urlOf: (more: Record<string, string>) => string,
): Promise<Response> {
  return answerAt((await agent.get(urlOf({ prompt: 'none' }))).location ?? '')
}

/** What a step's end looks like to the judge: the app was told a code, or an error. */
function answerAt(url: string): Response {
  const parameters = URL.parse(url)?.searchParams
  return parameters?.has('code')
    ? new Response()
    : refused(parameters?.get('error') ?? 'login_required')
}

const refused = (error: string, status = 401) => Response.json({ error }, { status })

/** A page as the judge reads it: the code of an error page, or what a form says of a problem. */
function answered({ status, text }: Answer): Response {
  if (status < 400) return new Response()
  const [, code] = /<dd><code>([a-z_]+)<\/code>/.exec(text) ?? []
  const [, problem] = /role="alert">([^<]+)</.exec(text) ?? []
  return refused(code ?? problem?.split('.')[0] ?? 'unknown', status)
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
