import { createHash } from 'node:crypto'
import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import { createIdTokenVerifier } from '../../packages/verify/id-token.ts'
import {
  createTokenBindingVerifier,
  fieldValues,
  parseTokenBindingId,
  type TokenBindingConnection,
  TokenBindingError,
  type TokenBindingErrorCode,
  type TokenBindingProof,
  verifyTokenBinding,
} from '../../packages/verify/token-binding.ts'
import {
  type ForwardedTokenBindingOptions,
  forwardTokenBinding,
  readTokenBindingHeaders,
} from '../../packages/verify/token-binding-headers.ts'
import {
  beginTokenBoundLogin,
  finishTokenBoundLogin,
} from '../../packages/verify/token-binding-login.ts'
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
import {
  accessToken,
  bearerRequest,
  issuer,
  issuerKey,
  jwks,
  start,
  verifierWith,
} from '../support/verify/fixtures.ts'
import { signJws, weakExponents } from '../support/verify/keys.ts'
import { refused } from '../support/verify/refused.ts'

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

test('rejects malformed extensions', (t) => {
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
    Buffer.concat([Buffer.of(0, 255), encodeRsa(modulus, exponent).subarray(2)]),
    Buffer.concat([Buffer.of(1, 0), modulus, Buffer.of(2), exponent]),
    Buffer.alloc(65, 64),
    Buffer.alloc(1),
  ]
  for (const encoded of encodings) {
    const text = message(binding(pkcs1, { encoded }))
    t.is(decide(text, { negotiated: 'rsa2048_pkcs1.5' }), 'malformed_key')
  }
})

test('rejects an RSA exponent with which anyone, or no one, could sign', (t) => {
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
    ...[Buffer.concat([ec.encoded, Buffer.of(0)]), ec.encoded.subarray(0, -1)].map((encoded) =>
      tokenBindingId({ ...ec, encoded }).toString('base64url'),
    ),
    ...[Buffer.of(3), Buffer.of(0, 1, 0, 1), Buffer.alloc(33, 1)].map((exponent) =>
      tokenBindingId({
        ...pss,
        encoded: encodeRsa(pss.encoded.subarray(2, 258), exponent),
      }).toString('base64url'),
    ),
  ]
  for (const text of texts) t.is(parseTokenBindingId(text), undefined)
})

test('finds every value of a header field, whatever its case', (t) => {
  const rawHeaders = ['Host', 'a', 'sec-token-binding', '1', 'Sec-Token-Binding', '2', 'odd']
  t.deepEqual(fieldValues(rawHeaders, 'sec-token-binding'), ['1', '2'])
  t.deepEqual(fieldValues(rawHeaders, 'cookie'), [])
})

const [mine, theirs, third] = [makeEcKey(), makeEcKey(), makeEcKey()]
const id = (key = mine) => tokenBindingId(key).toString('base64url')

const provided = ['Sec-Provided-Token-Binding-ID', id(mine)]
const referred = ['Sec-Referred-Token-Binding-ID', id(theirs)]
const others = ['Sec-Other-Token-Binding-ID', `4d.${id(third)}, B.${id(theirs)}`]
const valid = ['Host', 'backend', ...provided, ...referred, ...others]

const read = (rawHeaders: string[], options: Partial<ForwardedTokenBindingOptions> = {}) =>
  readTokenBindingHeaders(rawHeaders, { trusted: true, ...options })

function headerCodeOf(run: () => unknown): string {
  try {
    run()
    return 'accepted'
  } catch (error) {
    if (error instanceof TokenBindingError) return error.code
    throw error
  }
}

test('reads what a trusted proxy has proven', (t) => {
  const proof = read(valid)
  t.is(proof?.provided.id, id(mine))
  t.like(proof?.referred, { id: id(theirs) })
  t.deepEqual(proof?.other, [
    { type: 0x4d, id: id(third) },
    { type: 0xb, id: id(theirs) },
  ])
  t.true(Object.isFrozen(proof))
})

test('finds nothing where the proxy sent nothing', (t) => {
  t.is(read(['Host', 'backend']), undefined)
  t.is(read(['Host', 'backend'], { trusted: false }), undefined)
})

test('refuses each of the fields from anyone else', (t) => {
  for (const fields of [provided, referred, others]) {
    t.is(
      headerCodeOf(() => read(fields, { trusted: false })),
      'untrusted_peer',
    )
  }
})

test('ignores them from anyone else where that is configured', (t) => {
  t.is(read(valid, { trusted: false, untrusted: 'ignore' }), undefined)
})

test('refuses a second provided or referred field, and a list in one', (t) => {
  t.is(
    headerCodeOf(() => read([...valid, ...provided])),
    'repeated_header',
  )
  t.is(
    headerCodeOf(() => read([...valid, ...referred])),
    'repeated_header',
  )
  const list = ['sec-provided-token-binding-id', `${id()}, ${id()}`]
  t.is(
    headerCodeOf(() => read(list)),
    'malformed_header',
  )
})

test('refuses a referred or other ID without a provided one', (t) => {
  t.is(
    headerCodeOf(() => read(referred)),
    'malformed_header',
  )
  t.is(
    headerCodeOf(() => read(others)),
    'malformed_header',
  )
})

test('rejects a malformed provided ID', (t) => {
  for (const text of ['', 'unknown', `${id()}=`, id().slice(0, -4)]) {
    t.is(
      headerCodeOf(() => read(['Sec-Provided-Token-Binding-ID', text])),
      'malformed_header',
    )
  }
})

test('rejects a malformed referred ID', (t) => {
  // Of an unknown kind: too short, and shorter than it says.
  const unknown = [Buffer.of(5), Buffer.of(5, 0, 9, 1)].map((bytes) => bytes.toString('base64url'))
  for (const text of ['AgBB', ...unknown]) {
    t.is(
      headerCodeOf(() => read([...provided, 'Sec-Referred-Token-Binding-ID', text])),
      'malformed_header',
      text,
    )
  }
})

test('gives no ID for a referred key of an unknown kind', (t) => {
  const unknown = tokenBindingId({ ...theirs, keyParameters: 9 }).toString('base64url')
  t.is(read([...provided, 'Sec-Referred-Token-Binding-ID', unknown])?.referred, 'unsupported')
})

test('joins lists of other IDs that came in several fields', (t) => {
  t.is(read([...valid, ...others])?.other.length, 4)
})

test('refuses lists of other IDs that break their syntax or name the two known types', (t) => {
  for (const list of ['', id(), `g.${id()}`, `4d.${id()},`, '4d.AAAA', `1.${id()}`, `00.${id()}`]) {
    const fields = [...provided, 'Sec-Other-Token-Binding-ID', list]
    t.is(
      headerCodeOf(() => read(fields)),
      'malformed_header',
    )
  }
})

test('does not read Sec-Token-Binding, which belongs to another connection', (t) => {
  t.is(read(['Sec-Token-Binding', message(binding(mine))]), undefined)
})

const proof = verifyTokenBinding(
  message(binding(mine), binding(theirs, { type: 1 }), binding(third, { type: 0xb })),
  { negotiated: 'ecdsap256', ekm },
)

test('a proxy forwards what it has proven in the place of what the client wrote', (t) => {
  const forwarded = forwardTokenBinding(
    ['host', 'idp', 'SEC-TOKEN-BINDING', 'x', 'sec-other-token-binding-id', 'x', ...referred],
    proof,
  )
  t.deepEqual(forwarded, [
    'host',
    'idp',
    ...provided,
    ...referred,
    'Sec-Other-Token-Binding-ID',
    `0b.${id(third)}`,
  ])
  t.deepEqual(read(forwarded), proof)
})

test('a proxy forwards no Token Binding field of a client that has proven nothing', (t) => {
  const forwarded = forwardTokenBinding([...valid, 'Sec-Token-Binding', 'x'], undefined)
  t.deepEqual(forwarded, ['Host', 'backend'])
})

test('a proxy forwards no referred field where there is no binding it could check', (t) => {
  t.deepEqual(forwardTokenBinding(referred, { ...proof, referred: undefined, other: [] }), provided)
  t.deepEqual(forwardTokenBinding([], { ...proof, referred: 'unsupported', other: [] }), provided)
})

function newProof() {
  const provided = parseTokenBindingId(tokenBindingId(makeEcKey()).toString('base64url'))
  if (!provided) throw new Error('not a Token Binding ID')
  return { provided }
}

const browser = newProof()
const another = newProof()
const { verifyIdToken } = createIdTokenVerifier({
  issuer,
  clientId: 'rp',
  jwks,
  now: () => start * 1000,
})

/** What the identity provider issues for a browser whose referred ID it has seen. */
function idTokenFor({ provided }: typeof browser, aud = 'rp'): string {
  const claims = { iss: issuer, sub: 'alice', aud, nonce: 'n', iat: start, exp: start + 60 }
  const header = { alg: issuerKey.alg, kid: 'k1' }
  return signJws(issuerKey, header, { ...claims, cnf: { tbh: provided.tbh } })
}

test('a login asks that the browser show its ID, and that the code be bound to it', (t) => {
  const login = beginTokenBoundLogin(browser)
  t.deepEqual(login.headers, { 'Include-Referred-Token-Binding-ID': 'true' })
  t.deepEqual(login.parameters, {
    code_challenge: 'referred_tb',
    code_challenge_method: 'referred_tb',
  })
  t.is(login.browserId, browser.provided.id)
})

test('the browser that began a login finishes it', async (t) => {
  const { browserId } = beginTokenBoundLogin(browser)
  const { codeVerifier, tokenBinding } = finishTokenBoundLogin(browserId, browser)
  t.is(codeVerifier, browser.provided.id)
  const hash = createHash('sha256').update(tokenBinding.providedId).digest('base64url')
  t.is(hash, browser.provided.tbh)
  const { methods } = await verifyIdToken(idTokenFor(browser), { nonce: 'n', tokenBinding })
  t.deepEqual(methods, ['token-binding'])
})

test('an ID token that is bound to another browser is refused', async (t) => {
  const { browserId } = beginTokenBoundLogin(browser)
  const { tokenBinding } = finishTokenBoundLogin(browserId, browser)
  const expected = { nonce: 'n', tokenBinding }
  await refused(t, 'token_binding_mismatch', () => verifyIdToken(idTokenFor(another), expected))
})

test('an ID token for another relying party is refused, in the same browser', async (t) => {
  const { tokenBinding } = finishTokenBoundLogin(browser.provided.id, browser)
  const expected = { nonce: 'n', tokenBinding }
  await refused(t, 'token_audience', () => verifyIdToken(idTokenFor(browser, 'other'), expected))
})

test('no login begins or ends without Token Binding', async (t) => {
  await refused(t, 'token_binding_missing', () => beginTokenBoundLogin(undefined))
  await refused(t, 'token_binding_missing', () =>
    finishTokenBoundLogin(browser.provided.id, undefined),
  )
})

test('another browser does not finish a login', async (t) => {
  await refused(t, 'token_binding_mismatch', () =>
    finishTokenBoundLogin(browser.provided.id, another),
  )
})

// Tokens in a query or form

const token = accessToken({ cnf: { tbh: browser.provided.tbh } })
const factOf = ({ provided }: typeof browser) => ({
  tokenBinding: { providedId: Buffer.from(provided.id, 'base64url') },
})
const places = {
  query: { method: 'GET', url: `/notes?access_token=${token}`, headers: [] },
  body: {
    method: 'POST',
    url: '/notes',
    headers: ['Content-Type', 'application/x-www-form-urlencoded'],
    body: `access_token=${token}`,
  },
}

for (const [place, request] of Object.entries(places)) {
  test(`a tbh-bound token in the ${place} needs the matching ID, where it is allowed`, async (t) => {
    const lax = verifierWith({ tokenLocations: ['header', 'body', 'query'] })
    const { location } = await lax.verify({ ...request, ...factOf(browser) })
    t.is(location as string, place)
    await refused(t, 'token_binding_mismatch', () => lax.verify({ ...request, ...factOf(another) }))
    await refused(t, 'token_binding_missing', () => lax.verify(request))
  })

  test(`a tbh-bound token in the ${place} is refused where it is not allowed`, async (t) => {
    await refused(t, 'credentials_location', () =>
      verifierWith().verify({ ...request, ...factOf(browser) }),
    )
  })
}

test("a token of one relying party by another's connection is refused", async (t) => {
  const request = bearerRequest(token)
  await t.notThrowsAsync(verifierWith().verify({ ...request, ...factOf(browser) }))
  await refused(t, 'token_binding_mismatch', () =>
    verifierWith().verify({ ...request, ...factOf(another) }),
  )
})

const mutatedConnection = { negotiated: 'ecdsap256', ekm } as const
const bindings = [
  binding(makeEcKey(), { extensions: Buffer.from('c80003616263', 'hex') }),
  binding(makeRsaKey(1), { type: 1 }),
  binding(makeRsaKey(0), { type: 9 }),
  binding(makeEcKey(), { type: 77 }),
]
const text = message(...bindings)
const bytes = Buffer.from(text, 'base64url')
const accepted = verifyTokenBinding(text, mutatedConnection)

/** The decision, or undefined for a refusal; anything but a TokenBindingError fails the test. */
function decideMutated(candidate: string): TokenBindingProof | undefined {
  try {
    return verifyTokenBinding(candidate, mutatedConnection)
  } catch (error) {
    if (error instanceof TokenBindingError) return undefined
    throw error
  }
}

/**
 * Nothing proven beyond what was proven before. A referred or an unknown binding may drop out where
 * the change made its key one of a kind that cannot be checked: nothing can be bound to it then.
 */
function sameOrLess(t: ExecutionContext, decision: TokenBindingProof): void {
  t.deepEqual(decision.provided, accepted.provided)
  if (decision.referred !== 'unsupported') t.deepEqual(decision.referred, accepted.referred)
  for (const { type, id } of decision.other) {
    t.true(accepted.other.some((known) => known.type === type && known.id === id))
  }
}

test('every truncation is refused', (t) => {
  for (let length = 0; length < bytes.length; length += 1) {
    t.is(decideMutated(bytes.subarray(0, length).toString('base64url')), undefined)
  }
  for (let length = 0; length < text.length; length += 1) {
    t.is(decideMutated(text.slice(0, length)), undefined)
  }
})

test('every bit flip is the same decision or a refusal', (t) => {
  for (let bit = 0; bit < bytes.length * 8; bit += 1) {
    const flipped = Buffer.from(bytes)
    flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
    const decision = decideMutated(flipped.toString('base64url'))
    if (decision !== undefined) sameOrLess(t, decision)
  }
  t.pass()
})

test('every order of the bindings is the same decision', (t) => {
  const order = fc.shuffledSubarray(bindings, { minLength: bindings.length })
  const property = fc.property(order, (shuffled) => {
    const decision = decideMutated(message(...shuffled))
    t.is(decision?.other.length, accepted.other.length)
    t.deepEqual(decision?.referred, accepted.referred)
    if (decision) sameOrLess(t, decision)
  })
  t.notThrows(() => fc.assert(property, { numRuns: 24 }))
})

test('no selection or repetition of bindings gives other IDs than those that were proven', (t) => {
  const selection = fc.array(fc.constantFrom(...bindings), { maxLength: 6 })
  const property = fc.property(selection, (chosen) => {
    const decision = decideMutated(message(...chosen))
    const count = (which: Buffer | undefined) => chosen.filter((item) => item === which).length
    const valid = count(bindings[0]) === 1 && count(bindings[1]) <= 1
    t.is(decision !== undefined, valid)
    if (decision) t.deepEqual(decision.provided, accepted.provided)
    if (decision?.referred) t.deepEqual(decision.referred, accepted.referred)
  })
  t.notThrows(() => fc.assert(property, { numRuns: 200 }))
})

test('several changes at once are the same decision or a refusal', (t) => {
  const change = fc.record({ at: fc.nat(bytes.length - 1), value: fc.nat(255) })
  const cut = fc.record({ at: fc.nat(bytes.length - 1), length: fc.integer({ min: 0, max: 8 }) })
  const property = fc.property(
    fc.array(change, { maxLength: 4 }),
    cut,
    (changes, { at, length }) => {
      const changed = Buffer.from(bytes)
      for (const { at: index, value } of changes) changed[index] = value
      const shorter = Buffer.concat([changed.subarray(0, at), changed.subarray(at + length)])
      const decision = decideMutated(shorter.toString('base64url'))
      if (decision !== undefined) sameOrLess(t, decision)
    },
  )
  t.notThrows(() => fc.assert(property, { numRuns: 2000 }))
})

test('no text, and no list of texts, is an exception', (t) => {
  const wild = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string({ unit: fc.constantFrom(...'AgBQ-_=+/ ,\n') }),
    fc.uint8Array({ maxLength: 400 }).map((array) => Buffer.from(array).toString('base64url')),
  )
  const property = fc.property(fc.array(wild, { maxLength: 3 }), (values) => {
    const names = ['Provided', 'Referred', 'Other']
    const rawHeaders = values.flatMap((value, index) => [
      `Sec-${names[index]}-Token-Binding-ID`,
      value,
    ])
    for (const run of [
      () => createTokenBindingVerifier(mutatedConnection)(values),
      () => readTokenBindingHeaders(rawHeaders, { trusted: true }),
      () => values.map(parseTokenBindingId),
    ]) {
      try {
        run()
      } catch (error) {
        if (!(error instanceof TokenBindingError)) throw error
      }
    }
  })
  t.notThrows(() => fc.assert(property, { numRuns: 3000 }))
})
