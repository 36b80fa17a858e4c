import test from 'ava'
import { spellingProblem } from '../../src/net/normal-uri.ts'

for (const uri of [
  'https://shop.example:8443/cb?a=b',
  'https://app.example',
  'https://app.example/',
  'https://xn--bcher-kva.example/cb',
  'http://127.0.0.1/callback',
  'http://[::1]:3000/callback',
  'com.app:/cb',
  'com.app://callback',
]) {
  test(`accepts ${uri}`, (t) => t.is(spellingProblem(uri), undefined))
}

const refused: [string, string, string][] = [
  ['capitals in the host', 'https://SHOP.example:8443/cb', 'https://shop.example:8443/cb'],
  ['capitals in the scheme', 'HTTPS://shop.example/cb', 'https://shop.example/cb'],
  ['capitals in a private scheme', 'COM.app:/cb', 'com.app:/cb'],
  ['the default port', 'https://shop.example:443/cb', 'https://shop.example/cb'],
  ['dot segments', 'https://shop.example/a/../cb', 'https://shop.example/cb'],
  ['encoded dot segments', 'https://shop.example/a/%2e%2e/cb', 'https://shop.example/cb'],
  ['a backslash', 'https://shop.example\\@evil.example', 'https://shop.example/@evil.example'],
  ['one slash', 'https:/shop.example/cb', 'https://shop.example/cb'],
  ['a decimal address', 'http://2130706433/cb', 'http://127.0.0.1/cb'],
  ['an empty port', 'https://shop.example:', 'https://shop.example/'],
  ['a query after the host', 'https://shop.example?a', 'https://shop.example/?a'],
]

for (const [what, uri, expected] of refused) {
  test(`rejects ${what}`, (t) =>
    t.is(spellingProblem(uri), `must be written ${expected} (got ${uri})`))
}

for (const [what, uri] of [
  ['a space before', ' https://shop.example/cb'],
  ['a line break within', 'https://shop.exa\nmple/cb'],
  ['letters beyond ASCII', 'https://shop.ex\u00e4mple/cb'],
  ['fullwidth letters', 'https://\uff53hop.example/cb'],
] as const) {
  test(`rejects ${what}, and does not repeat it`, (t) => {
    t.regex(spellingProblem(uri) ?? '', /^must be written https:[\x21-\x7e]+$/)
  })
}

test('rejects half a surrogate pair', (t) =>
  t.is(
    spellingProblem('https://shop.example/\ud800'),
    'must be written https://shop.example/%EF%BF%BD',
  ))
test('rejects what is no absolute URI', (t) =>
  t.is(spellingProblem('/callback'), 'must be absolute URIs'))
test('rejects a URI that is too long', (t) =>
  t.regex(spellingProblem(`https://shop.example/${'a'.repeat(2048)}`) ?? '', /must not be longer/))
