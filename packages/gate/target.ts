/**
 * The target of a request. The gate changes nothing of a path: the application gets what the client
 * wrote. What two programs can read as two different paths is refused, or has to be the same to the
 * rules of the gate however it is read.
 */

/** A path and a query as they were written. */
export type Target = Readonly<{
  path: string
  /** With its question mark; empty without a query. */
  query: string
  /** Of a request line with an absolute URL (RFC 9112 section 3.2.2). */
  authority: string | undefined
}>

/** RFC 3986 section 3.3 and 3.4; in the query also the other visible characters that browsers leave. */
const originForm = /^(\/[\w\-.~!$&'()*+,;=:@%/]*)(\?[!$-;=?-~]*)?$/
const absoluteForm = /^https?:\/\/([^/?#]+)(.*)$/i

/** Reads a target in origin or absolute form; `undefined` for others, and for what is malformed. */
export function readTarget(text: string): Target | undefined {
  const [, authority, rest = ''] = absoluteForm.exec(text) ?? []
  const own = authority === undefined ? text : rest.startsWith('/') ? rest : `/${rest}`
  const [, path, query = ''] = originForm.exec(own) ?? []
  if (path === undefined || /%(?![\da-f]{2})/i.test(path)) return undefined
  return { path, query, authority: authority?.toLowerCase() }
}

/** What may be in a path although programs differ about its meaning. */
export type PathRules = Readonly<{
  /** `%2F`, `%5C`, and both encoded once more. */
  encodedSlash: 'refuse' | 'pass'
  /** `//` */
  doubleSlash: 'refuse' | 'pass'
  /** `;`, after which some programs see parameters. */
  semicolon: 'refuse' | 'pass'
}>

/** Why a path is refused. */
export type PathProblem =
  | 'path_control'
  | 'path_dots'
  | 'path_encoded_slash'
  | 'path_double_slash'
  | 'path_semicolon'

/** Finds what the rules do not let through; dot segments and control characters never pass. */
export function findPathProblem(path: string, rules: PathRules): PathProblem | undefined {
  if (/%(?:25)*(?:[01][\da-f]|7f)/i.test(path)) return 'path_control'
  if (rules.encodedSlash === 'refuse' && /%(?:25)*(?:2f|5c)/i.test(path))
    return 'path_encoded_slash'
  if (rules.semicolon === 'refuse' && /;|%(?:25)*3b/i.test(path)) return 'path_semicolon'
  if (rules.doubleSlash === 'refuse' && path.includes('//')) return 'path_double_slash'
  if (/(?:^|\/)\.{1,2}(?:\/|$)/.test(looseSlashes(path))) return 'path_dots'
  return undefined
}

/** As programs see a path that decode everything, several times, and take parameters away. */
function looseSlashes(path: string): string {
  return path
    .replaceAll(/%(?:25)+/g, '%')
    .replaceAll(/%([2-7][\da-f])/gi, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)))
    .replaceAll('\\', '/')
    .replaceAll(/;[^/]*/g, '')
}

/**
 * A path as the least strict application reads it: decoded, without parameters and empty segments, in
 * lower case. Rules must say the same of it as of the path itself.
 */
export function looseReading(path: string): string {
  return looseSlashes(path).replaceAll(/\/+/g, '/').toLowerCase()
}
