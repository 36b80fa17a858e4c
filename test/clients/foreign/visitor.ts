/** The person at the browser: what each library must let somebody do, whatever it is written in. */
import type { Browser, Page } from '../../support/browser.ts'
import { until } from '../../support/until.ts'

/** Where an application has its pages, below its origin. */
export interface Paths {
  readonly login: string
  /** Answers with the signed-in user as JSON that has their email address. */
  readonly user: string
  /** Refreshes the tokens and answers with JSON; undefined where the library has no refresh. */
  readonly refresh: string | undefined
  /** Signs out at the application and at the server; undefined where the library cannot. */
  readonly logout: string | undefined
}

export interface Person {
  readonly email: string
  readonly password: string
}

/** Reports a step that went well. */
export type Passed = (step: string) => void

/** The buttons of the pages that a person passes through, the application's own among them. */
const buttons = ['Sign in with Holdfast', 'Sign in', 'Allow', 'Sign out everywhere in this browser']

/** Signs in at an application, uses it and signs out. Throws what a step has met. */
export async function useApplication(
  browser: Browser,
  origin: string,
  { login, user, refresh, logout }: Paths,
  person: Person,
  passed: Passed,
): Promise<void> {
  const fields: Record<string, Record<string, string>> = {
    'Sign in': { ...person },
    'Sign out everywhere in this browser': { logout: 'yes' },
  }

  async function walk(place: string): Promise<Page> {
    let page = await browser.visit(origin + place.replace('BASE', encodeURIComponent(origin)))
    for (let step = 0; step < 6; step += 1) {
      const button = buttons.find((name) => page.html.includes(`>${name}<`))
      if (!button) break
      page = await browser.submit(page, button, fields[button])
    }
    return page
  }

  async function json(place: string): Promise<string> {
    const page = await browser.visit(origin + place)
    if (page.status !== 200 || !/^[{[]/.test(page.html)) throw unexpected(page)
    return page.html
  }

  const back = await walk(login)
  if (back.url.origin !== origin || back.status >= 400) throw unexpected(back)
  passed('sign-in')
  const shown = await json(user)
  if (!shown.includes(`"${person.email}"`)) throw new Error(`the user is ${shown}`)
  passed('userinfo')
  if (refresh !== undefined) {
    const before = await json(refresh)
    await until(async () => (await json(refresh)) !== before)
    passed('refresh')
  }
  if (logout !== undefined) {
    const left = await walk(logout)
    if (left.status >= 400) throw unexpected(left)
    const again = await browser.visit(origin + login)
    const asks = buttons.slice(0, 2).some((name) => again.html.includes(`>${name}<`))
    if (!asks) throw new Error(`still signed in after the logout: ${again.url}`)
    passed('logout')
  }
}

function unexpected({ url, status, html }: Page): Error {
  const text = html.replaceAll(/<(style|script)[\s\S]*?<\/\1>|<[^>]*>|\s+/g, ' ')
  return new Error(`${status} at ${url}: ${text.replaceAll(/ +/g, ' ').slice(0, 600)}`)
}
