/** The most characters of a URI that a client registers. */
const limitCharacters = 2048

/**
 * Why a URI is not written as browsers write it, as the end of a sentence. URIs of clients are
 * compared whole: in another spelling what is checked, what is shown and what is followed could
 * differ. The empty path of http and https is the one exception: `https://app.example` and
 * `https://app.example/` lead to one place, and each is equal to itself only.
 *
 * @returns undefined for one that is in normal form (WHATWG URL).
 */
export function spellingProblem(uri: string): string | undefined {
  if (uri.length > limitCharacters) return `must not be longer than ${limitCharacters} characters`
  const url = URL.parse(uri)
  if (!url) return 'must be absolute URIs'
  if (url.href === uri || (url.pathname === '/' && url.href === `${uri}/`)) return undefined
  const got = /^[\x21-\x7e]+$/.test(uri) ? ` (got ${uri})` : ''
  return `must be written ${url.href}${got}`
}
