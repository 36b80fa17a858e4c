import { constants, sign } from 'node:crypto'
import type { TokenBindingKey } from './keys.ts'
import { allKeyParameters } from './native.ts'

const providedType = 0
const referredType = 1

/**
 * The value of `Sec-Token-Binding` (RFC 8473 section 2). Both bindings are signed over the keying
 * material of the connection on which they are sent, the referred one too (RFC 8471 section 4.1).
 */
export function signTokenBindingMessage(
  ekm: Buffer,
  provided: TokenBindingKey,
  referred?: TokenBindingKey,
): string {
  const bindings = [signTokenBinding(providedType, provided, ekm)]
  if (referred) bindings.push(signTokenBinding(referredType, referred, ekm))
  return vector(Buffer.concat(bindings)).toString('base64url')
}

/** RFC 8471 section 3: type, ID, signature, and no extensions. */
function signTokenBinding(type: number, key: TokenBindingKey, ekm: Buffer): Buffer {
  const signed = Buffer.concat([Buffer.of(type, allKeyParameters.indexOf(key.keyParameters)), ekm])
  return Buffer.concat([
    Buffer.of(type),
    key.id,
    vector(signWith(key, signed)),
    vector(Buffer.alloc(0)),
  ])
}

/** RFC 8471 section 3.3. */
function signWith({ keyParameters, privateKey: key }: TokenBindingKey, signed: Buffer): Buffer {
  switch (keyParameters) {
    case 'ecdsap256':
      return sign('sha256', signed, { key, dsaEncoding: 'ieee-p1363' })
    case 'rsa2048_pss':
      return sign('sha256', signed, {
        key,
        padding: constants.RSA_PKCS1_PSS_PADDING,
        saltLength: 32,
      })
    case 'rsa2048_pkcs1.5':
      return sign('sha256', signed, key)
  }
}

function vector(bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.of(bytes.length >> 8, bytes.length & 0xff), bytes])
}
