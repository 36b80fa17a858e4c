/** Which header fields pass the gate. A request's are on a list; a response's are not on another one. */
import { isOwnCookie, withoutOwnCookies } from './browser/own-cookies.ts'

/** Fields of requests that mean the same to everyone and say nothing of who the client is. */
const passing = [
  ...['accept', 'accept-charset', 'accept-encoding', 'accept-language', 'cache-control', 'cookie'],
  ...['content-encoding', 'content-language', 'content-type', 'content-range'],
  ...['if-match', 'if-modified-since', 'if-none-match', 'if-range', 'if-unmodified-since'],
  ...['origin', 'pragma', 'prefer', 'priority', 'range', 'referer', 'user-agent', 'last-event-id'],
  ...['access-control-request-headers', 'access-control-request-method', 'idempotency-key'],
  ...['sec-fetch-dest', 'sec-fetch-mode', 'sec-fetch-site', 'sec-fetch-user', 'sec-gpc', 'dnt'],
  ...['sec-websocket-extensions', 'sec-websocket-key', 'sec-websocket-protocol'],
  ...['sec-websocket-version', 'upgrade-insecure-requests'],
]

/** RFC 9110 section 7.6.1, and what others have put beside it. Transfer codings are the connection's. */
const connectionFields = new Set([
  ...['connection', 'keep-alive', 'proxy-connection', 'te', 'trailer', 'transfer-encoding'],
  ...['upgrade', 'http2-settings', 'proxy-authenticate', 'proxy-authorization', 'expect'],
])

/** What the gate alone writes: no configuration can let a client's through. */
const reserved =
  /^(?:x-forwarded-.*|x-request-id|forwarded|via|traceparent|tracestate|x-real-ip|x-original-.*|x-rewrite-.*|x-http-method.*|x-method-override|holdfast-.*|x-holdfast-.*|signature|signature-input|content-digest|repr-digest|client-cert.*|sec-.*token-binding.*|x-ssl-.*|x-amzn-mtls-.*|host|content-length|authorization|dpop)$/

/** Fields that a request may have once: of two, two programs may each see another one. */
const singular = new Set([
  ...['host', 'content-length', 'content-type', 'transfer-encoding', 'authorization', 'dpop'],
  ...['origin', 'upgrade', 'expect', 'sec-websocket-key', 'sec-websocket-version'],
])

const fieldName = /^[a-z\d-]+$/

/** Whether a configuration may let fields of this name pass. */
export function canPass(name: string): boolean {
  return fieldName.test(name) && !reserved.test(name) && !connectionFields.has(name)
}

/** Names and values, one after the other, as in `rawHeaders`. */
export type Fields = readonly string[]

function* pairs(fields: Fields): Iterable<readonly [string, string, string]> {
  for (let at = 0; at + 1 < fields.length; at += 2) {
    const name = fields[at] as string
    yield [name.toLowerCase(), fields[at + 1] as string, name]
  }
}

/** All values of one field; `name` is in lower case. */
export function valuesOf(fields: Fields, name: string): string[] {
  const found: string[] = []
  for (let at = 0; at + 1 < fields.length; at += 2) {
    const each = fields[at] as string
    if (each.length === name.length && each.toLowerCase() === name) {
      found.push(fields[at + 1] as string)
    }
  }
  return found
}

/** The first field that a request has twice and may have once. */
export function repeatedField(fields: Fields): string | undefined {
  const seen = new Set<string>()
  for (const [name] of pairs(fields)) {
    if (singular.has(name) && seen.has(name)) return name
    seen.add(name)
  }
  return undefined
}

/** Names that a message says are for its connection only. */
function listed(fields: Fields): ReadonlySet<string> {
  const names = valuesOf(fields, 'connection').flatMap((value) => value.split(','))
  return new Set(names.map((name) => name.trim().toLowerCase()))
}

/**
 * The fields of a request that pass: those of the list, of `more`, and nothing else, whatever it is
 * called. A name with an underscore passes in no spelling, for some programs read it as a hyphen.
 */
export function passingFields(fields: Fields, more: ReadonlySet<string>): string[] {
  const connection = listed(fields)
  const passed: string[] = []
  for (const [name, value, written] of pairs(fields)) {
    const passes = passingNames.has(name) || more.has(name)
    // The gate's own cookies are of no concern to an application.
    const shown = name === 'cookie' ? withoutOwnCookies(value) : value
    if (passes && shown !== undefined && !connection.has(name)) passed.push(written, shown)
  }
  return passed
}

const passingNames = new Set(passing)

/**
 * The fields of a response, or its trailers: all but those of the connection, and cookies of the gate.
 */
export function answeredFields(fields: Fields): string[] {
  const connection = listed(fields)
  const passed: string[] = []
  for (const [name, value, written] of pairs(fields)) {
    const isGates = name === 'set-cookie' && isOwnCookie(value)
    if (!connectionFields.has(name) && !connection.has(name) && !isGates) {
      passed.push(written, value)
    }
  }
  return passed
}

/** Trailers of a request: only what could pass as a header and describes neither message nor client. */
export function passingTrailers(fields: Fields, more: ReadonlySet<string>): [string, string][] {
  return [...pairs(fields)].flatMap(([name, value, written]): [string, string][] =>
    more.has(name) ? [[written, value]] : [],
  )
}
