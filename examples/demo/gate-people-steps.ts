import { hash } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import type { Page, Response as PageResponse } from 'playwright-core'
import { createBrowser } from '../../test/support/browser.ts'
import { until } from '../../test/support/until.ts'
import { refreshProof, registrationProof } from '../../test/support/verify/dbsc.ts'
import { makeKey } from '../../test/support/verify/keys.ts'
import { found, type Part } from './gate-fixtures.ts'

const sessionCookie = '__Host-gate'
const boundCookie = '__Host-gate-bound'
const uploadBytes = 2_000_000

/** From the configuration to a form and an upload. */
export async function signInThroughGate({ fixtures, runner, page }: Part): Promise<void> {
  const { gate, origins, context, email, password, taps } = fixtures
  const { notes, orders } = origins
  const { owner } = runner
  runner.section('An old application behind the gate, in Chromium')
  await owner('holdfast gate check: the configuration', 'accept', async () => {
    const said = await gate.check()
    return found(/ is valid: /.test(said), `valid, ${said.split(', ').length} applications`)
  })
  await owner('a script without a session: a link, no redirect', 'reject', async () => {
    await page.goto(`${notes}/help`)
    return scriptAnswer(page, '/notes')
  })
  await owner('a page: sign in, and back to the same address', 'accept', async () => {
    await page.goto(`${notes}/notes?berth=7`)
    await page.getByLabel('Email').fill(email)
    await page.getByLabel('Password').fill(password)
    await page.getByRole('button', { name: 'Sign in' }).click()
    await page.getByRole('button', { name: 'Allow' }).click()
    await page.waitForURL(`${notes}/**`)
    return found(page.url() === `${notes}/notes?berth=7`, new URL(page.url()).pathname)
  })
  await owner('the application sees who asks', 'accept', async () => {
    const seen = fieldsOf(taps.notes.last('GET /notes?berth=7 '))
    return found(seen.get('x-holdfast-email') === email, seen.get('x-holdfast-email') ?? 'nobody')
  })
  await owner('the session is bound to a key of the browser', 'accept', async () => {
    await page.goto(`${notes}/bound`)
    await page.getByRole('heading', { name: 'Harbour notes' }).waitFor()
    const methods = fieldsOf(taps.notes.last('GET /bound ')).get('x-holdfast-methods')
    return found(methods === 'dbsc', methods || 'no key')
  })
  await owner('an upload of two megabytes', 'accept', async () => {
    await page.goto(`${notes}/notes`)
    await page.getByLabel('File').setInputFiles({
      ...{ name: 'chart.bin', mimeType: 'application/octet-stream' },
      buffer: Buffer.alloc(uploadBytes, 'x'),
    })
    await page.getByRole('button', { name: 'Upload' }).click()
    const text = await page.getByText('bytes arrived').innerText()
    return found(Number.parseInt(text, 10) > uploadBytes, text.replace('.', ''))
  })
  const form = await context.newPage()
  await form.goto(`${notes}/notes`)
  await form.getByLabel('Note').fill('Berth 7 is free.')
  await owner('sign out here, in another tab', 'reject', async () => {
    await page.goto(`${notes}/.gate/sign-out`)
    await page.getByRole('button', { name: 'Sign out here' }).click()
    await page.getByText('You are signed out').waitFor()
    return scriptAnswer(form, '/notes')
  })
  await owner('the form that was open: kept over the sign-in, sent', 'accept', async () => {
    await form.getByRole('button', { name: 'Keep the note' }).click()
    await form.getByRole('listitem').waitFor()
    const kept = await form.getByRole('listitem').allInnerTexts()
    return found(kept.join() === 'Berth 7 is free.', `${kept.length} note`)
  })
  await form.close()
  await owner('another application: signed in without a page', 'accept', async () => {
    await page.goto(orders)
    await page.getByRole('button', { name: 'Allow' }).click()
    await page.waitForURL(`${orders}/**`)
    let identity = await jsonOf(page)
    // The browser registers its key a moment after the sign-in.
    await until(async () => {
      await page.reload()
      identity = await jsonOf(page)
      return identity.proven?.includes('dbsc') ?? false
    })
    return found(identity.email === email, `${identity.email} ${identity.proven}`)
  })
}

/** A thief has a copy of every cookie of the browser, and not its key. */
export async function stealJar({ fixtures, runner, page }: Part): Promise<void> {
  const { origins, context, windowS, gateFetch, evilOrigin } = fixtures
  const { notes } = origins
  const { owner, thief } = runner
  runner.section('A thief has every cookie of the browser')
  await page.goto(`${notes}/bound`)
  await page.getByRole('heading', { name: 'Harbour notes' }).waitFor()
  const before = await sessionOf(page, notes)
  const jar = (await context.cookies(notes)).map(({ name, value }) => `${name}=${value}`)
  const use = (path: string, init: RequestInit = {}, cookies = jar) =>
    gateFetch(notes + path, {
      ...init,
      headers: { ...ofAScript, ...(init.headers as object), cookie: cookies.join('; ') },
    })
  await thief(
    `all cookies, within ${windowS} seconds of the last proof`,
    () => use('/notes'),
    'accept',
  )
  await thief('the session cookie without the bound cookie', () =>
    untilRefused(() =>
      use(
        '/notes',
        {},
        jar.filter((cookie) => !cookie.startsWith(boundCookie)),
      ),
    ),
  )
  await thief(`all cookies, after ${windowS} seconds`, () => untilRefused(() => use('/notes')))
  await thief("all cookies: a fresh proof by the thief's key", async () => {
    const secret = jar.find((each) => each.startsWith(`${sessionCookie}=`))?.split(/[=.]/)[1] ?? ''
    const id = { 'sec-secure-session-id': hash('sha256', secret, 'base64url') }
    const asked = await use('/.gate/dbsc/refresh', { method: 'POST', headers: id })
    const [, jti] = /^"([^"]+)"/.exec(asked.headers.get('secure-session-challenge') ?? '') ?? []
    const proof = { ...id, 'secure-session-response': refreshProof({ jti }, {}, makeKey()) }
    return use('/.gate/dbsc/refresh', { method: 'POST', headers: proof })
  })
  await thief("all cookies: register the thief's key", () =>
    use('/.gate/dbsc/registration', {
      method: 'POST',
      headers: { 'secure-session-response': registrationProof({ jti: 'any' }, {}, makeKey()) },
    }),
  )
  await thief('all cookies: sign the owner out', async () => {
    const form = { 'content-type': 'application/x-www-form-urlencoded' }
    await use('/.gate/sign-out', { method: 'POST', headers: form })
    const { got } = await sameSession(page, notes, before)
    return found(got === 'reject', got === 'accept' ? 'the session continues' : 'it has ended')
  })
  await thief("a form on another site, in the owner's browser", async () => {
    const site = await context.newPage()
    await site.goto(evilOrigin)
    const [answer] = await Promise.all([
      site.waitForResponse((response) => response.request().method() === 'POST'),
      site.getByRole('button', { name: 'Win a prize' }).click(),
    ])
    const given = await asResponse(answer)
    await site.close()
    return given
  })
  await owner('all the while: no new sign-in', 'accept', async () => {
    return sameSession(page, notes, before)
  })
}

/** What a route asks for beyond a sign-in. */
export async function askForMore({ fixtures, runner, page }: Part): Promise<void> {
  const { origins, addToGroup, gateFetch, other, email, taps } = fixtures
  const { notes } = origins
  const { owner, thief } = runner
  runner.section('What a page asks for, and forged identities')
  await owner('a page for a group that the owner is not in', 'reject', () =>
    scriptAnswer(page, '/crew'),
  )
  await owner('added to the group, after the next sign-in', 'accept', async () => {
    await addToGroup('crew')
    await page.goto(`${notes}/.gate/sign-in?return=/crew`)
    await page.waitForURL(`${notes}/crew`)
    const groups = fieldsOf(taps.notes.last('GET /crew ')).get('x-holdfast-groups')
    return found(groups === 'crew', `groups: ${groups}`)
  })
  await owner('a page for passkeys, after sign-in by password', 'reject', async () => {
    // The gate asks the provider once, which has nothing better.
    await page.goto(`${notes}/payroll`)
    await page.getByText('does not have the strength').waitFor()
    await page.goto(`${notes}/notes`)
    return scriptAnswer(page, '/payroll')
  })
  const cookies = new Map<string, string>()
  const plain = createBrowser({ fetch: keeping(gateFetch, notes, cookies) })
  await owner('a browser without DBSC: an ordinary page', 'accept', async () => {
    const login = await plain.visit(`${notes}/notes`)
    const consent = await plain.submit(login, 'Sign in', other)
    const { status } = await plain.submit(consent, 'Allow')
    return new Response(null, { status })
  })
  const asOther = (path: string, forged: Record<string, string> = {}) =>
    gateFetch(notes + path, {
      headers: {
        ...ofAScript,
        ...forged,
        cookie: `${sessionCookie}=${cookies.get(sessionCookie)}`,
      },
    })
  await owner('a browser without DBSC: a page that needs a key', 'reject', () => asOther('/bound'))
  const spellings = forgedFields(email)
  await thief(`the owner's name in ${spellings.length} identity headers`, async () => {
    const seen: string[] = []
    for (const [name, value] of spellings) {
      await asOther('/notes', { [name]: value })
      seen.push(taps.notes.last('GET /notes '))
    }
    const isForged = seen.some((request) => request.includes(email))
    const isOther = seen.every((request) => request.includes(`X-Holdfast-Email: ${other.email}`))
    return isForged || !isOther
      ? found(true, 'a forged header arrived')
      : found(false, "the thief's own name")
  })
  await thief('the same without a session, on a public page', async () => {
    await gateFetch(`${notes}/help`, { headers: Object.fromEntries(spellings) })
    const seen = taps.notes.last('GET /help ')
    const isForged = seen === '' || seen.includes(email)
    return found(isForged, isForged ? 'a forged name' : 'no name')
  })
}

/** A restart, in which nobody has to sign in again. */
export async function restartGate(
  { fixtures, runner, page }: Part,
  usedRequest: () => Promise<Response>,
): Promise<void> {
  const { gate, origins } = fixtures
  runner.section('The gate restarts; its sessions are in PostgreSQL')
  const before = await sessionOf(page, origins.notes)
  await gate.stop()
  await gate.start()
  await runner.owner('the next page: no sign-in', 'accept', async () =>
    sameSession(page, origins.notes, before),
  )
  await runner.thief('token and proof that were used before the restart', usedRequest)
}

/** A sign-out at the provider ends the sessions of all applications. */
export async function endEverywhere({ fixtures, runner, page }: Part): Promise<void> {
  const { origins, context, gateFetch } = fixtures
  const { notes, orders } = origins
  const { owner, thief } = runner
  runner.section('Sign-out')
  const tab = await context.newPage()
  await tab.goto(orders)
  const jar = (await context.cookies(orders)).map(({ name, value }) => `${name}=${value}`)
  await owner('sign out everywhere, from one application', 'accept', async () => {
    await page.goto(`${notes}/.gate/sign-out`)
    await page.getByRole('button', { name: 'Sign out everywhere' }).click()
    await page.getByRole('button', { name: 'Sign out everywhere' }).click()
    await page.waitForURL(`${notes}/.gate/signed-out`)
    return new Response()
  })
  await owner('another application, by back-channel logout', 'reject', () =>
    untilRefused(() => scriptAnswer(tab, '/')),
  )
  await thief('the cookies of that application, copied just before', () =>
    gateFetch(orders, { headers: { ...ofAScript, cookie: jar.join('; ') } }),
  )
}

/** The cookie of the session: a sign-in makes another one. */
async function sessionOf(page: Page, origin: string): Promise<string | undefined> {
  const cookies = await page.context().cookies(origin)
  return cookies.find(({ name }) => name === sessionCookie)?.value
}

/** Whether a page that needs a bound session opens, by the session of before. */
async function sameSession(page: Page, origin: string, before: string | undefined) {
  const answer = await page.goto(`${origin}/bound`)
  const isSame = before !== undefined && (await sessionOf(page, origin)) === before
  return found(answer?.ok() === true && isSame, isSame ? 'the same session' : 'a new session')
}

/** What scripts of the application's pages send. */
const ofAScript = { 'sec-fetch-mode': 'cors', 'sec-fetch-site': 'same-origin' }

/** Every way of naming a person that some application believes. */
const forgedFields = (name: string): [string, string][] => [
  ...['x-holdfast-email', 'x_holdfast_email', 'x-holdfast_email', 'x.holdfast.email'].map(
    (field): [string, string] => [field, name],
  ),
  ...['holdfast-identity', 'holdfast_identity', 'remote-user', 'x-remote-user'].map(
    (field): [string, string] => [field, name],
  ),
  ...['x-forwarded-user', 'x-forwarded-email', 'x-auth-request-email', 'forwarded'].map(
    (field): [string, string] => [field, field === 'forwarded' ? `for="${name}"` : name],
  ),
]

/** The fields of a request that was read on its way, by their names in lower case. */
function fieldsOf(request: string): ReadonlyMap<string, string> {
  const [head = ''] = request.split('\r\n\r\n')
  return new Map(
    head
      .split('\r\n')
      .slice(1)
      .map((line) => {
        const [name = '', ...value] = line.split(': ')
        return [name.toLowerCase(), value.join(': ')]
      }),
  )
}

/** What a script of a page gets. One that was redirected has got no link. */
async function scriptAnswer(page: Page, path: string): Promise<Response> {
  const [type, status, text] = await page.evaluate(async (to) => {
    const response = await fetch(to, { redirect: 'manual' })
    return [response.type, response.status, await response.text()] as const
  }, path)
  if (type === 'opaqueredirect') return Response.json({ error: 'redirected' }, { status: 500 })
  const body = parse(text)
  const hasLink = status !== 401 || URL.canParse(body.sign_in ?? '')
  return Response.json(hasLink ? body : { error: 'no link' }, { status: hasLink ? status : 500 })
}

interface Told {
  readonly error?: string
  readonly sign_in?: string
  readonly email?: string
  readonly proven?: readonly string[]
}

function parse(text: string): Told {
  try {
    return JSON.parse(text) as Told
  } catch {
    return {}
  }
}

/** What a page says that is JSON. */
const jsonOf = async (page: Page) => parse(await page.locator('body').innerText())

async function asResponse(answer: PageResponse | null): Promise<Response> {
  const status = answer?.status() ?? 500
  return status < 400
    ? new Response()
    : Response.json(parse((await answer?.text()) ?? ''), { status })
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

/** A `fetch` that notes the cookies of an origin. */
function keeping(
  fetch: typeof globalThis.fetch,
  origin: string,
  cookies: Map<string, string>,
): typeof globalThis.fetch {
  return async (input, init) => {
    const response = await fetch(input, init)
    if (String(input).startsWith(origin)) {
      for (const cookie of response.headers.getSetCookie()) {
        const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(cookie) ?? []
        cookies.set(name, value)
      }
    }
    return response
  }
}
