/** The path and the query of a request, as its client wrote them. */
export interface RequestTarget {
  readonly path: string
  /** With its question mark; empty without a query. */
  readonly search: string
  /** Of a request line with an absolute URL, which is the host then (RFC 9112 section 3.2.2). */
  readonly authority: string | undefined
}

/** Visible ASCII, and no fragment: what RFC 3986 allows, and the characters that browsers leave. */
const originForm = /^(\/[!"$->@-~]*)(\?[!"$-~]*)?$/
const absoluteForm = /^https?:\/\/([^/?#]+)(.*)$/i
/** A host of RFC 3986 section 3.2.2, and a port. */
const authorityForm = /^(?:[a-z\d._~%!$&'()*+,;=-]+|\[[\da-f:.]+\])(?::\d{0,5})?$/i

/** Parameters of a query. Koa looks through all of them for each. */
const mostParameters = 100

/**
 * Reads the target of a request line: the origin form and the absolute one (RFC 9112 section 3.2).
 * Undefined for all others, which no client of this server needs, for what is malformed, and for a
 * query of too many parameters. It changes nothing: `/a/../b` and `/%61` are other paths than `/b`
 * and `/a`.
 */
export function readRequestTarget(target: string): RequestTarget | undefined {
  const [, authority, rest = ''] = absoluteForm.exec(target) ?? []
  if (authority !== undefined && !isHost(authority)) return undefined
  const own = authority === undefined ? target : rest.startsWith('/') ? rest : `/${rest}`
  const [, path, search = ''] = originForm.exec(own) ?? []
  if (path === undefined || search.split('&', mostParameters + 1).length > mostParameters) {
    return undefined
  }
  return { path, search, authority }
}

function isHost(authority: string): boolean {
  return authorityForm.test(authority) && URL.canParse(`http://${authority}/`)
}
