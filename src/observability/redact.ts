/**
 * Names of what must not be in a log, wherever in a record they appear. Nothing in this server logs
 * them: this is for the day when someone logs a whole request, and for errors of libraries.
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

/**
 * A run of the characters of compact JWS and JWE. Runs are taken whole, one after the other, so that
 * every character is looked at once; what a run is, is asked afterwards.
 */
const jwtCharacters = /[\w.-]+/g
/** The authority of a URL, as a run as well. */
const urlAuthority = /:\/\/[^\s/]*/g

/** Characters of a text that are looked at and kept; a stack trace is shorter. */
const longestText = 8192

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

function redactText(whole: string): string {
  const text =
    whole.length > longestText ? `${whole.slice(0, longestText)}… (${whole.length})` : whole
  // Most texts have neither the beginning of a JWT nor the authority of a URL.
  if (!text.includes('eyJ') && !text.includes('://')) return text
  return text
    .replace(jwtCharacters, (run) => (hasJwt(run) ? mark : run))
    .replace(urlAuthority, (run) => {
      const at = run.lastIndexOf('@')
      return at < 0 ? run : `://${mark}${run.slice(at)}`
    })
}

/** Whether a run has three parts in a row, the first of which ends in a JSON object. */
function hasJwt(run: string): boolean {
  const parts = run.split('.')
  return parts.slice(0, -2).some((part) => {
    const at = part.startsWith('eyJ') ? 0 : part.indexOf('-eyJ') + 1
    return part.startsWith('eyJ', at) && part.length - at > shortestHeader
  })
}

/** Characters of `{"alg` in base64url, and some more. */
const shortestHeader = 10
