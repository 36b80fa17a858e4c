import { CookieJar } from 'tough-cookie'

export interface Page {
  status: number
  headers: Headers
  text: string
  /** Absolute; undefined when the answer is no redirect. */
  location: string | undefined
}

export interface UserAgent {
  get(url: string, headers?: Record<string, string>): Promise<Page>
  post(
    url: string,
    fields: Record<string, string> | URLSearchParams,
    headers?: Record<string, string>,
  ): Promise<Page>
  /** Follows redirects for as long as they stay at this origin; the last answer is the one that left, or the page. */
  follow(page: Page): Promise<Page>
  /** Another browser with those cookies of this one that are `wanted`, by name. */
  copy(wanted?: (name: string) => boolean): UserAgent
  /** Copies one cookie of another browser. */
  take(from: UserAgent, name: string): Promise<void>
  readonly jar: CookieJar
}

/** A browser's cookies and redirects, one step at a time, and nothing else of it. */
export function createUserAgent(origin: string, jar = new CookieJar()): UserAgent {
  async function send(url: string, init: RequestInit): Promise<Page> {
    const target = new URL(url, origin)
    const response = await fetch(target, {
      redirect: 'manual',
      ...init,
      headers: {
        accept: 'text/html',
        cookie: await jar.getCookieString(target.href),
        ...init.headers,
      },
    })
    for (const cookie of response.headers.getSetCookie()) await jar.setCookie(cookie, target.href)
    const location = response.headers.get('location')
    return {
      status: response.status,
      headers: response.headers,
      text: await response.text(),
      location: location === null ? undefined : new URL(location, target).href,
    }
  }

  return {
    jar,
    copy(wanted = () => true) {
      const { cookies, ...all } = jar.serializeSync() ?? raise()
      const kept = cookies.filter(({ key }) => wanted(key ?? ''))
      return createUserAgent(origin, CookieJar.deserializeSync({ ...all, cookies: kept }))
    },
    async take(from, name) {
      const cookie = (await from.jar.getCookies(origin)).find(({ key }) => key === name)
      await jar.setCookie(cookie?.clone() ?? raise(), origin)
    },
    get: (url, headers = {}) => send(url, { headers }),
    post: (url, fields, headers = {}) =>
      send(url, { method: 'POST', body: new URLSearchParams(fields), headers }),
    async follow(page) {
      let current = page
      while (current.location?.startsWith(`${origin}/`)) current = await send(current.location, {})
      return current
    },
  }
}

function raise(): never {
  throw new Error('no such cookie')
}
