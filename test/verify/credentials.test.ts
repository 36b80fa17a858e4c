import test from 'ava'
import { type RequestBody, readCredential } from '../../packages/verify/credentials.ts'
import { refused } from '../support/verify/refused.ts'

const form = ['Content-Type', 'application/x-www-form-urlencoded']

function get(headers: Parameters<typeof readCredential>[0]['headers'], url = '/') {
  return readCredential({ method: 'GET', url, headers })
}

function post(body: RequestBody, headers: string[] = form, method = 'POST') {
  return readCredential({ method, url: '/', headers, body })
}

const bearer = { token: 'abc', scheme: 'Bearer', location: 'header' } as const

test('reads the Authorization header in any case and form', (t) => {
  t.deepEqual(get(['authorization', 'Bearer abc']), bearer)
  t.deepEqual(get(['AUTHORIZATION', 'bearer   abc']), bearer)
  t.deepEqual(get({ authorization: ['BEARER abc'] }), bearer)
  t.deepEqual(get(new Headers({ Authorization: 'Bearer abc' })), bearer)
  t.deepEqual(get(new Map([['Authorization', 'Bearer abc']])), bearer)
  t.deepEqual(get([['Authorization', 'Bearer abc']]), bearer)
  t.deepEqual(get(['Authorization', 'dpop abc']), { ...bearer, scheme: 'DPoP' })
})

test('reads a query and a form body', (t) => {
  t.deepEqual(get([], '/?a=1&access_token=abc#x'), { ...bearer, location: 'query' })
  t.deepEqual(get([], '/?acces%73_token=abc'), { ...bearer, location: 'query' })
  const inBody = { ...bearer, location: 'body' } as const
  t.deepEqual(post('access_token=abc'), inBody)
  t.deepEqual(post(new URLSearchParams({ access_token: 'abc' })), inBody)
  t.deepEqual(post({ access_token: 'abc' }), inBody)
  t.deepEqual(post('access_token=abc', ['content-type', `${form[1]}; charset=utf-8`]), inBody)
})

test('finds nothing in other schemes, bodies and methods', async (t) => {
  const missing = (attempt: () => unknown) => refused(t, 'credentials_missing', attempt)
  await missing(() => get([]))
  await missing(() => get(['Authorization', 'Basic YTpi']))
  await missing(() => get(['Authorization', 'Bearertoken']))
  await missing(() => post('access_token=abc', ['Content-Type', 'application/json']))
  await missing(() => post('access_token=abc', form, 'GET'))
  await missing(() => post({}))
  await missing(() => post(Object.create({ access_token: 'abc' })))
})

test('rejects two credentials, wherever they are', async (t) => {
  const multiple = (attempt: () => unknown) => refused(t, 'credentials_multiple', attempt)
  const header = ['Authorization', 'Bearer abc']
  await multiple(() => get([...header, ...header]))
  await multiple(() => get([...header, 'Authorization', 'DPoP abc']))
  await multiple(() => get([...header, 'Authorization', 'Basic YTpi']))
  await multiple(() => get(['Authorization', 'Bearer a, DPoP b']))
  await multiple(() => get(header, '/?access_token=abc'))
  await multiple(() => get([], '/?access_token=abc&access_token=abc'))
  await multiple(() => post('access_token=abc', [...form, ...header]))
  await multiple(() => post('access_token=abc&access_token=d'))
  await multiple(() => post({ access_token: ['a', 'b'] }))
  const both = { method: 'POST', url: '/?access_token=a', headers: form, body: 'access_token=a' }
  await multiple(() => readCredential(both))
})

test('rejects malformed credentials', async (t) => {
  const malformed = (attempt: () => unknown) => refused(t, 'credentials_malformed', attempt)
  await malformed(() => get(['Authorization', 'Bearer']))
  await malformed(() => get(['Authorization', 'Bearer ']))
  await malformed(() => get(['Authorization', 'DPoP']))
  await malformed(() => get(['Authorization', 'Bearer a b']))
  await malformed(() => post({ access_token: {} }))
  await malformed(() => get([], '/?access_token='))
})

test('refuses the headers in which Node has hidden what was repeated', (t) => {
  const headers = { authorization: 'Bearer abc' } as never
  t.throws(() => get(headers), { instanceOf: TypeError, message: /rawHeaders/ })
})
