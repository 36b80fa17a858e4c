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
  if (!isBounded(text)) return undefined
  try {
    return JSON.parse(text)
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

const [quote, backslash, comma] = [0x22, 0x5c, 0x2c]
const [openObject, closeObject, openArray, closeArray] = [0x7b, 0x7d, 0x5b, 0x5d]

/**
 * Whether a text keeps to the depth, and names no member of an object twice. Each character is
 * looked at once, and nothing recurses. What is no JSON at all is left to `JSON.parse`, which stops
 * where the text does: until there the two agree.
 */
function isBounded(text: string): boolean {
  /** The names so far of each object that is open; nothing for an array. */
  const open: (Set<string> | undefined)[] = []
  let names: Set<string> | undefined
  let isNameNext = false
  for (let at = 0; at < text.length; at++) {
    const character = text.charCodeAt(at)
    if (character === quote) {
      const end = endOfString(text, at)
      if (end === -1) return false
      if (isNameNext && names !== undefined) {
        const name = readName(text, at, end)
        if (name === undefined || names.has(name)) return false
        names.add(name)
      }
      isNameNext = false
      at = end
    } else if (character === comma) {
      isNameNext = names !== undefined
    } else if (character === openObject || character === openArray) {
      if (open.length === maxJsonDepth) return false
      names = character === openObject ? new Set() : undefined
      isNameNext = names !== undefined
      open.push(names)
    } else if (character === closeObject || character === closeArray) {
      open.pop()
      names = open.at(-1)
      isNameNext = false
    }
  }
  return true
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

/** A name as it is compared: `"\u0061"` is `a`. */
function readName(text: string, start: number, end: number): string | undefined {
  const name = text.slice(start + 1, end)
  if (!name.includes('\\')) return name
  try {
    return JSON.parse(`"${name}"`)
  } catch {
    return undefined
  }
}
