import test from 'ava'
import { normalizeHttpUri, sameHttpUri } from '../../../packages/verify/lib/uri.ts'

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
