import test from 'ava'
import { isOwn, onlyValue } from '../../packages/gate/browser/requests.ts'

test('takes a field that is there twice for none', (t) => {
  const once = ['Sec-Fetch-Site', 'same-origin']
  t.is(onlyValue(once, 'sec-fetch-site'), 'same-origin')
  t.is(onlyValue([...once, 'sec-fetch-site', 'cross-site'], 'sec-fetch-site'), undefined)
  t.true(isOwn(once, 'https://app.example'))
  t.is(isOwn([...once, 'sec-fetch-site', 'cross-site'], 'https://app.example'), undefined)
  t.false(isOwn(['Sec-Fetch-Site', 'same-site'], 'https://app.example'))
})
