import { decodeBase64url } from './lib/base64url.ts'
import { TokenBindingError } from './lib/token-binding-error.ts'
import {
  checkKeyEncoding,
  type KeyParameters,
  keyParametersOf,
  makeTokenBindingId,
  type TokenBindingId,
  verifyTokenBindingSignature,
} from './lib/token-binding-key.ts'
import {
  decodeTokenBindingMessage,
  parseTokenBindingMessage,
  type TokenBindingStruct,
} from './lib/token-binding-message.ts'

export { TokenBindingError, type TokenBindingErrorCode } from './lib/token-binding-error.ts'
export type { KeyParameters, TokenBindingId } from './lib/token-binding-key.ts'

/** What a request has proven. */
export interface TokenBindingProof {
  /** The client's key for this server. */
  readonly provided: TokenBindingId
  /**
   * The client's key for the server that sent it here. `'unsupported'` is a binding of a kind that
   * cannot be checked: nothing may be bound to it, and nothing unbound may be given in its place
   * (RFC 8473 section 5.4).
   */
  readonly referred: TokenBindingId | 'unsupported' | undefined
  /** Bindings of types that only their own specifications give a meaning; each is proven. */
  readonly other: readonly { readonly type: number; readonly id: string }[]
}

/** The facts of one TLS connection that a message is checked against. */
export interface TokenBindingConnection {
  /** What TLS negotiated (RFC 8472); without it every message is refused. */
  readonly negotiated: KeyParameters | undefined
  /**
   * 32 bytes from `exportKeyingMaterial(32, 'EXPORTER-Token-Binding')`. Leave the context out: an
   * empty one is a different value on TLS 1.2.
   */
  readonly ekm: Uint8Array
}

const providedType = 0
const referredType = 1

/**
 * Checks one Token Binding message, the value of a `Sec-Token-Binding` header field.
 *
 * This does NOT look at tokens: that the ID is the one a token is bound to is the caller's
 * comparison. Nor does it know whether `negotiated` and `ekm` are those of the connection on which
 * the message came.
 *
 * ```ts
 * const { provided } = verifyTokenBinding(message, { negotiated: 'ecdsap256', ekm })
 * if (provided.tbh !== claims.cnf.tbh) throw new Error('this token belongs to another key')
 * ```
 *
 * @throws {TokenBindingError} There is no usable ID in a message that was refused.
 */
export function verifyTokenBinding(
  message: string,
  { negotiated, ekm }: TokenBindingConnection,
): TokenBindingProof {
  // RFC 8471 section 4.2: a message on a connection that negotiated nothing is refused unread.
  if (negotiated === undefined) {
    throw new TokenBindingError(
      'not_negotiated',
      'this TLS connection did not negotiate Token Binding',
    )
  }
  if (ekm.length !== 32) throw new TypeError('ekm must be 32 bytes')

  const bindings = parseTokenBindingMessage(decodeTokenBindingMessage(message))

  // RFC 8473 section 2: exactly one provided binding, at most one referred. Counted before any
  // signature is computed, as is the comparison below.
  const provided = findProvided(bindings)

  // RFC 8471 section 4.2: the provided key is of the negotiated kind. A referred one need not be.
  if (keyParametersOf(provided.id) !== negotiated) {
    throw new TokenBindingError(
      'key_parameters_not_negotiated',
      `the provided Token Binding must use the negotiated key parameters, ${negotiated}`,
    )
  }

  const providedId = verifyTokenBindingSignature(provided, negotiated, ekm)
  let referred: TokenBindingProof['referred']
  const other: TokenBindingProof['other'][number][] = []
  for (const binding of bindings) {
    if (binding === provided) continue
    const id = evaluate(binding, ekm)
    if (binding.type === referredType) referred = id ?? 'unsupported'
    else if (id !== undefined) other.push(Object.freeze({ type: binding.type, id: id.id }))
  }
  return Object.freeze({ provided: providedId, referred, other: Object.freeze(other) })
}

function findProvided(bindings: readonly TokenBindingStruct[]): TokenBindingStruct {
  const [provided, secondProvided] = bindings.filter(({ type }) => type === providedType)
  if (provided === undefined) {
    throw new TokenBindingError(
      'no_provided_binding',
      'a message holds exactly one provided Token Binding, not none',
    )
  }
  if (secondProvided !== undefined) {
    throw new TokenBindingError(
      'repeated_provided_binding',
      'a message holds exactly one provided Token Binding, not two',
    )
  }
  const [, secondReferred] = bindings.filter(({ type }) => type === referredType)
  if (secondReferred !== undefined) {
    throw new TokenBindingError(
      'repeated_referred_binding',
      'a message holds at most one referred Token Binding, not two',
    )
  }
  return provided
}

/**
 * RFC 8471 section 4.2: one invalid signature refuses the message, of whatever type its binding
 * is; that goes before section 3.1, which ignores unknown types. Where the key parameters are
 * unknown nothing can be computed, and the binding counts for nothing.
 */
function evaluate(binding: TokenBindingStruct, ekm: Uint8Array): TokenBindingId | undefined {
  const keyParameters = keyParametersOf(binding.id)
  if (keyParameters === undefined) return undefined
  return verifyTokenBindingSignature(binding, keyParameters, ekm)
}

/** Longer than any with two RSA keys. A server has many connections, and each keeps a message. */
const maxRemembered = 4096

/** Checks the `Sec-Token-Binding` fields of one request; nothing where there are none. */
export type TokenBindingVerifier = (
  values: readonly string[] | undefined,
) => TokenBindingProof | undefined

/**
 * A verifier for one TLS connection, which remembers the last message that was good on it: a
 * client repeats its message with each request (RFC 8471 section 3.3).
 *
 * Make one for each connection and drop it with the connection. This does NOT notice a TLS 1.2
 * renegotiation, which changes the keying material: switch renegotiation off. Hand it every value
 * that came, not the first; two are a mistake that RFC 8473 section 2 answers with 400.
 *
 * ```ts
 * const verify = createTokenBindingVerifier({ negotiated: 'ecdsap256', ekm })
 * const proof = verify(fieldValues(request.rawHeaders, 'sec-token-binding'))
 * ```
 */
export function createTokenBindingVerifier(
  connection: TokenBindingConnection,
): TokenBindingVerifier {
  let verified: string | undefined
  let proof: TokenBindingProof | undefined

  return (values) => {
    const message = values?.[0]
    if (values === undefined || message === undefined) return undefined
    if (values.length > 1) {
      throw new TokenBindingError(
        'repeated_header',
        'a request holds at most one Sec-Token-Binding field',
      )
    }
    if (message === verified) return proof
    const found = verifyTokenBinding(message, connection)
    if (message.length > maxRemembered) return found
    verified = message
    proof = found
    return found
  }
}

/**
 * Reads a Token Binding ID that someone else has proven: one from a trusted proxy's header, or a
 * `referred_tb` code verifier. Nothing where the text is not an ID of a registered kind in its
 * canonical form.
 *
 * This does NOT prove that anyone holds the key.
 */
export function parseTokenBindingId(text: string): TokenBindingId | undefined {
  const bytes = decodeBase64url(text)
  if (bytes === undefined || bytes.length < 3) return undefined
  if (bytes.readUInt16BE(1) !== bytes.length - 3) return undefined
  const keyParameters = keyParametersOf(bytes)
  if (keyParameters === undefined) return undefined
  try {
    checkKeyEncoding(keyParameters, bytes)
  } catch {
    return undefined
  }
  return makeTokenBindingId(text, bytes, keyParameters)
}

/**
 * All values of one header field, in order, from the flat list that Node calls `rawHeaders`:
 * `headers` would hide a second one by joining it to the first. The name is given in lower case.
 */
export function fieldValues(rawHeaders: readonly string[], name: string): string[] {
  const values: string[] = []
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const field = rawHeaders[index] ?? ''
    if (field.length === name.length && field.toLowerCase() === name) {
      values.push(rawHeaders[index + 1] ?? '')
    }
  }
  return values
}
