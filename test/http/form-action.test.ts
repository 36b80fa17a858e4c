import test from 'ava'
import { formAction } from '../../src/http/form-action.ts'

for (const [destination, expected] of [
  [undefined, "'self'"],
  ['https://rp.example/callback?x=1', "'self' https:"],
  ['http://127.0.0.1:8080/callback', "'self' https: http://127.0.0.1:8080"],
  ['http://[::1]:8080/callback', "'self' https: http:"],
  ['com.example.app:/callback', "'self' https: com.example.app:"],
] as const) {
  test(`a form that ends at ${destination ?? 'this site'} may go to ${expected}`, (t) => {
    t.is(formAction(destination), expected)
  })
}

test('a destination cannot add a directive', (t) => {
  t.is(formAction('https://rp.example/;script-src *'), "'self' https:")
  t.throws(() => formAction('not a uri; script-src *'))
})
