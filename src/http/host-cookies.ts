/**
 * The names that browsers know the engine's cookies by. A name with `__Host-` is set by this host
 * over https for the whole host, or not at all: a sibling host cannot plant one, and with it its own
 * session (RFC 6265bis section 4.1.3.2). Such cookies have no path, so that the cookies of several
 * interactions of one browser are told apart by their names. Below a path, where the prefix cannot
 * be had, `__Secure-` keeps plain http out, and paths stay.
 */
import type { Middleware } from 'koa'
import { pathOfIssuer } from '../config/issuer-path.ts'

/** The engine's names, and ours. */
const kinds: Readonly<Record<string, string>> = {
  _session: 'session',
  _interaction: 'interaction',
  _interaction_resume: 'resume',
}
const engineNames = Object.fromEntries(Object.entries(kinds).map(([name, kind]) => [kind, name]))

/** Interactions of one browser whose cookies are kept; with more, requests would become too large. */
const mostInteractions = 8

interface Cookie {
  readonly name: string
  readonly value: string
}

/** Gives the engine's cookies their public names; over http, which no prefix is for, does nothing. */
export function hostCookies({ issuer }: { issuer: string }): Middleware {
  if (!issuer.startsWith('https:')) return (_ctx, next) => next()
  const isPrefixed = pathOfIssuer(issuer) === ''
  const prefix = isPrefixed ? '__Host-holdfast_' : '__Secure-holdfast_'

  return async (ctx, next) => {
    const sent = cookiesOf(ctx.get('cookie'))
    const uid = isPrefixed ? interactionOf(ctx.path) : undefined
    ctx.req.headers.cookie = sent.flatMap((cookie) => inbound(cookie, prefix, uid)).join('; ')
    await next()
    const set = [ctx.response.headers['set-cookie'] ?? []].flat().map(String)
    if (set.length === 0) return
    const renamed = set.map((cookie) => outbound(cookie, prefix, isPrefixed))
    const begins = renamed.some((cookie) => cookie.startsWith(`${prefix}interaction.`))
    ctx.set('set-cookie', begins ? [...renamed, ...expireOldest(sent, prefix)] : renamed)
  }
}

function cookiesOf(header: string): Cookie[] {
  return header.split(';').flatMap((pair) => {
    const at = pair.indexOf('=')
    return at < 0 ? [] : [{ name: pair.slice(0, at).trim(), value: pair.slice(at + 1).trim() }]
  })
}

/** The uid in the path of an interaction or of its resumption. */
function interactionOf(path: string): string | undefined {
  return /^\/(?:interaction|authorize|device)\/([^/;]+)/.exec(path)?.[1]
}

/** A cookie as the engine is to see it. One by the engine's own name is nobody's of ours. */
function inbound({ name, value }: Cookie, prefix: string, uid: string | undefined): string[] {
  const [plain, sig] = withoutSignature(name)
  if (Object.hasOwn(kinds, plain)) return []
  if (!plain.startsWith(prefix)) return [`${name}=${value}`]
  const [kind = '', of] = plain.slice(prefix.length).split('.', 2)
  const engineName = engineNames[kind]
  if (engineName === undefined) return [`${name}=${value}`]
  return of === undefined || of === uid ? [`${engineName}${sig}=${value}`] : []
}

/** A `Set-Cookie` of the engine as the browser is to see it. */
function outbound(cookie: string, prefix: string, isPrefixed: boolean): string {
  const at = cookie.indexOf('=')
  const [name, sig] = withoutSignature(cookie.slice(0, at))
  if (!Object.hasOwn(kinds, name)) return cookie
  const [value = '', ...attributes] = cookie.slice(at).split(';')
  const path = attributes.find((attribute) => /^ ?path=/i.test(attribute))?.replace(/^ ?path=/i, '')
  const uid = isPrefixed ? interactionOf(path ?? '') : undefined
  const own = `${prefix}${kinds[name]}${uid === undefined ? '' : `.${uid}`}${sig}${value}`
  const kept = attributes.map((it) => (isPrefixed && /^ ?path=/i.test(it) ? ' path=/' : it))
  return [own, ...kept].join(';')
}

function withoutSignature(name: string): [name: string, signature: string] {
  return name.endsWith('.sig') ? [name.slice(0, -4), '.sig'] : [name, '']
}

/** Browsers send older cookies first. */
function expireOldest(sent: readonly Cookie[], prefix: string): string[] {
  const own = sent.filter(({ name }) => /^(?:interaction|resume)\./.test(name.slice(prefix.length)))
  const uids = [...new Set(own.map(({ name }) => name.slice(prefix.length).split('.')[1]))]
  const old = new Set(uids.slice(0, Math.max(0, uids.length + 1 - mostInteractions)))
  return own
    .filter(({ name }) => name.startsWith(prefix))
    .filter(({ name }) => old.has(name.slice(prefix.length).split('.')[1]))
    .map(({ name }) => `${name}=; path=/; max-age=0; secure; httponly`)
}
