/**
 * Reads a JSON object from bytes that may come from an attacker, or returns `undefined`.
 *
 * Two readers of one text must see the same members, or a token means one thing to the issuer and
 * another one here. `JSON.parse` alone keeps the last of two members of one name and Node turns
 * bytes that are not UTF-8 into U+FFFD, so both are refused (RFC 7519 section 4, RFC 8725
 * section 2.4).
 */
export function parseJsonObject(bytes: Buffer): Record<string, unknown> | undefined {
  let quotes = 0
  let plain = true
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i] as number
    if (byte === 0x22) quotes++
    else if (byte === 0x5c || byte > 0x7f) plain = false
  }
  const text = plain ? bytes.toString('latin1') : bytes.toString('utf8')
  if (!plain && !isUtf8(bytes)) return undefined
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  if (!isObject(value)) return undefined
  // Without escapes each quote begins or ends a name or a text: a member that was overwritten by
  // another one of its name has left more quotes than the value accounts for.
  if (plain ? quotes !== countQuotes(value) : hasDuplicateMembers(text)) return undefined
  return value
}

function countQuotes(value: unknown): number {
  if (typeof value === 'string') return 2
  if (typeof value !== 'object' || value === null) return 0
  let quotes = 0
  if (Array.isArray(value)) {
    for (const item of value) quotes += countQuotes(item)
    return quotes
  }
  // An own `__proto__` is a member like any other to JSON.parse, and to this loop.
  for (const name in value) quotes += 2 + countQuotes((value as Record<string, unknown>)[name])
  return quotes
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
