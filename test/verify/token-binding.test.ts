import { createHash } from 'node:crypto'
import test from 'ava'
import {
  createTokenBindingVerifier,
  fieldValues,
  parseTokenBindingId,
  type TokenBindingConnection,
  TokenBindingError,
  type TokenBindingErrorCode,
  verifyTokenBinding,
} from '../../packages/verify/token-binding.ts'
import {
  type BindingOverrides,
  binding,
  ekm,
  encodeRsa,
  makeEcKey,
  makeRsaKey,
  message,
  type TestKey,
  tokenBindingId,
} from '../support/token-binding-messages.ts'
import { weakExponents } from '../support/verify/keys.ts'

const ec = makeEcKey()
const otherEc = makeEcKey()
const pkcs1 = makeRsaKey(0)
const pss = makeRsaKey(1)

const connection: TokenBindingConnection = { negotiated: 'ecdsap256', ekm }
const idOf = (key: TestKey) => tokenBindingId(key).toString('base64url')
const tbhOf = (key: TestKey) => createHash('sha256').update(tokenBindingId(key)).digest('base64url')

function codeOf(run: () => unknown): TokenBindingErrorCode | 'accepted' {
  try {
    run()
    return 'accepted'
  } catch (error) {
    if (error instanceof TokenBindingError) return error.code
    throw error
  }
}

const decide = (text: string, over: Partial<TokenBindingConnection> = {}) =>
  codeOf(() => verifyTokenBinding(text, { ...connection, ...over }))

const decideKey = (overrides: BindingOverrides, key = ec) =>
  decide(message(binding(key, overrides)))

test('accepts an EC P-256 key and names its ID and hash', (t) => {
  t.deepEqual(verifyTokenBinding(message(binding(ec)), connection), {
    provided: { id: idOf(ec), tbh: tbhOf(ec), keyParameters: 'ecdsap256' },
    referred: undefined,
    other: [],
  })
})

test('accepts RSA-2048 with PKCS#1 v1.5 and with PSS', (t) => {
  t.is(decide(message(binding(pkcs1)), { negotiated: 'rsa2048_pkcs1.5' }), 'accepted')
  t.is(decide(message(binding(pss)), { negotiated: 'rsa2048_pss' }), 'accepted')
})

test('accepts a referred key of another kind than the negotiated one, in either order', (t) => {
  const bindings = [binding(ec), binding(pss, { type: 1 })]
  for (const order of [bindings, bindings.toReversed()]) {
    const proof = verifyTokenBinding(message(...order), connection)
    t.is(proof.provided.id, idOf(ec))
    t.like(proof.referred, { id: idOf(pss), tbh: tbhOf(pss), keyParameters: 'rsa2048_pss' })
  }
})

test('accepts the same key as provided and as referred', (t) => {
  const { provided, referred } = verifyTokenBinding(
    message(binding(ec), binding(ec, { type: 1 })),
    connection,
  )
  t.deepEqual(referred, provided)
})

test('gives frozen facts', (t) => {
  const proof = verifyTokenBinding(message(binding(ec), binding(ec, { type: 77 })), connection)
  for (const fact of [proof, proof.provided, proof.other, proof.other[0]]) {
    t.true(Object.isFrozen(fact))
  }
})

test('refuses every message on a connection that did not negotiate', (t) => {
  t.is(decide(message(binding(ec)), { negotiated: undefined }), 'not_negotiated')
  t.is(decide('', { negotiated: undefined }), 'not_negotiated')
})

test('refuses a message signed for another connection', (t) => {
  t.is(decide(message(binding(ec)), { ekm: Buffer.alloc(32, 1) }), 'invalid_signature')
})

test('refuses keying material of another length as the mistake of the caller', (t) => {
  t.throws(() => decide(message(binding(ec)), { ekm: Buffer.alloc(48) }), {
    instanceOf: TypeError,
  })
})

test('refuses a provided key of another kind than the negotiated one', (t) => {
  const text = message(binding(ec))
  t.is(decide(text, { negotiated: 'rsa2048_pss' }), 'key_parameters_not_negotiated')
  t.is(
    decide(message(binding(pss)), { negotiated: 'rsa2048_pkcs1.5' }),
    'key_parameters_not_negotiated',
  )
})

test('refuses a provided key of a kind that is not registered', (t) => {
  t.is(decideKey({ keyParameters: 88 }), 'key_parameters_not_negotiated')
})

test('refuses none, and two, provided bindings', (t) => {
  t.is(decideKey({ type: 1 }), 'no_provided_binding')
  t.is(decideKey({ type: 77 }), 'no_provided_binding')
  t.is(decide(message(binding(ec), binding(ec))), 'repeated_provided_binding')
  t.is(decide(message(binding(ec), binding(otherEc))), 'repeated_provided_binding')
})

test('refuses two referred bindings', (t) => {
  const referred = binding(otherEc, { type: 1 })
  t.is(decide(message(binding(ec), referred, referred)), 'repeated_referred_binding')
})

test('refuses a message of which any signature is bad, whatever its type', (t) => {
  for (const type of [1, 2, 77, 255]) {
    const bad = binding(otherEc, { type, signedEkm: Buffer.alloc(32) })
    t.is(decide(message(binding(ec), bad)), 'invalid_signature')
  }
})

test('refuses a signature made for another type', (t) => {
  t.is(decideKey({ signedType: 1 }), 'invalid_signature')
  const moved = binding(otherEc, { type: 1, signedType: 0 })
  t.is(decide(message(binding(ec), moved)), 'invalid_signature')
})

test('refuses a signature made with another key', (t) => {
  t.is(decideKey({ encoded: otherEc.encoded }), 'invalid_signature')
})

test('ignores an unknown type whose signature is good, and lists it', (t) => {
  const proof = verifyTokenBinding(message(binding(ec), binding(otherEc, { type: 77 })), connection)
  t.is(proof.referred, undefined)
  t.deepEqual(proof.other, [{ type: 77, id: idOf(otherEc) }])
})

test('gives no ID for a referred key of a kind that cannot be checked', (t) => {
  const unknown = binding(otherEc, { type: 1, keyParameters: 96 })
  t.is(verifyTokenBinding(message(binding(ec), unknown), connection).referred, 'unsupported')
})

test('leaves out an unknown type with a key of a kind that cannot be checked', (t) => {
  const unknown = binding(otherEc, { type: 77, keyParameters: 96 })
  t.deepEqual(verifyTokenBinding(message(binding(ec), unknown), connection).other, [])
})

test('ignores unknown extensions', (t) => {
  t.is(decideKey({ extensions: Buffer.from('c80003616263c90000', 'hex') }), 'accepted')
})

test('refuses extensions that are none', (t) => {
  t.is(decideKey({ extensions: Buffer.from('c8', 'hex') }), 'malformed_message')
  t.is(decideKey({ extensions: Buffer.from('c80004616263', 'hex') }), 'malformed_message')
})

test('refuses what is not base64url in its one form', (t) => {
  const text = message(binding(ec))
  const withPlus = text.replace(/[-_]/, '+')
  for (const broken of [`${text}==`, ` ${text}`, `${text}\n`, `${text}, ${text}`]) {
    t.is(decide(broken), 'malformed_encoding')
  }
  if (withPlus !== text) t.is(decide(withPlus), 'malformed_encoding')
})

test('refuses spare bits after the last byte', (t) => {
  const text = message(binding(ec, { extensions: Buffer.from('c80001ff', 'hex') }))
  t.is(decide(text), 'accepted')
  const spare = `${text.slice(0, -1)}${text.endsWith('w') ? 'x' : '9'}`
  t.deepEqual(Buffer.from(spare, 'base64url'), Buffer.from(text, 'base64url'))
  t.is(decide(spare), 'malformed_encoding')
})

test('refuses an empty message, a byte too few and a byte too many', (t) => {
  const bytes = Buffer.from(message(binding(ec)), 'base64url')
  t.is(decide(''), 'malformed_message')
  t.is(decide(Buffer.of(0).toString('base64url')), 'malformed_message')
  t.is(decide(bytes.subarray(0, -1).toString('base64url')), 'malformed_message')
  t.is(decide(Buffer.concat([bytes, Buffer.of(0)]).toString('base64url')), 'malformed_message')
})

test('refuses a whole binding behind the end of the message', (t) => {
  const text = message(binding(ec))
  const behind = Buffer.concat([Buffer.from(text, 'base64url'), binding(otherEc, { type: 1 })])
  t.is(decide(behind.toString('base64url')), 'malformed_message')
})

test('refuses a message longer than its length word can say', (t) => {
  t.is(decide('A'.repeat(87_384)), 'malformed_message')
})

test('refuses fewer than 132 bytes of bindings', (t) => {
  const short = binding(ec, { keyParameters: 96, encoded: Buffer.alloc(8) })
  t.is(decide(message(short)), 'malformed_message')
})

test('refuses an ECDSA signature that is DER, short, or zero', (t) => {
  t.is(decideKey({ signature: Buffer.alloc(63, 1) }), 'malformed_message')
  t.is(decideKey({ signature: Buffer.alloc(70, 1) }), 'invalid_signature')
  t.is(decideKey({ signature: Buffer.alloc(64) }), 'invalid_signature')
})

test('accepts ECDSA signatures whose halves begin with zeros', (t) => {
  const leadingZero = (signature: Buffer) => signature[0] === 0 || signature[32] === 0
  for (let attempt = 0; attempt < 4000; attempt += 1) {
    const bytes = binding(ec)
    if (leadingZero(bytes.subarray(71, 135))) {
      t.is(decide(message(bytes)), 'accepted')
      return
    }
  }
  t.fail('no such signature in 4000')
})

test('refuses an EC point with a 0x04 in front, off the curve, or of another length', (t) => {
  const point = ec.encoded.subarray(1)
  const sec1 = Buffer.concat([Buffer.of(65, 4), point])
  const offCurve = Buffer.concat([
    ec.encoded.subarray(0, -1),
    Buffer.of(ec.encoded.readUInt8(64) ^ 1),
  ])
  const spare = Buffer.concat([ec.encoded, Buffer.of(0)])
  for (const encoded of [sec1, offCurve, spare, ec.encoded.subarray(0, -1)]) {
    t.is(decideKey({ encoded }), 'malformed_key')
  }
})

test('refuses RSA keys in a second encoding', (t) => {
  const modulus = pkcs1.encoded.subarray(2, 258)
  const exponent = Buffer.of(1, 0, 1)
  const longer = Buffer.concat([Buffer.of(0), modulus])
  const shifted = Buffer.concat([Buffer.of(0), modulus.subarray(1)])
  const encodings = [
    encodeRsa(longer, exponent),
    encodeRsa(shifted, exponent),
    encodeRsa(modulus.subarray(1), exponent),
    encodeRsa(modulus, Buffer.of(0, 1, 0, 1)),
    Buffer.concat([encodeRsa(modulus, exponent), Buffer.of(0)]),
    encodeRsa(modulus, Buffer.alloc(0)),
    Buffer.alloc(65, 64),
  ]
  for (const encoded of encodings) {
    const text = message(binding(pkcs1, { encoded }))
    t.is(decide(text, { negotiated: 'rsa2048_pkcs1.5' }), 'malformed_key')
  }
})

test('refuses an RSA exponent with which everybody, or nobody, could sign', (t) => {
  const modulus = pkcs1.encoded.subarray(2, 258)
  for (const exponent of [...weakExponents, Buffer.of(2), Buffer.alloc(33, 1)]) {
    const text = message(binding(pkcs1, { encoded: encodeRsa(modulus, exponent) }))
    t.is(decide(text, { negotiated: 'rsa2048_pkcs1.5' }), 'malformed_key')
  }
})

test('rejects more than eight Token Bindings in a message', (t) => {
  const others = (count: number) => Array.from({ length: count }, () => binding(ec, { type: 7 }))
  t.is(decide(message(binding(ec), ...others(7))), 'accepted')
  t.is(decide(message(binding(ec), ...others(8))), 'malformed_message')
})

test('refuses a PSS salt of another length than 32', (t) => {
  for (const saltLength of [0, 20, 33]) {
    const text = message(binding(pss, { saltLength }))
    t.is(decide(text, { negotiated: 'rsa2048_pss' }), 'invalid_signature')
  }
})

test('refuses PKCS#1 v1.5 where PSS was declared', (t) => {
  const relabelled: TestKey = { ...pkcs1, keyParameters: 1 }
  const signature = binding(pkcs1).subarray(-258, -2)
  const text = message(binding(relabelled, { signature }))
  t.is(decide(text, { negotiated: 'rsa2048_pss' }), 'invalid_signature')
})

test('a verifier of a connection takes no field for no proof, and refuses two', (t) => {
  const verify = createTokenBindingVerifier(connection)
  const text = message(binding(ec))
  t.is(verify(undefined), undefined)
  t.is(verify([]), undefined)
  t.is(
    codeOf(() => verify([text, text])),
    'repeated_header',
  )
})

test('a verifier remembers the last good message of its own connection only', (t) => {
  const text = message(binding(ec))
  const verify = createTokenBindingVerifier(connection)
  const proof = verify([text])
  t.is(verify([text]), proof)

  const elsewhere = createTokenBindingVerifier({ ...connection, ekm: Buffer.alloc(32) })
  t.is(
    codeOf(() => elsewhere([text])),
    'invalid_signature',
  )
})

test('a verifier does not remember what it refused', (t) => {
  const verify = createTokenBindingVerifier(connection)
  const bad = message(binding(ec, { signedEkm: Buffer.alloc(32) }))
  const good = message(binding(ec))
  t.is(
    codeOf(() => verify([bad])),
    'invalid_signature',
  )
  t.is(
    codeOf(() => verify([bad])),
    'invalid_signature',
  )
  t.truthy(verify([good]))
  t.is(
    codeOf(() => verify([bad])),
    'invalid_signature',
  )
  t.is(verify([good])?.provided.id, idOf(ec))
})

test('reads an ID in its one form, of each kind', (t) => {
  for (const key of [ec, pkcs1, pss]) {
    t.like(parseTokenBindingId(idOf(key)), { id: idOf(key), tbh: tbhOf(key) })
  }
})

test('reads no ID from anything else', (t) => {
  const bytes = tokenBindingId(ec)
  const texts = [
    '',
    'AgBB',
    `${idOf(ec)}=`,
    bytes.subarray(0, -1).toString('base64url'),
    Buffer.concat([bytes, Buffer.of(0)]).toString('base64url'),
    Buffer.concat([bytes.subarray(0, 1), Buffer.of(0, 66), bytes.subarray(3)]).toString(
      'base64url',
    ),
    tokenBindingId({ ...ec, keyParameters: 3 }).toString('base64url'),
    tokenBindingId({ ...ec, keyParameters: 0 }).toString('base64url'),
    tokenBindingId({ ...ec, encoded: Buffer.alloc(65, 65) }).toString('base64url'),
  ]
  for (const text of texts) t.is(parseTokenBindingId(text), undefined)
})

test('finds every value of a header field, whatever its case', (t) => {
  const rawHeaders = ['Host', 'a', 'sec-token-binding', '1', 'Sec-Token-Binding', '2', 'odd']
  t.deepEqual(fieldValues(rawHeaders, 'sec-token-binding'), ['1', '2'])
  t.deepEqual(fieldValues(rawHeaders, 'cookie'), [])
})
