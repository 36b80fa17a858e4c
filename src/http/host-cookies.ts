/**
 * The names that browsers know the engine's cookies by. A name with `__Host-` is set by this host
 * over https for the whole host, or not at all: a sibling host cannot plant one, and with it its own
 * session (RFC 6265bis section 4.1.3.2). Such cookies have no path, so that the cookies of several
 * interactions of one browser are told apart by their names.
 *
 * Where paths have to stay, the prefix is `__Secure-`, which a sibling host may set as well. That is
 * so for the state of an interaction, which a request for another must not carry: it opens for one
 * interaction only. And it is so for every cookie below an issuer with a path: there they end in a
 * tag, made with a secret of the browser that is in a `__Host-` cookie.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import type { Middleware } from 'koa'
import { pathOfIssuer } from '../config/issuer-path.ts'

/** The engine's names, and ours. */
const kinds: Readonly<Record<string, string>> = {
  _session: 'session',
  _interaction: 'interaction',
  _interaction_resume: 'resume',
  _interaction_state: 'state',
}
const engineNames = Object.fromEntries(Object.entries(kinds).map(([name, kind]) => [kind, name]))

/** Interactions of one browser whose cookies are kept; with more, requests would become too large. */
const mostInteractions = 8

export interface Cookie {
  readonly name: string
  readonly value: string
}

/** Gives the engine's cookies their public names; over http, which no prefix is for, does nothing. */
export function hostCookies({ issuer }: { issuer: string }): Middleware {
  if (!issuer.startsWith('https:')) return (_ctx, next) => next()
  return pathOfIssuer(issuer) === '' ? cookiesOfHost() : cookiesBelowPath()
}

/** The cookies of a request, in its order: of one name there may be several. */
export function cookiesOf(header: string | undefined): Cookie[] {
  return (header ?? '').split(';').flatMap((pair) => {
    const at = pair.indexOf('=')
    return at < 0 ? [] : [{ name: pair.slice(0, at).trim(), value: pair.slice(at + 1).trim() }]
  })
}

const hostPrefix = '__Host-holdfast_'
const securePrefix = '__Secure-holdfast_'

function cookiesOfHost(): Middleware {
  return async (ctx, next) => {
    const sent = cookiesOf(ctx.req.headers.cookie)
    const uid = interactionOf(ctx.path)
    ctx.req.headers.cookie = sent.flatMap((cookie) => inboundOfHost(cookie, uid)).join('; ')
    await next()
    const set = cookiesSet(ctx.response.headers)
    if (set.length === 0) return
    const renamed = set.map(outboundOfHost)
    const ended = renamed.flatMap((cookie) => endedResume.exec(cookie)?.[1] ?? [])
    const begins = renamed.some((cookie) => cookie.startsWith(`${hostPrefix}interaction.`))
    // The engine ends one of them itself, with a signature: a proxy may read only 4 KB of headers.
    const others = renamed.filter((cookie) => !ended.includes(uidOf(cookie) ?? ''))
    ctx.set('set-cookie', [...others, ...expire(sent, ended, { begins })])
  }
}

/** A resumption that was used: its interaction is over, and must not count as one of the browser's. */
const endedResume = new RegExp(`^${hostPrefix}resume\\.([^=;]+?)=;`)

function cookiesSet(headers: Readonly<Record<string, unknown>>): string[] {
  return [headers['set-cookie'] ?? []].flat().map(String)
}

/** The uid in the path of an interaction or of its resumption. */
function interactionOf(path: string): string | undefined {
  return /^\/(?:interaction|authorize|device)\/([^/;]+)/.exec(path)?.[1]
}

/** A cookie as the engine is to see it. One by the engine's own name is nobody's of ours. */
function inboundOfHost({ name, value }: Cookie, uid: string | undefined): string[] {
  const [plain, sig] = withoutSignature(name)
  if (Object.hasOwn(kinds, plain)) return []
  if (name === `${securePrefix}state`) return [`${engineNames.state}=${value}`]
  const [kind = '', of] = plain.startsWith(hostPrefix)
    ? plain.slice(hostPrefix.length).split('.', 2)
    : []
  const engineName = kind === 'state' ? undefined : engineNames[kind]
  if (engineName === undefined) return [`${name}=${value}`]
  return of === undefined || of === uid ? [`${engineName}${sig}=${value}`] : []
}

/** A `Set-Cookie` of the engine as the browser is to see it. */
function outboundOfHost(cookie: string): string {
  const at = cookie.indexOf('=')
  const [name, sig] = withoutSignature(cookie.slice(0, at))
  const kind = Object.hasOwn(kinds, name) ? kinds[name] : undefined
  if (kind === undefined) return cookie
  if (kind === 'state') return securePrefix + kind + cookie.slice(at)
  const [value = '', ...attributes] = cookie.slice(at).split(';')
  const path = attributes.find((attribute) => /^ ?path=/i.test(attribute))?.replace(/^ ?path=/i, '')
  const uid = interactionOf(path ?? '')
  const own = `${hostPrefix}${kind}${uid === undefined ? '' : `.${uid}`}${sig}${value}`
  return [own, ...attributes.map((it) => (/^ ?path=/i.test(it) ? ' path=/' : it))].join(';')
}

function withoutSignature(name: string): [name: string, signature: string] {
  return name.endsWith('.sig') ? [name.slice(0, -4), '.sig'] : [name, '']
}

/** Of interactions that are over, and of the oldest where there would be too many. */
function expire(
  sent: readonly Cookie[],
  ended: readonly string[],
  { begins }: { begins: boolean },
): string[] {
  const own = sent.filter(({ name }) => uidOf(name) !== undefined)
  // Browsers send older cookies first.
  const open = [...new Set(own.map(({ name }) => uidOf(name)))].filter(
    (uid) => !ended.includes(uid ?? ''),
  )
  const old = begins ? open.slice(0, Math.max(0, open.length + 1 - mostInteractions)) : []
  const over = new Set([...ended, ...old])
  return own
    .filter(({ name }) => over.has(uidOf(name)))
    .map(({ name }) => `${name}=; path=/; max-age=0; secure; httponly`)
}

/** The interaction that a cookie of ours is for. */
function uidOf(name: string): string | undefined {
  return /^__Host-holdfast_(?:interaction|resume)\.([^.=]+)/.exec(name)?.[1]
}

/**
 * The secrets of a browser. Its first requests may be answered at the same time, so that it has
 * several, each under a name of its own.
 */
const browserPrefix = `${hostPrefix}browser.`

/** Secrets that are tried. */
const mostSecrets = 16

/** Seconds that browsers keep a cookie for at most: 400 days. */
const longestAge = 34_560_000

function cookiesBelowPath(): Middleware {
  return async (ctx, next) => {
    const sent = cookiesOf(ctx.req.headers.cookie)
    const secrets = sent
      .flatMap(({ name, value }) => (name.startsWith(browserPrefix) ? [value] : []))
      .slice(0, mostSecrets)
    ctx.req.headers.cookie = sent.flatMap((cookie) => inboundBelowPath(cookie, secrets)).join('; ')
    await next()
    const set = cookiesSet(ctx.response.headers)
    if (!set.some(isOfEngine)) return
    const [known] = secrets
    const secret = known ?? randomBytes(16).toString('base64url')
    const tagged = set.map((cookie) => outboundBelowPath(cookie, secret))
    ctx.set('set-cookie', known === undefined ? [newBrowser(secret), ...tagged] : tagged)
  }
}

function newBrowser(secret: string): string {
  const name = browserPrefix + randomBytes(6).toString('base64url')
  return `${name}=${secret}; path=/; max-age=${longestAge}; secure; httponly; samesite=lax`
}

function isOfEngine(cookie: string): boolean {
  return Object.hasOwn(kinds, withoutSignature(cookie.slice(0, cookie.indexOf('=')))[0])
}

function inboundBelowPath({ name, value }: Cookie, secrets: readonly string[]): string[] {
  const [plain, sig] = withoutSignature(name)
  if (Object.hasOwn(kinds, plain)) return []
  const kind = plain.startsWith(securePrefix) ? plain.slice(securePrefix.length) : ''
  const engineName = Object.hasOwn(engineNames, kind) ? engineNames[kind] : undefined
  if (engineName === undefined) return [`${name}=${value}`]
  const at = value.lastIndexOf('.')
  const [content, tag] = [value.slice(0, Math.max(0, at)), Buffer.from(value.slice(at + 1))]
  const isOurs = secrets.some((secret) => {
    const expected = Buffer.from(tagOf(name, content, secret))
    return expected.length === tag.length && timingSafeEqual(expected, tag)
  })
  return isOurs ? [`${engineName}${sig}=${content}`] : []
}

function outboundBelowPath(cookie: string, secret: string): string {
  if (!isOfEngine(cookie)) return cookie
  const at = cookie.indexOf('=')
  const [plain, sig] = withoutSignature(cookie.slice(0, at))
  const name = securePrefix + kinds[plain] + sig
  const [value = '', ...attributes] = cookie.slice(at + 1).split(';')
  const tagged = value === '' ? '' : `${value}.${tagOf(name, value, secret)}`
  return [`${name}=${tagged}`, ...attributes].join(';')
}

function tagOf(name: string, value: string, secret: string): string {
  return createHmac('sha256', secret).update(`${name}=${value}`).digest('base64url').slice(0, 22)
}
