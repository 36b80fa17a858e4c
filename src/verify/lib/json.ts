/**
 * Reads a JSON object from bytes that may come from an attacker, or returns `undefined`.
 *
 * Two readers of one text must see the same members, or a token means one thing to the issuer and
 * another one here. `JSON.parse` alone keeps the last of two members of one name and Node turns
 * bytes that are not UTF-8 into U+FFFD, so both are refused (RFC 7519 section 4, RFC 8725
 * section 2.4).
 */
export function parseJsonObject(bytes: Buffer): Record<string, unknown> | undefined {
  const text = bytes.toString('utf8')
  if (text.includes('\uFFFD') && !isUtf8(bytes)) return undefined
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  if (!isObject(value)) return undefined
  // Most issuers write compact JSON: a text equal to its own reserialisation has no duplicates.
  if (JSON.stringify(value) !== text && hasDuplicateMembers(text)) return undefined
  return value
}

/** Whether a value is a JSON object: not null, not an array. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isUtf8(bytes: Buffer): boolean {
  try {
    new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    return true
  } catch {
    return false
  }
}

/** Scans a text that `JSON.parse` has accepted; it need not be checked for syntax again. */
function hasDuplicateMembers(text: string): boolean {
  const seen: (Set<string> | undefined)[] = []
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"(?:\s*:)?|[{}[\]]/g)) {
    if (token === '{') seen.push(new Set())
    else if (token === '[') seen.push(undefined)
    else if (token === '}' || token === ']') seen.pop()
    else if (token.endsWith(':')) {
      const names = seen.at(-1)
      const name: string = JSON.parse(token.slice(0, -1))
      if (names === undefined || names.has(name)) return true
      names.add(name)
    }
  }
  return false
}
