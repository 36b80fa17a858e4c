import { parse } from 'node-html-parser'
import { CookieJar } from 'tough-cookie'

const mostRedirects = 20

export interface Page {
  readonly url: URL
  readonly status: number
  readonly html: string
  /** Of the response; undefined where a browser does not tell. */
  readonly headers?: Headers
}

/** A browser without scripts: cookies, redirects, forms. One browser is one person's. */
export interface Browser {
  /** Goes to an address and on through redirects; one that starts with `until` is not followed. */
  visit(url: string | URL, options?: { until?: string }): Promise<Page>
  /** Fills the fields of the form on a page whose button says `button`, and presses it. */
  submit(
    page: Page,
    button: string,
    fields?: Record<string, string>,
    options?: { until?: string },
  ): Promise<Page>
}

export interface BrowserOptions {
  readonly fetch?: typeof globalThis.fetch
  readonly jar?: CookieJar
}

export function createBrowser({
  fetch = (...request) => globalThis.fetch(...request),
  jar = new CookieJar(),
}: BrowserOptions = {}): Browser {
  async function go(url: URL, init: RequestInit, until: string | undefined): Promise<Page> {
    let request = { url, init }
    for (let count = 0; count < mostRedirects; count += 1) {
      const { href } = request.url
      const response = await fetch(href, {
        ...request.init,
        redirect: 'manual',
        headers: {
          ...(request.init.headers as Record<string, string>),
          accept: 'text/html',
          cookie: await jar.getCookieString(href),
        },
      })
      for (const cookie of response.headers.getSetCookie()) await jar.setCookie(cookie, href)
      const location = response.headers.get('location')
      const answer = { status: response.status, headers: response.headers }
      if (!location) return { ...answer, url: request.url, html: await response.text() }
      const next = new URL(location, href)
      if (until !== undefined && next.href.startsWith(until)) {
        return { ...answer, url: next, html: '' }
      }
      request = { url: next, init: {} }
    }
    throw new Error(`more than ${mostRedirects} redirects from ${url.href}`)
  }

  return {
    visit: (url, { until } = {}) => go(new URL(url), {}, until),

    submit(page, button, fields = {}, { until } = {}) {
      const html = parse(page.html)
      const pressed = html.querySelectorAll('button').find(({ text }) => text.trim() === button)
      const elsewhere = pressed?.getAttribute('form')
      const form = elsewhere ? html.getElementById(elsewhere) : pressed?.closest('form')
      if (!form) throw new Error(`no form with the button "${button}" on ${page.url.pathname}`)
      const body = new URLSearchParams()
      for (const input of form.querySelectorAll('input[type=hidden]')) {
        body.append(input.getAttribute('name') ?? '', input.getAttribute('value') ?? '')
      }
      for (const [name, value] of Object.entries(fields)) body.append(name, value)
      const action = new URL(form.getAttribute('action') ?? '', page.url)
      const headers = { origin: page.url.origin }
      return go(action, { method: 'POST', body, headers }, until)
    },
  }
}
