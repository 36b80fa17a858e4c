/** What a browser's request shows of why it is made, and from where. */
import type { Entered } from '../edge.ts'
import { type Fields, valuesOf } from '../headers.ts'
import { findPathProblem, type PathRules, readTarget } from '../target.ts'

/** Below this path the gate itself answers, at every application with `openid`. */
export const gatePath = '/.gate'

/** The one value of a field, or `undefined` when it is missing or there twice. */
export function onlyValue(fields: Fields, name: string): string | undefined {
  const [value, ...more] = valuesOf(fields, name)
  return more.length > 0 ? undefined : value
}

/** Whether a browser goes to a page: what has no `Sec-Fetch-Mode` is judged by what it accepts. */
export function isNavigation({ method, fields }: Pick<Entered, 'method' | 'fields'>): boolean {
  if (!/^(?:GET|HEAD|POST)$/.test(method)) return false
  const mode = onlyValue(fields, 'sec-fetch-mode')
  if (mode !== undefined) return mode === 'navigate'
  return valuesOf(fields, 'accept').some((value) => /(?:^|,)\s*text\/html/i.test(value))
}

/** Whether another site has caused the request; only browsers that say so are known. */
export function isFromElsewhere(fields: Fields): boolean {
  return /^(?:cross-site|same-site)$/.test(onlyValue(fields, 'sec-fetch-site') ?? '')
}

/** Whether the request was made by a page of this origin, as far as the browser says. */
export function isOwn(fields: Fields, origin: string): boolean | undefined {
  const site = onlyValue(fields, 'sec-fetch-site')
  if (site !== undefined) return site === 'same-origin'
  const from = onlyValue(fields, 'origin')
  return from === undefined ? undefined : from === origin
}

/** So much of an address is remembered over a sign-in. */
const longestReturn = 1500

/**
 * A path of this application, with its query, or `/` for anything else. It is never another origin,
 * never ambiguous, and never the gate's own, which could lead in a circle.
 */
export function safeReturn(text: string | null, rules: PathRules): string {
  if (text === null || text.length > longestReturn || !text.startsWith('/')) return '/'
  const target = readTarget(text)
  if (target === undefined) return '/'
  if (text.startsWith('//') || findPathProblem(target.path, rules) !== undefined) return '/'
  const isGate = target.path === gatePath || target.path.startsWith(`${gatePath}/`)
  return isGate ? '/' : text
}
