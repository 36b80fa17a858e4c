/** Where an access token may be in a request: exactly one, in one place. */
import { VerifyError } from './errors.ts'

/**
 * The header fields of a request, with repeated ones still apart: Node's flat `rawHeaders`, its
 * `headersDistinct`, a fetch `Headers`, or any other iterable of name and value.
 *
 * Node's `headers` will not do: it drops all but the first of two `Authorization` fields.
 */
export type RequestHeaders =
  | readonly string[]
  | Iterable<readonly [string, string]>
  | Readonly<Record<string, readonly string[] | undefined>>

/** Where a token was found. */
export type TokenLocation = 'header' | 'body' | 'query'

/** The access token of a request. */
export type Credential = Readonly<{
  token: string
  scheme: 'Bearer' | 'DPoP'
  location: TokenLocation
}>

/** A request body that has been read: its text, its fields, or nothing of interest. */
export type RequestBody = string | URLSearchParams | Readonly<Record<string, unknown>>

/** The parts of a request that may carry an access token. */
export type CredentialRequest = Readonly<{
  method: string
  url: string
  headers: RequestHeaders
  body?: RequestBody
}>

/**
 * All values of one header field, in order. `name` is in lower case.
 *
 * @throws TypeError for Node's `headers`, in which repeated fields are no longer apart.
 */
export function headerValues(headers: RequestHeaders, name: string): string[] {
  const values: string[] = []
  if (isRaw(headers)) {
    for (let i = 0; i + 1 < headers.length; i += 2) {
      const field = headers[i] as string
      if (field.length === name.length && field.toLowerCase() === name) {
        values.push(headers[i + 1] as string)
      }
    }
  } else if (Symbol.iterator in headers) {
    for (const [field, value] of headers) if (field.toLowerCase() === name) values.push(value)
  } else {
    for (const [field, value] of Object.entries(headers)) {
      if (field.toLowerCase() !== name || value === undefined) continue
      if (!Array.isArray(value)) {
        throw new TypeError('headers: pass rawHeaders or headersDistinct, not headers')
      }
      values.push(...value)
    }
  }
  return values
}

function isRaw(headers: RequestHeaders): headers is readonly string[] {
  return Array.isArray(headers) && typeof headers[0] === 'string'
}

/**
 * Finds the one access token of a request (RFC 6750 section 2, RFC 9449 section 7.1).
 *
 * All three places are always looked at, whichever of them policy allows: two tokens in one
 * request are an error wherever they are, and a bound token that turns up in a query has leaked.
 *
 * @throws {@link VerifyError} `credentials_missing`, `credentials_multiple`, `credentials_malformed`
 */
export function readCredential(request: CredentialRequest): Credential {
  const fields = headerValues(request.headers, 'authorization')
  const value = fields[0]
  const fromHeader = value === undefined ? undefined : parseAuthorization(value)
  const others = credentialsElsewhere(request)
  const count = others.length + (fromHeader === undefined ? 0 : 1)
  // RFC 6750 section 3.1: "uses more than one method for including an access token".
  if (fields.length > 1 || count > 1 || (value !== undefined && isJoined(value, fromHeader))) {
    throw new VerifyError('credentials_multiple', 'Request has more than one access token')
  }
  const credential = fromHeader ?? others[0]
  if (credential === undefined) {
    throw new VerifyError('credentials_missing', 'Request has no access token')
  }
  if (credential.token === '' || /\s/.test(credential.token)) {
    throw new VerifyError('credentials_malformed', 'Access token is malformed')
  }
  return credential
}

/**
 * Whether something on the way, such as a fetch `Headers`, has joined two `Authorization` fields.
 * No token has a comma; the parameters of other schemes may have some, but no second scheme.
 */
function isJoined(value: string, credential: Credential | undefined): boolean {
  if (!value.includes(',')) return false
  return credential !== undefined || /,[ \t]*(?:bearer|dpop)(?:[ \t,]|$)/i.test(value)
}

function credentialsElsewhere(request: CredentialRequest): readonly Credential[] {
  return [
    ...queryTokens(request.url).map((token) => inPlace('query', token)),
    ...bodyTokens(request).map((token) => inPlace('body', token)),
  ]
}

function inPlace(location: TokenLocation, token: string): Credential {
  return { token, scheme: 'Bearer', location }
}

/** Other schemes, such as Basic, are nobody's access token. Names compare in any case. */
function parseAuthorization(value: string): Credential | undefined {
  const space = value.indexOf(' ')
  const name = (space === -1 ? value : value.slice(0, space)).toLowerCase()
  const scheme = name === 'dpop' ? 'DPoP' : name === 'bearer' ? 'Bearer' : undefined
  if (scheme === undefined) return undefined
  // RFC 6750 section 2.1 has 1*SP.
  let start = space === -1 ? value.length : space
  while (value.charCodeAt(start) === 0x20) start++
  return { token: value.slice(start), scheme, location: 'header' }
}

function queryTokens(url: string): string[] {
  const start = url.indexOf('?')
  if (start === -1) return []
  const query = url.slice(start + 1)
  // A name may be percent-encoded.
  if (!query.includes('access_token') && !query.includes('%')) return []
  const end = query.indexOf('#')
  return new URLSearchParams(end === -1 ? query : query.slice(0, end)).getAll('access_token')
}

/** RFC 6750 section 2.2: a form, in a request whose method gives its body a meaning. */
function bodyTokens({ body, headers, method }: CredentialRequest): string[] {
  if (body === undefined || method === 'GET' || method === 'HEAD') return []
  const [type = ''] = headerValues(headers, 'content-type')
  if (type.split(';', 1)[0]?.trim().toLowerCase() !== 'application/x-www-form-urlencoded') return []
  if (typeof body === 'string') return new URLSearchParams(body).getAll('access_token')
  if (body instanceof URLSearchParams) return body.getAll('access_token')
  const value = Object.hasOwn(body, 'access_token') ? body.access_token : undefined
  if (value === undefined) return []
  // A body parser makes an array, or an object, of a repeated or bracketed name.
  return Array.isArray(value) ? value.map(String) : [typeof value === 'string' ? value : '']
}
