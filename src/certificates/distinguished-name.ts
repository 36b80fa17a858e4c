/*
 * RFC 4514: distinguished names as text. X.509 libraries print names for people; to compare with
 * what an operator has registered, the text has to be read exactly, escapes and all.
 */

/** One attribute: its type as a dotted OID, its value prepared for comparison. */
type Attribute = Readonly<{ oid: string; value: string }>

/** A relative distinguished name: a set of attributes, nearly always of one. */
type RelativeName = readonly Attribute[]

/** From the root to the leaf, the order of certificates. */
export type DistinguishedName = readonly RelativeName[]

/** RFC 4514 section 3, and the two names outside of it that everyone writes. */
const oids: Readonly<Record<string, string>> = {
  CN: '2.5.4.3',
  L: '2.5.4.7',
  ST: '2.5.4.8',
  O: '2.5.4.10',
  OU: '2.5.4.11',
  C: '2.5.4.6',
  STREET: '2.5.4.9',
  DC: '0.9.2342.19200300.100.1.25',
  UID: '0.9.2342.19200300.100.1.1',
  SERIALNUMBER: '2.5.4.5',
  EMAILADDRESS: '1.2.840.113549.1.9.1',
}

/** As @peculiar/x509 abbreviates the attributes of a certificate. */
const abbreviations: Readonly<Record<string, string>> = {
  ...oids,
  E: '1.2.840.113549.1.9.1',
  G: '2.5.4.42',
  I: '2.5.4.43',
  SN: '2.5.4.4',
  T: '2.5.4.12',
}

const attributePattern =
  /\s*([A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)+)\s*=((?:[^\\"+,;<>]|\\[ "#+,;<=>\\]|\\[0-9A-Fa-f]{2})*)([+,]|$)/y

/**
 * Reads a name in the string form of RFC 4514, most specific part first: `CN=app,O=Example,C=SE`.
 * Undefined for anything else, the `#` form of unknown value types included.
 */
export function parseDistinguishedName(text: string): DistinguishedName | undefined {
  const names: Attribute[][] = []
  let current: Attribute[] = []
  const pattern = new RegExp(attributePattern)
  for (;;) {
    const [, type, raw, separator] = pattern.exec(text) ?? []
    if (type === undefined || raw === undefined) return undefined
    const oid = oidOf(type, oids)
    const value = readValue(raw)
    if (oid === undefined || value === undefined || value === '') return undefined
    current.push({ oid, value })
    if (separator === '+') continue
    names.push(current)
    current = []
    if (separator === '') return names.reverse()
  }
}

/** The name of a certificate, as @peculiar/x509 gives it. */
export function asDistinguishedName(
  name: readonly Readonly<Record<string, readonly string[]>>[],
): DistinguishedName {
  return name.map((relative) =>
    Object.entries(relative).flatMap(([type, values]) =>
      values.map((value) => ({ oid: oidOf(type, abbreviations) ?? type, value: prepare(value) })),
    ),
  )
}

/** RFC 4517 section 4.2.15: the same length, and each relative name the same set. */
export function sameName(a: DistinguishedName, b: DistinguishedName): boolean {
  return a.length === b.length && a.every((relative, index) => sameSet(relative, b[index] ?? []))
}

function sameSet(a: RelativeName, b: RelativeName): boolean {
  const text = (name: RelativeName) => name.map(({ oid, value }) => `${oid}=${value}`).sort()
  return JSON.stringify(text(a)) === JSON.stringify(text(b))
}

function oidOf(type: string, names: Readonly<Record<string, string>>): string | undefined {
  return /^\d/.test(type) ? type : names[type.toUpperCase()]
}

/** RFC 4514 section 2.4: `\,` is the character, `\C4\8D` are the bytes of UTF-8. */
function readValue(raw: string): string | undefined {
  const trimmed = trimSpaces(raw)
  if (trimmed.startsWith('#')) return undefined
  const bytes: Buffer[] = []
  for (const [part] of trimmed.matchAll(/\\[0-9A-Fa-f]{2}|\\.|[^\\]+/gsu)) {
    if (/^\\[0-9A-Fa-f]{2}$/.test(part)) bytes.push(Buffer.from(part.slice(1), 'hex'))
    else bytes.push(Buffer.from(part.replace(/^\\/, '')))
  }
  try {
    return prepare(new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(bytes)))
  } catch {
    return undefined
  }
}

/** Without the spaces around a value, less one that is escaped. A loop, for it is linear. */
function trimSpaces(raw: string): string {
  let end = raw.length
  while (raw[end - 1] === ' ' && raw[end - 2] !== '\\') end -= 1
  return raw.slice(0, end).trimStart()
}

/** RFC 5280 section 7.1, by RFC 4518: case and the number of spaces make no difference. */
function prepare(value: string): string {
  return value.normalize('NFKC').toLowerCase().trim().replace(/\s+/g, ' ')
}
