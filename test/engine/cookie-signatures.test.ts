import test from 'ava'
import { createCookieSignatures } from '../../src/engine/cookie-signatures.ts'

const signatures = createCookieSignatures(['the first key', 'the second key'])

test('signs as keygrip does, so that the cookies of the previous release stay valid', (t) => {
  // new Keygrip(['the first key', 'the second key']).sign('_session=abc?~')
  t.is(signatures.sign('_session=abc?~'), 'xJfk6CIxOIvvHG_A3kPH7IbFjRM')
  t.is(signatures.index('_session=abc?~', 'xJfk6CIxOIvvHG_A3kPH7IbFjRM'), 0)
})

test('accepts the signature of a key that is no longer used to sign', (t) => {
  t.is(signatures.index('_session=abc?~', 'GX6r2Ug-T8X2LwwxwTNy5RHI0_o'), 1)
  t.true(signatures.verify('_session=abc?~', 'GX6r2Ug-T8X2LwwxwTNy5RHI0_o'))
})

test('rejects the signature of another text, of another key, and a part of one', (t) => {
  t.is(signatures.index('_session=abd', 'xJfk6CIxOIvvHG_A3kPH7IbFjRM'), -1)
  t.is(signatures.index('_session=abc?~', 'xJfk6CIxOIvvHG_A3kPH7IbFjRM'.slice(0, -1)), -1)
  t.is(signatures.index('_session=abc?~', ''), -1)
  t.false(
    createCookieSignatures(['another']).verify('_session=abc?~', 'xJfk6CIxOIvvHG_A3kPH7IbFjRM'),
  )
})
