/**
 * Whether two absolute HTTP URIs name the same resource when query and fragment are left out
 * (RFC 9449 section 4.3 step 9).
 */
export function sameHttpUri(a: string, b: string): boolean {
  if (a === b) return true
  const normalized = normalizeHttpUri(a)
  return normalized !== undefined && normalized === normalizeHttpUri(b)
}

/** An HTTP URI by RFC 3986 appendix A, of a registered name or address, without user information. */
const httpUri =
  /^https?:\/\/(?:[\w\-.~]+|\[[\da-f:.]+\])(?::\d*)?(?:[/?#][\w\-.~:/?#[\]@!$&'()*+,;=%]*)?$/i

/**
 * Normalises by RFC 3986 section 6.2.2 (case of scheme, host and percent-encoding, unreserved
 * characters, dot segments) and 6.2.3 (default port, empty path), and drops query and fragment.
 * The case of a path is left alone. `undefined` for anything that is no HTTP URI.
 *
 * The URL parser of the web platform repairs what RFC 3986 does not allow: backslashes become
 * slashes, tabs and spaces vanish. Such text is refused before it gets there.
 */
export function normalizeHttpUri(text: string): string | undefined {
  if (!httpUri.test(text)) return undefined
  if (/%(?![0-9a-f]{2})/i.test(text)) return undefined
  let url: URL
  try {
    url = new URL(text)
  } catch {
    return undefined
  }
  return url.origin + normalizePercentEncoding(url.pathname)
}

function normalizePercentEncoding(path: string): string {
  if (!path.includes('%')) return path
  return path.replace(/%[0-9a-f]{2}/gi, (encoded) => {
    const character = String.fromCharCode(Number.parseInt(encoded.slice(1), 16))
    return /[A-Za-z0-9\-._~]/.test(character) ? character : encoded.toUpperCase()
  })
}
