import test from 'ava'
import { parseJsonObject } from '../../../src/verify/lib/json.ts'

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

test('refuses bytes that are not UTF-8', (t) => {
  for (const bytes of [[0xff], [0xc3, 0x28], [0xed, 0xa0, 0x80], [0xc0, 0xaf]]) {
    t.is(parse([0x7b, 0x22, 0x61, 0x22, 0x3a, 0x22, ...bytes, 0x22, 0x7d]), undefined)
  }
})
