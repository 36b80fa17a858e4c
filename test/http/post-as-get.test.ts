import test from 'ava'
import { useTestServer } from '../support/server.ts'

const server = useTestServer(test)

const send = (path: string, body: string, type = 'application/x-www-form-urlencoded') =>
  fetch(`${server.issuer}${path}`, {
    method: 'POST',
    redirect: 'manual',
    headers: { 'content-type': type },
    body,
  })

test('an authorization request by POST is sent on as the same request by GET', async (t) => {
  const client = await server.addClient()
  const request = new URLSearchParams({
    client_id: client.client_id,
    response_type: 'code',
    redirect_uri: 'http://127.0.0.1/callback',
    scope: 'openid',
    state: 'a&b=c d',
    code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
    code_challenge_method: 'S256',
  })
  const { status, headers } = await send('/authorize', request.toString())
  t.is(status, 303)
  const location = headers.get('location') ?? ''
  t.deepEqual([...new URL(location, server.issuer).searchParams], [...request])
  const answer = await fetch(new URL(location, server.issuer), { redirect: 'manual' })
  t.regex(answer.headers.get('location') ?? '', /^\/interaction\//)
})

test('a logout by POST is sent on as well', async (t) => {
  const { status, headers } = await send('/session/end', 'state=x')
  t.is(status, 303)
  t.is(headers.get('location'), '/session/end?state=x')
})

test('a parameter that is sent twice is refused', async (t) => {
  t.is((await send('/authorize', 'client_id=a&client_id=b')).status, 400)
})

test('a body that is no form is refused', async (t) => {
  t.is((await send('/authorize', '{}', 'application/json')).status, 400)
})

test('a form that is too large is refused', async (t) => {
  t.is((await send('/authorize', `state=${'x'.repeat(20_000)}`)).status, 413)
})
