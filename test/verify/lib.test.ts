import test from 'ava'
import fc from 'fast-check'
import {
  checkAlgorithms,
  checkUrl,
  duration,
  positive,
  textList,
} from '../../packages/verify/lib/check.ts'
import { fetchJson } from '../../packages/verify/lib/fetch-json.ts'
import { maxJsonDepth, parseJson, parseJsonObject } from '../../packages/verify/lib/json.ts'
import { importPublicJwk } from '../../packages/verify/lib/jwk.ts'
import { splitCompactJws } from '../../packages/verify/lib/jws.ts'
import { RecentMap } from '../../packages/verify/lib/recent-map.ts'
import { isSafeExponent } from '../../packages/verify/lib/rsa-exponent.ts'
import { makeTicket, readTicket } from '../../packages/verify/lib/ticket.ts'
import { normalizeHttpUri, sameHttpUri } from '../../packages/verify/lib/uri.ts'
import { checkRequirements } from '../../packages/verify/requirements.ts'
import { makeKey } from '../support/verify/keys.ts'

const parse = (text: string | number[]) => parseJsonObject(Buffer.from(text as string))

for (const text of [
  '{}',
  '{"a":1,"b":{"a":[{"a":"b"},{"a":null}]}}',
  ' { "a" : "x:y" , "b" : [ "c" , "d" ] }\n',
  '{"a":"\\"b\\":","c":"\\\\"}',
  '{"ä":"ö","😀":"\\u00e4"}',
  '{"a":"\uFFFD"}',
  '{"__proto__":{"a":1}}',
]) {
  test(`reads ${text}`, (t) => {
    t.deepEqual(parse(text), JSON.parse(text))
  })
}

for (const text of [
  '',
  'null',
  '[]',
  '"a"',
  '{',
  '{"a":1}x',
  '\uFEFF{}',
  '{"a":1,"a":2}',
  '{"a":1, "a" :1}',
  '{"a":"x","b":2,"a":"x"}',
  '{"b":{"a":1,"a":2}}',
  '{"b":[{"a":1,"a":2}]}',
  '{"a":1,"\\u0061":2}',
  '{"a":1,"a":"\\n"}',
  '{"ä":1,"ä":2}',
  '{"__proto__":1,"__proto__":2}',
]) {
  test(`refuses ${JSON.stringify(text)}`, (t) => {
    t.is(parse(text), undefined)
  })
}

const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth)

test('reads arrays and objects up to the depth limit, and refuses deeper ones', (t) => {
  for (const [open, close] of [
    ['[', ']'],
    ['{"a":', '}'],
  ] as const) {
    const text = (depth: number) => `${open.repeat(depth)}1${close.repeat(depth)}`
    t.not(parseJson(Buffer.from(text(maxJsonDepth))), undefined)
    t.is(parseJson(Buffer.from(text(maxJsonDepth + 1))), undefined)
  }
})

test('refuses nesting that would overflow the stack', (t) => {
  t.is(parse(`{"a":${nested(400_000)}}`), undefined)
  t.is(parse('{"a":'.repeat(100_000)), undefined)
})

test('counts the depth of what is open, not of what was closed', (t) => {
  const text = `[${Array(1000).fill('[{"a":"]}"}]').join()}]`
  t.deepEqual(parseJson(Buffer.from(text)), JSON.parse(text))
})

test('refuses more bytes than allowed', (t) => {
  t.deepEqual(parseJsonObject(Buffer.from('{"a":1}'), 7), { a: 1 })
  t.is(parseJsonObject(Buffer.from('{"a":12}'), 7), undefined)
})

test('agrees with JSON.parse on any text without a repeated member', (t) => {
  const texts = fc.oneof(
    fc.json({ maxDepth: 6 }),
    fc.string({ unit: fc.constantFrom(...'{}[]:,"\\u0a1 '), maxLength: 20 }),
  )
  fc.assert(
    fc.property(texts, (text) => {
      let expected: unknown
      try {
        expected = JSON.parse(text)
      } catch {}
      const actual = parseJson(Buffer.from(text))
      if (actual === undefined && expected !== undefined) t.true(hasRepeatedMember(text), text)
      else t.deepEqual(actual, expected)
    }),
    { numRuns: 3000 },
  )
})

/** Whether a value has lost members on the way: written again, it has fewer names than its text. */
function hasRepeatedMember(text: string): boolean {
  const countNames = (json: string) =>
    [...json.matchAll(/"(?:[^"\\]|\\.)*"\s*(:)?/g)].filter(([, colon]) => colon).length
  return countNames(text) > countNames(JSON.stringify(JSON.parse(text)))
}

test('refuses bytes that are not UTF-8', (t) => {
  for (const bytes of [[0xff], [0xc3, 0x28], [0xed, 0xa0, 0x80], [0xc0, 0xaf]]) {
    t.is(parse([0x7b, 0x22, 0x61, 0x22, 0x3a, 0x22, ...bytes, 0x22, 0x7d]), undefined)
  }
})

test('keeps as many entries as promised, and forgets the rest', (t) => {
  const map = new RecentMap<number>(3)
  for (let i = 0; i < 10; i++) map.set(`${i}`, i)
  for (const i of [7, 8, 9]) t.is(map.get(`${i}`), i)
  t.is(map.get('0'), undefined)
})

test('keeps what is used', (t) => {
  const map = new RecentMap<number>(3)
  map.set('used', 1)
  for (let i = 0; i < 100; i++) {
    map.set(`${i}`, i)
    t.is(map.get('used'), 1)
  }
})

test('keeps no more bytes than allowed, and no value that is larger alone', (t) => {
  const map = new RecentMap<string>(1000, 100, (_key, value) => value.length)
  for (let i = 0; i < 50; i++) map.set(`${i}`, 'x'.repeat(30))
  const kept = Array.from({ length: 50 }, (_, i) => map.get(`${i}`) !== undefined).filter(Boolean)
  t.true(kept.length >= 3 && kept.length <= 6, `${kept.length}`)
  map.set('large', 'x'.repeat(101))
  t.is(map.get('large'), undefined)
  t.is(map.get('49'), 'x'.repeat(30))
})

test('counts the bytes of what was replaced or deleted no longer', (t) => {
  const map = new RecentMap<string>(1000, 100, (_key, value) => value.length)
  map.set('kept', 'x'.repeat(30))
  for (let i = 0; i < 50; i++) {
    map.set('replaced', 'x'.repeat(60))
    map.set('deleted', 'x')
    map.delete('deleted')
  }
  t.is(map.get('kept'), 'x'.repeat(30))
})

test('replaces an entry without making room for it', (t) => {
  const map = new RecentMap<number>(2)
  map.set('a', 1)
  map.set('b', 1)
  for (let i = 0; i < 9; i++) map.set('a', i)
  t.is(map.get('a'), 8)
  t.is(map.get('b'), 1)
})

for (const [text, normal] of [
  ['https://api.example', 'https://api.example/'],
  ['HTTPS://API.EXAMPLE:443/', 'https://api.example/'],
  ['http://api.example:80/a', 'http://api.example/a'],
  ['https://api.example:8443/a', 'https://api.example:8443/a'],
  ['https://api.example/a/./b/../c', 'https://api.example/a/c'],
  ['https://api.example/%41%7e%2F%2f%c3%a4', 'https://api.example/A~%2F%2F%C3%A4'],
  ['https://api.example/A?b=c#d', 'https://api.example/A'],
  ['https://[::1]:8443/', 'https://[::1]:8443/'],
]) {
  test(`normalises ${text}`, (t) => {
    t.is(normalizeHttpUri(text as string), normal)
  })
}

for (const text of [
  '',
  '/notes',
  'ftp://api.example/',
  'https:/api.example/',
  'https:///api.example/',
  'https://user@api.example/',
  'https://user:secret@api.example/',
  'https://api.example\\@evil.example/',
  'https://api.example/a\\b',
  'https://api.example/a b',
  'https://api.example/\ta',
  'https://api.example/ä',
  'https://api.example/%zz',
  'https://api.example:x/',
  'https://api.example:99999/',
  'https://%61pi.example/',
]) {
  test(`does not take ${JSON.stringify(text)} for an HTTP URI`, (t) => {
    t.is(normalizeHttpUri(text), undefined)
    t.false(sameHttpUri(text, 'https://api.example/'))
  })
}

test('leaves the case of a path alone', (t) => {
  t.false(sameHttpUri('https://api.example/A', 'https://api.example/a'))
})

test('accepts equal texts as one URI, and rejects two that are no URI', (t) => {
  t.true(sameHttpUri('/notes', '/notes'))
  t.false(sameHttpUri('/notes', '/other'))
})

test('splits a JWS of three parts and nothing else', (t) => {
  t.like(splitCompactJws('a.b.c'), { header: 'a', payload: 'b', signature: 'c' })
  for (const text of ['', 'a', 'a.b', '.b.c', 'a..c', 'a.b.', 'a.b.c.d', 'a.b.c.']) {
    t.is(splitCompactJws(text), undefined, text)
  }
})

/** The same bytes in another spelling: a bit of the last character that means nothing. */
function otherSpelling(text: unknown): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  const at = alphabet.indexOf(String(text).at(-1) ?? '')
  return `${String(text).slice(0, -1)}${alphabet[at ^ 1]}`
}

test('imports each public key in one spelling', (t) => {
  const { publicJwk: ec } = makeKey()
  const { publicJwk: okp } = makeKey('EdDSA')
  const { publicJwk: rsa } = makeKey('RS256')
  for (const jwk of [ec, okp, rsa]) t.truthy(importPublicJwk(jwk))
  const modulus = Buffer.from(String(rsa.n), 'base64url')
  const short = Buffer.from(modulus)
  short[0] = 0x7f
  const refused: Readonly<Record<string, Record<string, unknown>>> = {
    'x spelled otherwise': { ...ec, x: otherSpelling(ec.x) },
    'y spelled otherwise': { ...ec, y: otherSpelling(ec.y) },
    'x that is a number': { ...ec, x: 1 },
    'an unknown curve': { ...ec, crv: 'secp256k1' },
    'x of Ed25519 spelled otherwise': { ...okp, x: otherSpelling(okp.x) },
    'x of Ed25519 that is a number': { ...okp, x: 1 },
    'a modulus of 2047 bits': { ...rsa, n: short.toString('base64url') },
    'a modulus with a leading zero': { ...rsa, n: leadingZero(modulus) },
    'an exponent with a leading zero': { ...rsa, e: 'AAEAAQ' },
    'no exponent': { ...rsa, e: '' },
    'an exponent that is a number': { ...rsa, e: 65537 },
    'another type': { ...rsa, kty: 'oct' },
  }
  for (const [what, jwk] of Object.entries(refused)) t.is(importPublicJwk(jwk), undefined, what)
})

const leadingZero = (bytes: Buffer) => Buffer.concat([Buffer.alloc(1), bytes]).toString('base64url')

test('rejects an RSA exponent that is small, even, or written with leading zeros', (t) => {
  for (const exponent of [
    [1, 0, 1],
    [1, 0, 0, 1],
  ])
    t.true(isSafeExponent(Buffer.from(exponent)))
  for (const exponent of [[], [3], [255, 255], [0, 0, 3], [0, 1, 0, 1], [1, 0, 0]]) {
    t.false(isSafeExponent(Buffer.from(exponent)), exponent.join())
  }
})

test('rejects options that mean nothing, and says why', (t) => {
  t.deepEqual(checkAlgorithms('name', ['ES256']), ['ES256'])
  t.deepEqual(textList('name', 'a'), ['a'])
  t.is(positive('name', undefined, 5), 5)
  t.is(duration('name', 0, 5), 0)
  t.notThrows(() => checkUrl('name', 'https://a.example'))
  t.deepEqual(checkRequirements({ scopes: [] }), { scopes: [] })
  const refused: readonly [() => unknown, RegExp][] = [
    [() => checkAlgorithms('name', 'ES256' as never), /must be an array/],
    [() => checkAlgorithms('name', ['none']), /not supported/],
    [() => checkAlgorithms('name', []), /must not be empty/],
    [() => checkUrl('name', 'a.example'), /must be an https URL/],
    [() => checkUrl('name', 'http://a.example'), /must be an https URL/],
    [() => textList('name', []), /non-empty/],
    [() => textList('name', ['']), /non-empty/],
    [() => positive('name', 0, 5), /greater than zero/],
    [() => duration('name', -1, 5), /not negative/],
    [() => duration('name', '5' as never, 5), /not negative/],
    [() => checkRequirements({ scopes: 'read' as never }), /must be an array of strings/],
    [() => checkRequirements({ acrValues: ['a b'] }), /without spaces/],
  ]
  for (const [call, message] of refused) t.throws(call, { instanceOf: TypeError, message })
})

test('fetches JSON that comes whole, and nothing else', async (t) => {
  const get = (body: string, status = 200) =>
    fetchJson(async () => new Response(body, { status }), 'https://a.example')
  t.deepEqual(await get('{"a":1}'), { a: 1 })
  t.deepEqual(await get(`"${'x'.repeat(1_048_574)}"`), 'x'.repeat(1_048_574))
  await t.throwsAsync(get('{}', 203), { message: 'status 203' })
  await t.throwsAsync(get('{'), { message: /not JSON/ })
  await t.throwsAsync(get(`"${'x'.repeat(1_048_575)}"`), { message: /larger/ })
})

test('reads a ticket that this key has made for this purpose', (t) => {
  const [key, other] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)]
  const ticket = makeTicket(key, ['refresh', 'session'], 1000)
  t.is(readTicket(key, ['refresh', 'session'], ticket), 1000)
  t.is(readTicket(other, ['refresh', 'session'], ticket), undefined)
  t.is(readTicket(key, ['refresh', 'another'], ticket), undefined)
  t.is(readTicket(key, ['refresh', 'session'], `2${ticket.slice(1)}`), undefined)
  t.is(readTicket(key, ['refresh', 'session'], ''), undefined)
})
