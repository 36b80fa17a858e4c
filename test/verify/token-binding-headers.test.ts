import test from 'ava'
import { TokenBindingError, verifyTokenBinding } from '../../packages/verify/token-binding.ts'
import {
  type ForwardedTokenBindingOptions,
  forwardTokenBinding,
  readTokenBindingHeaders,
} from '../../packages/verify/token-binding-headers.ts'
import {
  binding,
  ekm,
  makeEcKey,
  message,
  tokenBindingId,
} from '../support/token-binding-messages.ts'

const [mine, theirs, third] = [makeEcKey(), makeEcKey(), makeEcKey()]
const id = (key = mine) => tokenBindingId(key).toString('base64url')

const provided = ['Sec-Provided-Token-Binding-ID', id(mine)]
const referred = ['Sec-Referred-Token-Binding-ID', id(theirs)]
const others = ['Sec-Other-Token-Binding-ID', `4d.${id(third)}, B.${id(theirs)}`]
const valid = ['Host', 'backend', ...provided, ...referred, ...others]

const read = (rawHeaders: string[], options: Partial<ForwardedTokenBindingOptions> = {}) =>
  readTokenBindingHeaders(rawHeaders, { trusted: true, ...options })

function codeOf(run: () => unknown): string {
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
      codeOf(() => read(fields, { trusted: false })),
      'untrusted_peer',
    )
  }
})

test('can be told to ignore them from anyone else', (t) => {
  t.is(read(valid, { trusted: false, untrusted: 'ignore' }), undefined)
})

test('refuses a second provided or referred field, and a list in one', (t) => {
  t.is(
    codeOf(() => read([...valid, ...provided])),
    'repeated_header',
  )
  t.is(
    codeOf(() => read([...valid, ...referred])),
    'repeated_header',
  )
  const list = ['sec-provided-token-binding-id', `${id()}, ${id()}`]
  t.is(
    codeOf(() => read(list)),
    'malformed_header',
  )
})

test('refuses a referred or other ID without a provided one', (t) => {
  t.is(
    codeOf(() => read(referred)),
    'malformed_header',
  )
  t.is(
    codeOf(() => read(others)),
    'malformed_header',
  )
})

test('refuses a provided ID that is none', (t) => {
  for (const text of ['', 'unknown', `${id()}=`, id().slice(0, -4)]) {
    t.is(
      codeOf(() => read(['Sec-Provided-Token-Binding-ID', text])),
      'malformed_header',
    )
  }
})

test('refuses a referred ID that is none', (t) => {
  const fields = [...provided, 'Sec-Referred-Token-Binding-ID', 'AgBB']
  t.is(
    codeOf(() => read(fields)),
    'malformed_header',
  )
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
      codeOf(() => read(fields)),
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
