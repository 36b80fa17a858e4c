import { decodeBase64url } from './lib/base64url.ts'
import { checkNames, checkUntrusted, flag, namesOf } from './lib/check.ts'
import { TokenBindingError } from './lib/token-binding-error.ts'
import {
  fieldValues,
  parseTokenBindingId,
  type TokenBindingId,
  type TokenBindingProof,
} from './token-binding.ts'

/*
 * draft-ietf-tokbind-ttrp-09: a TLS terminating reverse proxy checks Sec-Token-Binding itself and
 * tells the server behind it the IDs. Who may say so is decided by the caller, from the address of
 * the TCP peer or from the proxy's own certificate; never from another header.
 */

const messageField = 'sec-token-binding'
const providedField = 'sec-provided-token-binding-id'
const referredField = 'sec-referred-token-binding-id'
const otherField = 'sec-other-token-binding-id'
const forwardedFields = [providedField, referredField, otherField]

export interface ForwardedTokenBindingOptions {
  /** Whether the peer of this request is a proxy that was configured by the operator. */
  readonly trusted: boolean
  /**
   * What to do with the headers of anyone else: `'refuse'` (the default) answers an attack with an
   * error, `'ignore'` reads the request as if they were not there.
   */
  readonly untrusted?: 'refuse' | 'ignore'
}

const forwardedOptions = namesOf<ForwardedTokenBindingOptions>({ trusted: true, untrusted: true })

/**
 * Reads what a proxy has proven about the client of this request; nothing where it sent none.
 *
 * This does NOT verify a signature: there is none in these headers. Everything rests on `trusted`
 * and on a link to the proxy that others can neither read nor write. A `Sec-Token-Binding` field
 * that slipped through such a proxy is not looked at: it belongs to another TLS connection.
 *
 * ```ts
 * const trusted = isTrustedPeer(request.socket.remoteAddress)
 * const proof = readTokenBindingHeaders(request.rawHeaders, { trusted })
 * ```
 *
 * @throws {TokenBindingError}
 */
export function readTokenBindingHeaders(
  rawHeaders: readonly string[],
  options: ForwardedTokenBindingOptions,
): TokenBindingProof | undefined {
  checkNames('options', options, forwardedOptions)
  const { untrusted = 'refuse' } = options
  const trusted = flag('trusted', options.trusted)
  checkUntrusted(untrusted)
  const provided = fieldValues(rawHeaders, providedField)
  const referred = fieldValues(rawHeaders, referredField)
  const other = fieldValues(rawHeaders, otherField)
  if (provided.length + referred.length + other.length === 0) return undefined

  // Section 4: from configured proxies only.
  if (!trusted) {
    if (untrusted === 'ignore') return undefined
    throw new TokenBindingError(
      'untrusted_peer',
      'forwarded Token Binding IDs are accepted from configured proxies only',
    )
  }

  // Section 2.2: neither is a list, neither may repeat.
  const providedText = single(provided, 'Sec-Provided-Token-Binding-ID')
  const referredText = single(referred, 'Sec-Referred-Token-Binding-ID')

  // Section 2.3: a proxy that forwards anything forwards the provided ID.
  if (providedText === undefined) throw malformed('Sec-Provided-Token-Binding-ID beside the others')
  const providedId = parseTokenBindingId(providedText)
  if (providedId === undefined) throw malformed('a Token Binding ID as the provided one')

  return Object.freeze({
    provided: providedId,
    referred: referredText === undefined ? undefined : readReferred(referredText),
    other: Object.freeze(other.flatMap(readOther)),
  })
}

/**
 * The header fields of a request as a TLS terminating proxy passes them on: without
 * `Sec-Token-Binding`, without anything the client wrote in the names of section 2.2, and with the
 * IDs of `proof`, where there is one. For the proxy's side; in the flat form of `rawHeaders`.
 */
export function forwardTokenBinding(
  rawHeaders: readonly string[],
  proof: TokenBindingProof | undefined,
): string[] {
  const forwarded: string[] = []
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const [name = '', value = ''] = [rawHeaders[index], rawHeaders[index + 1]]
    const field = name.toLowerCase()
    if (field !== messageField && !forwardedFields.includes(field)) forwarded.push(name, value)
  }
  if (proof === undefined) return forwarded

  forwarded.push('Sec-Provided-Token-Binding-ID', proof.provided.id)
  // A referred binding that could not be checked must not look like one that was.
  if (proof.referred !== undefined && proof.referred !== 'unsupported') {
    forwarded.push('Sec-Referred-Token-Binding-ID', proof.referred.id)
  }
  if (proof.other.length > 0) {
    const ids = proof.other.map(({ type, id }) => `${type.toString(16).padStart(2, '0')}.${id}`)
    forwarded.push('Sec-Other-Token-Binding-ID', ids.join(','))
  }
  return forwarded
}

function single(values: readonly string[], name: string): string | undefined {
  if (values.length > 1) {
    throw new TokenBindingError('repeated_header', `a request holds at most one ${name} field`)
  }
  return values[0]
}

function readReferred(text: string): TokenBindingId | 'unsupported' {
  const id = parseTokenBindingId(text)
  if (id !== undefined) return id
  // The proxy may know more kinds of keys than this server does; this one then binds nothing.
  if (isIdOfUnknownKind(text)) return 'unsupported'
  throw malformed('a Token Binding ID as the referred one')
}

function isIdOfUnknownKind(text: string): boolean {
  const bytes = decodeBase64url(text)
  if (bytes === undefined || bytes.length < 3) return false
  return bytes.readUInt8(0) > 2 && bytes.readUInt16BE(1) === bytes.length - 3
}

const otherItem = /^([0-9a-fA-F]{1,2})\.([A-Za-z0-9_-]+)$/

function readOther(list: string): { type: number; id: string }[] {
  return list.split(',').map((item) => {
    const [, hexadecimal, id] = otherItem.exec(item.trim()) ?? []
    if (hexadecimal === undefined || id === undefined) throw malformed('"type.ID" in the list')
    const type = Number.parseInt(hexadecimal, 16)
    // Provided and referred have fields of their own; here they would get past the rules for them.
    if (type < 2) throw malformed('only other types in Sec-Other-Token-Binding-ID')
    if (parseTokenBindingId(id) === undefined && !isIdOfUnknownKind(id)) {
      throw malformed('a Token Binding ID in Sec-Other-Token-Binding-ID')
    }
    return Object.freeze({ type, id })
  })
}

function malformed(expected: string): TokenBindingError {
  return new TokenBindingError(
    'malformed_header',
    `forwarded Token Binding headers are malformed: expected ${expected}`,
  )
}
