/**
 * Makes the function that turns a request target into the public URI a client has seen, for `htu`.
 *
 * `prefixes` maps a path prefix as this server sees it to the one clients see, for proxies that
 * rewrite paths. Whole segments are compared, and the longest prefix wins.
 */
export function createPublicUri(
  origin: string,
  prefixes: Readonly<Record<string, string>>,
): (target: string) => string {
  const map = Object.entries(prefixes)
    .map(([internal, shown]) => [trim(internal), trim(shown)] as const)
    .sort(([a], [b]) => b.length - a.length)
  return (target) => {
    const path = pathOf(target)
    for (const [internal, shown] of map) {
      const rest = path.slice(internal.length)
      if (path.startsWith(internal) && (rest === '' || rest.startsWith('/'))) {
        return origin + shown + rest
      }
    }
    return origin + path
  }
}

/** The path of a request target, without query; whatever host an absolute one names is ignored. */
export function pathOf(target: string): string {
  const bare =
    target.includes('?') || target.includes('#') ? target.replace(/[?#].*$/s, '') : target
  if (bare.startsWith('/')) return bare
  const authority = bare.indexOf('://') + 3
  const path = authority === 2 ? -1 : bare.indexOf('/', authority)
  return path === -1 ? '/' : bare.slice(path)
}

function trim(prefix: string): string {
  return prefix.replace(/\/$/, '')
}
