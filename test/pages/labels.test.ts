import test from 'ava'
import { bindingWords } from '../../src/pages/binding-labels.ts'
import { redirectWords } from '../../src/pages/redirect-labels.ts'

for (const method of ['dpop', 'mtls', 'token-binding']) {
  test(`${method} is called locked to a key`, (t) => {
    t.true(bindingWords(method).bound)
  })
}

for (const method of ['bearer', undefined, '', 'DPoP', 'constructor', ['dpop']]) {
  test(`${JSON.stringify(method) ?? 'no method'} is warned of`, (t) => {
    t.false(bindingWords(method).bound)
    t.regex(bindingWords(method).label, /Warning/)
  })
}

for (const [uri, words] of [
  ['https://rp.example/callback', 'rp.example'],
  ['https://rp.example:8443/callback', 'rp.example:8443'],
  ['https://accounts.google.com@evil.example/', 'evil.example'],
  ['https://xn--pple-43d.example/', 'xn--pple-43d.example'],
  ['https://раypal.example/', 'xn--ypal-43d9g.example'],
  ['http://127.0.0.1:8080/cb', 'an app on this device (127.0.0.1:8080)'],
  ['http://[::1]:8080/cb', 'an app on this device ([::1]:8080)'],
  ['com.example.app:/cb', 'an app on this device (com.example.app:)'],
] as const) {
  test(`${uri} is called ${words}`, (t) => {
    t.is(redirectWords(uri), words)
  })
}
