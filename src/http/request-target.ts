/** The path and the query of a request, as its client wrote them. */
export interface RequestTarget {
  readonly path: string
  /** With its question mark; empty where there is none. */
  readonly search: string
  /** Of a request line with an absolute URL, which is the host then (RFC 9112 section 3.2.2). */
  readonly authority: string | undefined
}

/** Visible ASCII, and no fragment: what RFC 3986 allows, and the characters that browsers leave. */
const originForm = /^(\/[!"$->@-~]*)(\?[!"$-~]*)?$/
const absoluteForm = /^https?:\/\/([^/?#]+)(.*)$/i
/** A host of RFC 3986 section 3.2.2, and a port. */
const authorityForm = /^(?:[a-z\d._~%!$&'()*+,;=-]+|\[[\da-f:.]+\])(?::\d{0,5})?$/i

/**
 * Reads the target of a request line: the origin form and the absolute one (RFC 9112 section 3.2).
 * Undefined for all others, which no client of this server needs, and for what is malformed. It
 * changes nothing: `/a/../b` and `/%61` are other paths than `/b` and `/a`.
 */
export function readRequestTarget(target: string): RequestTarget | undefined {
  const [, authority, rest = ''] = absoluteForm.exec(target) ?? []
  if (authority !== undefined && !isHost(authority)) return undefined
  const own = authority === undefined ? target : rest.startsWith('/') ? rest : `/${rest}`
  const [, path, search = ''] = originForm.exec(own) ?? []
  return path === undefined ? undefined : { path, search, authority }
}

function isHost(authority: string): boolean {
  return authorityForm.test(authority) && URL.canParse(`http://${authority}/`)
}
