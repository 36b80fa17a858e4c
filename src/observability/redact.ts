/**
 * Names of what must not be in a log, wherever in a record they appear. Nothing in this server logs
 * them: this is for the day when somebody logs a whole request, and for errors of libraries.
 */
export const redactedNames: ReadonlySet<string> = new Set([
  // header fields
  'authorization',
  'cookie',
  'dpop',
  'proxy-authorization',
  'set-cookie',
  // parameters and members of responses
  'access_token',
  'assertion',
  'client_assertion',
  'client_secret',
  'code',
  'code_verifier',
  'id_token',
  'id_token_hint',
  'password',
  'refresh_token',
  'registration_access_token',
  'request',
  'request_uri',
  'secret',
  'subject_token',
  'token',
  // private members of a JWK (RFC 7518 section 6)
  'd',
  'dp',
  'dq',
  'k',
  'oth',
  'p',
  'q',
  'qi',
])

/** Compact JWS and JWE: three or five parts, the first of which is a JSON object. */
const jwt = /\beyJ[\w-]{8,}(?:\.[\w-]*){2,4}/g
/** user:password@ of a URL. */
const urlCredentials = /(\b[a-z][a-z\d+.-]*:\/\/)[^\s/@]*@/gi

const mark = '[redacted]'

/** A copy of a log record without credentials. Errors become plain objects. */
export function redact(value: unknown, depth = 8): unknown {
  if (typeof value === 'string') return redactText(value)
  if (typeof value !== 'object' || value === null) return value
  if (depth === 0) return mark
  if (value instanceof Date) return value
  if (value instanceof Error) return redactError(value, depth)
  if (Array.isArray(value)) return value.map((each) => redact(each, depth - 1))
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [
      name,
      redactedNames.has(name.toLowerCase()) ? mark : redact(member, depth - 1),
    ]),
  )
}

/** An error's own `code`, unlike that of a request, is a name such as ECONNREFUSED. */
function redactError(error: Error, depth: number): unknown {
  const { code } = error as NodeJS.ErrnoException
  return {
    type: error.name,
    message: redactText(error.message),
    stack: redactText(error.stack ?? ''),
    ...(typeof code === 'string' && { code }),
    ...(error.cause !== undefined && { cause: redact(error.cause, depth - 1) }),
  }
}

function redactText(text: string): string {
  return text.replace(jwt, mark).replace(urlCredentials, `$1${mark}@`)
}
