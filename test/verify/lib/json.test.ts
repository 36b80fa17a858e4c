import test from 'ava'
import fc from 'fast-check'
import { maxJsonDepth, parseJson, parseJsonObject } from '../../../packages/verify/lib/json.ts'

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
