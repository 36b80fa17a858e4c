import { decodeBase64url } from './base64url.ts'
import { TokenBindingError } from './token-binding-error.ts'

/*
 * The wire format of RFC 8471 section 3, in TLS presentation language: big-endian integers, and
 * vectors that carry their length. Nothing is interpreted here beyond where one field ends and the
 * next begins; every byte must belong to a field.
 */

/** One TokenBinding as it came. Keys and signatures are not looked at yet. */
export interface TokenBindingStruct {
  readonly type: number
  readonly keyParameters: number
  /** The TokenBindingID as received; never re-encoded, so that one key cannot have two IDs. */
  readonly id: Buffer
  readonly signature: Buffer
}

export function decodeTokenBindingMessage(text: string): Buffer {
  const bytes = decodeBase64url(text)
  if (bytes === undefined) {
    throw new TokenBindingError(
      'malformed_encoding',
      'Sec-Token-Binding must be base64url without padding or other characters',
    )
  }
  return bytes
}

/** One provided, one referred, and room for other types: each is a signature to verify. */
const maxBindings = 8

export function parseTokenBindingMessage(bytes: Buffer): TokenBindingStruct[] {
  const message = new Reader(bytes)
  const length = message.uint16('tokenbindings length')
  if (length < 132) throw malformed(`tokenbindings of at least 132 bytes, not ${length}`)
  if (length !== message.remaining) {
    throw malformed(`tokenbindings of ${length} bytes, not ${message.remaining}`)
  }

  const bindings: TokenBindingStruct[] = []
  while (message.remaining > 0) {
    if (bindings.length === maxBindings) throw malformed(`at most ${maxBindings} Token Bindings`)
    bindings.push(readTokenBinding(message))
  }
  return bindings
}

function readTokenBinding(message: Reader): TokenBindingStruct {
  const type = message.uint8('tokenbinding_type')
  const id = readTokenBindingId(message)
  const signature = message.vector('signature')
  if (signature.length < 64) {
    throw malformed(`a signature of at least 64 bytes, not ${signature.length}`)
  }
  // RFC 8471 section 3.4: unknown extensions are ignored, and all are unknown. They still have to
  // be extensions: other bytes would be room for a second reading of the message.
  const extensions = new Reader(message.vector('extensions'))
  while (extensions.remaining > 0) {
    extensions.uint8('extension_type')
    extensions.vector('extension_data')
  }
  return { type, keyParameters: id.readUInt8(0), id, signature }
}

function readTokenBindingId(message: Reader): Buffer {
  const start = message.position
  message.uint8('key_parameters')
  message.vector('TokenBindingPublicKey')
  return message.since(start)
}

/** Takes fields off the front of a buffer and never reads past its end. */
class Reader {
  readonly #bytes: Buffer
  position = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get remaining(): number {
    return this.#bytes.length - this.position
  }

  uint8(field: string): number {
    return this.#bytes.readUInt8(this.#advance(1, field))
  }

  uint16(field: string): number {
    return this.#bytes.readUInt16BE(this.#advance(2, field))
  }

  vector(field: string): Buffer {
    const start = this.#advance(this.uint16(`${field} length`), field)
    return this.since(start)
  }

  since(start: number): Buffer {
    return this.#bytes.subarray(start, this.position)
  }

  #advance(length: number, field: string): number {
    if (length > this.remaining) {
      throw malformed(`${length} bytes of ${field}, not ${this.remaining}`)
    }
    const start = this.position
    this.position += length
    return start
  }
}

function malformed(expected: string): TokenBindingError {
  return new TokenBindingError(
    'malformed_message',
    `Token Binding message is malformed: expected ${expected}`,
  )
}
