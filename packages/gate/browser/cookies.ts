/** The gate's own cookies. Each is for one origin (`__Host-`), and no script and no application sees it. */
import { type Fields, valuesOf } from '../headers.ts'
import { isOwnName } from './own-cookies.ts'

/** The session. */
export const sessionCookie = '__Host-gate'

/** Shows that the key of the session was proven (DBSC). */
export const boundCookie = `${sessionCookie}-bound` as const

/** Shows that the key of a page was proven. */
export const pageKeyCookie = `${sessionCookie}-page-key` as const

/** Sign-ins that have begun in parallel tabs. */
export const signInCookies = Array.from({ length: 5 }, (_, slot) => `${sessionCookie}-in-${slot}`)

/** Forms that wait for a sign-in. */
export const formCookies = Array.from({ length: 2 }, (_, slot) => `${sessionCookie}-form-${slot}`)

/** Cookies of a request, by name; of two with one name, none. */
export function readCookies(fields: Fields): ReadonlyMap<string, string> {
  const found = new Map<string, string>()
  const twice = new Set<string>()
  for (const pair of valuesOf(fields, 'cookie').flatMap((value) => value.split(/; ?/))) {
    const at = pair.indexOf('=')
    const name = pair.slice(0, at).trim()
    if (at <= 0 || !isOwnName(name)) continue
    if (found.has(name)) twice.add(name)
    found.set(name, pair.slice(at + 1).trim())
  }
  for (const name of twice) found.delete(name)
  return found
}

/** A `Set-Cookie`; without `maxAgeS` it ends with the browser. */
export function setCookie(name: string, value: string, maxAgeS?: number): string {
  const age = maxAgeS === undefined ? '' : `; Max-Age=${maxAgeS}`
  return `${name}=${value}; Path=/; Secure; HttpOnly; SameSite=Lax${age}`
}

/** A `Set-Cookie` that removes a cookie. */
export const expiredCookie = (name: string) => setCookie(name, '', 0)
