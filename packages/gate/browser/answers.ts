/** What the gate itself answers to browsers: redirects, pages and JSON. */
import { hash } from 'node:crypto'
import type { DbscAnswer } from '@holdfast/verify/dbsc'

/** An answer of the gate. Fields are names and values, one after the other. */
export type Answer = Readonly<{
  status: number
  fields: readonly string[]
  body: string
}>

const common = ['Cache-Control', 'no-store', 'Referrer-Policy', 'no-referrer']

const style = `body{font:1.05rem/1.5 system-ui,sans-serif;max-width:34rem;margin:4rem auto;padding:0 1rem}
button{font:inherit;padding:.4rem 1rem}`

/** Leads a browser to another address. */
export function redirect(location: string, cookies: readonly string[] = []): Answer {
  const fields = [
    ...common,
    'Location',
    location,
    ...cookies.flatMap((each) => ['Set-Cookie', each]),
  ]
  return { status: 303, fields, body: '' }
}

/** JSON for requests that are no navigations. */
export function json(status: number, body: object, fields: readonly string[] = []): Answer {
  return {
    status,
    fields: [...common, 'Content-Type', 'application/json', ...fields],
    body: JSON.stringify(body),
  }
}

/** An answer of `@holdfast/verify` to a proof of a key. */
export function dbscAnswer({ status, headers, body = {} }: DbscAnswer): Answer {
  const { 'Cache-Control': _, ...rest } = headers
  return json(status, body, Object.entries(rest).flat())
}

/** What a page shows, and what it may do: `script` is all that it runs. */
export type PageContent = Readonly<{
  title: string
  html: string
  script?: string
  /** A module of this origin and its data; it may send requests below `connect`. */
  module?: Readonly<{ url: string; connect: string; data: Readonly<Record<string, string>> }>
  /** Where the page continues by itself: at once without scripts, and else after some seconds. */
  next?: string
  /** Where its forms may lead, redirects included. Default: to this origin. */
  formAction?: string
}>

/** A page without any resource of its own. */
export function page(
  status: number,
  { title, html, script, module, next, formAction = "'self'" }: PageContent,
  fields: readonly string[] = [],
): Answer {
  const hashes = (text: string) => `'sha256-${hash('sha256', text, 'base64')}'`
  const policy = [
    "default-src 'none'",
    `style-src ${hashes(style)}`,
    ...(script === undefined ? [] : [`script-src ${hashes(script)}`]),
    ...(module === undefined ? [] : [`script-src ${module.url}`, `connect-src ${module.connect}`]),
    `form-action ${formAction}`,
    "frame-ancestors 'none'",
    "base-uri 'none'",
  ].join('; ')
  const body = `<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>${escapeHtml(title)}</title>
<style>${style}</style>${next === undefined ? '' : refreshes(next)}${module === undefined ? '' : moduleOf(module)}</head><body><main><h1>${escapeHtml(title)}</h1>
${html}</main>${script === undefined ? '' : `<script>${script}</script>`}</body></html>`
  return {
    status,
    fields: [
      ...common,
      ...['Content-Type', 'text/html; charset=utf-8', 'Content-Security-Policy', policy],
      ...['X-Content-Type-Options', 'nosniff', ...fields],
    ],
    body,
  }
}

const refresh = (afterS: number, to: string) =>
  `<meta http-equiv="refresh" content="${afterS}; url=${escapeHtml(to)}">`

/** Seconds after which a page continues whose script does not. */
const patienceS = 5

const refreshes = (to: string) => `<noscript>${refresh(0, to)}</noscript>${refresh(patienceS, to)}`

function moduleOf({ url, data }: NonNullable<PageContent['module']>): string {
  const attributes = Object.entries(data).map(
    ([name, value]) => ` data-${name}="${escapeHtml(value)}"`,
  )
  return `<script type="module" src="${escapeHtml(url)}"${attributes.join('')}></script>`
}

/** Text as HTML shows it. */
export function escapeHtml(text: string): string {
  const names: Record<string, string> = {
    '&': 'amp',
    '<': 'lt',
    '>': 'gt',
    '"': 'quot',
    "'": '#39',
  }
  return text.replaceAll(/[&<>"']/g, (character) => `&${names[character]};`)
}
