/**
 * Reads JSON that may come from an attacker.
 *
 * Two readers of one text must see the same members, or a token means one thing to the issuer and
 * another one here. `JSON.parse` alone keeps the last of two members of one name and Node turns
 * bytes that are not UTF-8 into U+FFFD, so both are refused (RFC 7519 section 4, RFC 8725
 * section 2.4). Size and depth are bounded before `JSON.parse` runs: code that walks the value may
 * recurse, and none of it reaches the end of the stack.
 */
import { isAscii, isUtf8 } from 'node:buffer'

/** No document has more arrays and objects inside each other. */
export const maxJsonDepth = 32

/** No document is longer, unless the caller says so: a key set or an introspection answer. */
export const maxJsonBytes = 1_048_576

/** The JSON value of some bytes, or `undefined` where they are refused. */
export function parseJson(bytes: Buffer, limitBytes = maxJsonBytes): unknown {
  if (bytes.length > limitBytes) return undefined
  const ascii = isAscii(bytes)
  if (!ascii && !isUtf8(bytes)) return undefined
  const text = ascii ? bytes.toString('latin1') : bytes.toString('utf8')
  const members = countMembers(text)
  if (members === undefined) return undefined
  try {
    const value: unknown = JSON.parse(text)
    // Of two members of one name, however it is written, JSON.parse has kept one.
    return membersOf(value) === members ? value : undefined
  } catch {
    return undefined
  }
}

/** The JSON object of some bytes, or `undefined` where they are refused or are something else. */
export function parseJsonObject(
  bytes: Buffer,
  limitBytes = maxJsonBytes,
): Record<string, unknown> | undefined {
  const value = parseJson(bytes, limitBytes)
  return isObject(value) ? value : undefined
}

/** Whether a value is a JSON object: not null, not an array. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

const [quote, backslash, colon] = [0x22, 0x5c, 0x3a]
const [openObject, closeObject, openArray, closeArray] = [0x7b, 0x7d, 0x5b, 0x5d]

/**
 * How many members the objects of a text have; undefined where it goes deeper than any document.
 * Each character is looked at once, and nothing recurses. What is no JSON at all is left to
 * `JSON.parse`.
 */
function countMembers(text: string): number | undefined {
  let members = 0
  let depth = 0
  for (let at = 0; at < text.length; at++) {
    const character = text.charCodeAt(at)
    if (character === quote) {
      at = endOfString(text, at)
      if (at === -1) return undefined
    } else if (character === colon) {
      members += 1
    } else if (character === openObject || character === openArray) {
      depth += 1
      if (depth > maxJsonDepth) return undefined
    } else if (character === closeObject || character === closeArray) {
      depth -= 1
    }
  }
  return members
}

/** How many members the objects of a value have, at every depth. */
function membersOf(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0
  const inner = Object.values(value)
  let members = Array.isArray(value) ? 0 : inner.length
  for (const each of inner) members += membersOf(each)
  return members
}

/** Where the string that begins at `start` ends: at the first quote that is not escaped. */
function endOfString(text: string, start: number): number {
  let end = text.indexOf('"', start + 1)
  while (end !== -1) {
    let at = end
    while (text.charCodeAt(at - 1) === backslash) at--
    if ((end - at) % 2 === 0) return end
    end = text.indexOf('"', end + 1)
  }
  return -1
}
