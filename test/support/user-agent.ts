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
  forget(name: string): void
}

interface Cookie {
  name: string
  value: string
  path: string
}

/** A browser's cookies and redirects, and nothing else of it. */
export function createUserAgent(origin: string): UserAgent {
  const cookies = new Map<string, Cookie>()

  function keep(header: string) {
    const [pair = '', ...attributes] = header.split(';')
    const name = pair.slice(0, pair.indexOf('='))
    const value = pair.slice(pair.indexOf('=') + 1)
    const path =
      attributes
        .map((a) => a.trim())
        .find((a) => a.startsWith('path='))
        ?.slice(5) ?? '/'
    if (value) cookies.set(`${name} ${path}`, { name, value, path })
    else cookies.delete(`${name} ${path}`)
  }

  async function send(url: string, init: RequestInit): Promise<Page> {
    const target = new URL(url, origin)
    const cookie = [...cookies.values()]
      .filter(({ path }) =>
        `${target.pathname}/`.startsWith(path.endsWith('/') ? path : `${path}/`),
      )
      .map(({ name, value }) => `${name}=${value}`)
      .join('; ')
    const response = await fetch(target, {
      redirect: 'manual',
      ...init,
      headers: { accept: 'text/html', cookie, ...init.headers },
    })
    for (const header of response.headers.getSetCookie()) keep(header)
    const location = response.headers.get('location')
    return {
      status: response.status,
      headers: response.headers,
      text: await response.text(),
      location: location === null ? undefined : new URL(location, target).href,
    }
  }

  return {
    get: (url, headers = {}) => send(url, { headers }),
    post: (url, fields, headers = {}) =>
      send(url, { method: 'POST', body: new URLSearchParams(fields), headers }),
    async follow(page) {
      let current = page
      while (current.location?.startsWith(`${origin}/`)) current = await send(current.location, {})
      return current
    },
    forget(name) {
      for (const key of cookies.keys()) if (key.startsWith(`${name} `)) cookies.delete(key)
    },
  }
}
