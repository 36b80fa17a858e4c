import test, { type ExecutionContext } from 'ava'
import { makeProof } from '../src/doctor/proof.ts'
import { basic, createPerson, newKey, obtainCode, post } from './support/flow.ts'
import { type Answer, type RawRequest, sendBytes, sendRequest } from './support/raw-request.ts'
import { api, useTestServer } from './support/server.ts'

const server = useTestServer(test)

const form = 'application/x-www-form-urlencoded'
const callback = 'http://127.0.0.1/callback'

let publicId = ''
let authorization = ''
test.serial.before(async () => {
  publicId = (await server.addClient()).client_id
  const client = await server.addClient({
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    token_endpoint_auth_method: 'client_secret_basic',
  })
  authorization = basic(client).authorization ?? ''
})

test.after('none of it was a mistake of ours', (t) => {
  const failures = server.logged.filter((line) => /"event":"(server_error|error)"/.test(line))
  t.deepEqual(failures, [])
})

const send = (bytes: string | Buffer, options = {}) => sendBytes(server.issuer, bytes, options)
const request = (raw: RawRequest) => sendRequest(server.issuer, raw)

/** The mistake is the client's, and nothing is told of how the server is made. */
function isRefused(t: ExecutionContext, answer: Answer, status: number, error?: string) {
  t.is(answer.status, status, answer.text)
  t.notRegex(answer.text, /\n\s+at |node_modules|\.ts:\d|\.js:\d/)
  if (error !== undefined) {
    t.is(answer.json?.error, error, answer.text)
    t.regex(answer.headers.get('content-type') ?? '', /^application\/json/)
  }
}

/** A server that does not read on may hang up before its answer has arrived. */
function isTooMuch(t: ExecutionContext, answer: Answer) {
  if (!Number.isNaN(answer.status)) isRefused(t, answer, 400, 'invalid_request')
  t.pass()
}

function isErrorPage(t: ExecutionContext, answer: Answer, status: number, code: string) {
  isRefused(t, answer, status)
  t.regex(answer.headers.get('content-type') ?? '', /^text\/html/)
  t.regex(answer.text, new RegExp(`<code>${code}</code>`))
}

const asPage = ['Accept: text/html']
const tokenForm = (more = '') => `grant_type=client_credentials${more}`
const endpoints = ['/token', '/par', '/introspect', '/revoke']

for (const target of endpoints) {
  const withAuthorization = () => [`Authorization: ${authorization}`]

  for (const type of ['application/json', 'multipart/form-data; boundary=x', 'text/plain', '']) {
    test(`POST ${target} of type "${type}" is invalid`, async (t) => {
      const body = type === 'application/json' ? '{"grant_type":"client_credentials"}' : tokenForm()
      const headers = withAuthorization()
      isRefused(
        t,
        await request({ method: 'POST', target, type, body, headers }),
        400,
        'invalid_request',
      )
    })
  }

  test(`POST ${target} without a body is invalid`, async (t) => {
    const answer = await request({ method: 'POST', target, headers: withAuthorization() })
    isRefused(t, answer, 400, 'invalid_request')
  })

  test(`POST ${target} with a body that ends too soon is no failure`, async (t) => {
    const { host } = new URL(server.issuer)
    const answer = await send(
      `POST ${target} HTTP/1.1\r\nHost: ${host}\r\nContent-Type: ${form}\r\nContent-Length: 1000\r\n\r\ngrant_type=`,
      { cutOff: true },
    )
    t.true(Number.isNaN(answer.status) || answer.status === 400, answer.text)
  })

  test(`POST ${target} of 1 MB is too much`, async (t) => {
    const body = tokenForm(`&x=${'x'.repeat(1_000_000)}`)
    const answer = await request({ method: 'POST', target, body, headers: withAuthorization() })
    isTooMuch(t, answer)
  })

  test(`POST ${target} with a repeated client_id is invalid`, async (t) => {
    const body = `client_id=${publicId}&client_id=${publicId}&token=x&grant_type=refresh_token`
    isRefused(t, await request({ method: 'POST', target, body }), 400, 'invalid_request')
  })

  for (const [what, value] of [
    ['U+0000', '%00'],
    ['invalid UTF-8', '%ff%fe'],
    ['a cut escape', '%'],
    ['raw bytes', Buffer.from([0xff, 0x00, 0xfe]).toString('latin1')],
  ] as const) {
    test(`POST ${target} with ${what} in client_id knows no such client`, async (t) => {
      const body = Buffer.from(`client_id=${value}&token=x&grant_type=refresh_token`, 'latin1')
      const answer = await request({ method: 'POST', target, body })
      isRefused(t, answer, 401, 'invalid_client')
    })

    test(`POST ${target} with ${what} in every parameter is refused`, async (t) => {
      const names = ['token', 'code', 'refresh_token', 'redirect_uri', 'resource', 'scope', 'x']
      const body = Buffer.from(
        `client_id=${publicId}&grant_type=refresh_token&${names.map((name) => `${name}=${value}`).join('&')}`,
        'latin1',
      )
      const answer = await request({ method: 'POST', target, body })
      t.true(answer.status === 200 || answer.status === 400, `${answer.status} ${answer.text}`)
      isRefused(t, answer, answer.status)
    })
  }

  test(`POST ${target} with two Authorization headers is invalid`, async (t) => {
    const headers = [...withAuthorization(), ...withAuthorization()]
    const answer = await request({ method: 'POST', target, body: tokenForm('&token=x'), headers })
    isRefused(t, answer, 400, 'invalid_request')
  })

  test(`POST ${target} with another client_id than that of the header is invalid`, async (t) => {
    const body = tokenForm(`&token=x&client_id=${publicId}`)
    const headers = withAuthorization()
    const answer = await request({ method: 'POST', target, body, headers })
    isRefused(t, answer, 400, 'invalid_request')
  })

  for (const value of ['Basic', 'Basic !!!', 'Basic YQ==', 'Basic JTpi', 'Bearer x', 'Digest x']) {
    test(`POST ${target} with "Authorization: ${value}" is refused`, async (t) => {
      const headers = [`Authorization: ${value}`]
      const answer = await request({ method: 'POST', target, body: tokenForm('&token=x'), headers })
      t.true([400, 401].includes(answer.status), answer.text)
      t.regex(answer.json?.error, /^invalid_(request|client)$/)
    })
  }

  test(`GET ${target} is not allowed`, async (t) => {
    const answer = await request({ target: `${target}?${tokenForm()}`, headers: asPage })
    isRefused(t, answer, 405, 'invalid_request')
    t.is(answer.headers.get('allow'), 'POST, OPTIONS')
  })
}

test('a token request names one grant', async (t) => {
  const headers = [`Authorization: ${authorization}`]
  const ask = (body: string) => request({ method: 'POST', target: '/token', body, headers })
  isRefused(t, await ask('scope=read'), 400, 'invalid_request')
  isRefused(t, await ask(`${tokenForm()}&${tokenForm()}`), 400, 'invalid_request')
  isRefused(t, await ask('grant_type=password'), 400, 'unsupported_grant_type')
  isRefused(t, await ask('grant_type=%00'), 400, 'unsupported_grant_type')
  isRefused(t, await ask('grant_type=__proto__'), 400, 'unsupported_grant_type')
  isRefused(t, await ask('grant_type=refresh_token&refresh_token=x'), 400)
})

for (const [grant, name] of [
  ['authorization_code', 'code'],
  ['authorization_code', 'redirect_uri'],
  ['authorization_code', 'code_verifier'],
  ['refresh_token', 'refresh_token'],
  ['refresh_token', 'scope'],
] as const) {
  test(`a token request does not repeat ${name}`, async (t) => {
    const body = `grant_type=${grant}&client_id=${publicId}&${name}=a&${name}=b`
    const answer = await request({ method: 'POST', target: '/token', body })
    isRefused(t, answer, 400, 'invalid_request')
  })
}

test('a token request has one proof', async (t) => {
  const url = `${server.issuer}/token`
  const key = await newKey()
  const ask = async (...proofs: string[]) =>
    request({
      method: 'POST',
      target: '/token',
      body: tokenForm(`&resource=${encodeURIComponent(api)}&scope=read`),
      headers: [`Authorization: ${authorization}`, ...proofs.map((proof) => `DPoP: ${proof}`)],
    })
  const proof = () => makeProof(key, { method: 'POST', url })
  isRefused(t, await ask(await proof(), await proof()), 400, 'invalid_dpop_proof')
  isRefused(t, await ask(`${await proof()}, ${await proof()}`), 400, 'invalid_dpop_proof')
  isRefused(t, await ask(''), 400)
  for (const wrong of ['x', 'a.b.c', '..', 'x'.repeat(8000), '{}', '\xff\xfe']) {
    isRefused(t, await ask(wrong), 400, 'invalid_dpop_proof')
  }
  t.is((await ask(await proof())).status, 200)
})

test('a nonce with U+0000 comes back in the ID token', async (t) => {
  const client = await server.addClient()
  const nonce = 'a\0b'
  const { exchange } = await obtainCode(createPerson(server), client, {
    nonce,
    scope: 'openid offline_access',
    prompt: 'consent',
    claims: '{"id_token":{"name":{"value":"\\ud800"}}}',
  })
  const answer = await post(server, '/token', exchange, { key: await newKey() })
  t.is(answer.status, 200, JSON.stringify(answer.body))
  const [, claims = ''] = answer.body.id_token.split('.')
  t.is(JSON.parse(Buffer.from(claims, 'base64url').toString()).nonce, nonce)
})

const authorize = (changes: Record<string, string> = {}, more = '') =>
  `/authorize?${new URLSearchParams({
    client_id: publicId,
    response_type: 'code',
    redirect_uri: callback,
    scope: 'openid',
    code_challenge: 'x'.repeat(43),
    code_challenge_method: 'S256',
    ...changes,
  })}${more}`

/** The error that the client is told by the redirect. */
function redirected(t: ExecutionContext, answer: Answer, error: string) {
  t.is(answer.status, 303, answer.text)
  const location = new URL(answer.headers.get('location') ?? '')
  t.is(location.origin + location.pathname, callback)
  // The answer to another response_type than code is in the fragment.
  const answered = location.hash
    ? new URLSearchParams(location.hash.slice(1))
    : location.searchParams
  t.is(answered.get('error'), error)
  t.is(answered.get('iss'), server.issuer)
}

test('an authorization request that fits goes to its interaction', async (t) => {
  const answer = await request({ target: authorize() })
  t.is(answer.status, 303)
  t.regex(answer.headers.get('location') ?? '', /^(http:\/\/localhost:\d+)?\/interaction\//)
})

for (const [what, changes] of [
  ['an unknown client', { client_id: 'nobody' }],
  ['U+0000 for a client', { client_id: '\0' }],
  ['an empty client_id', { client_id: '' }],
] as const) {
  test(`an authorization request of ${what} ends in a page`, async (t) => {
    const answer = await request({ target: authorize(changes), headers: asPage })
    isErrorPage(t, answer, 400, 'invalid_(client|request)')
  })
}

for (const uri of ['http://127.0.0.1/other', 'https://evil.example/cb', '\0', 'x', '//a', '']) {
  test(`an authorization request to ${JSON.stringify(uri)} ends in a page`, async (t) => {
    const answer = await request({ target: authorize({ redirect_uri: uri }), headers: asPage })
    isErrorPage(t, answer, 400, 'invalid_(redirect_uri|request)')
    t.is(answer.headers.get('location'), null)
  })
}

for (const name of ['client_id', 'redirect_uri']) {
  test(`an authorization request that repeats ${name} ends in a page`, async (t) => {
    const target = authorize(
      {},
      `&${name}=${encodeURIComponent(name === 'client_id' ? publicId : callback)}`,
    )
    isErrorPage(t, await request({ target, headers: asPage }), 400, 'invalid_request')
  })
}

for (const [what, changes, error] of [
  ['no response_type', { response_type: '' }, 'invalid_request'],
  ['the implicit flow', { response_type: 'token' }, 'unsupported_response_type'],
  ['a hybrid flow with tokens', { response_type: 'code token' }, 'unsupported_response_type'],
  [
    'a hybrid flow that it has not registered',
    { response_type: 'code id_token' },
    'invalid_request',
  ],
  ['an unknown response_mode', { response_mode: 'x' }, 'unsupported_response_mode'],
  ['no PKCE', { code_challenge: '', code_challenge_method: '' }, 'invalid_request'],
  ['plain PKCE', { code_challenge_method: 'plain' }, 'invalid_request'],
  ['a challenge of another length', { code_challenge: 'x' }, 'invalid_request'],
  ['U+0000 for a challenge', { code_challenge: '\0'.repeat(43) }, 'invalid_request'],
  ['an unknown resource', { resource: 'https://unknown.example' }, 'invalid_target'],
  ['a resource with U+0000', { resource: 'https://a.example/\0' }, 'invalid_target'],
  ['a resource that is no URI', { resource: 'orders' }, 'invalid_target'],
  ['an unknown prompt', { prompt: 'dance' }, 'invalid_request'],
  ['contradictory prompts', { prompt: 'none login' }, 'invalid_request'],
  ['a max_age that is no number', { max_age: 'x' }, 'invalid_request'],
  ['a broken request object', { request: 'x.y.z' }, 'invalid_request_object'],
] as const) {
  test(`an authorization request with ${what} goes back as ${error}`, async (t) => {
    redirected(t, await request({ target: authorize(changes) }), error)
  })
}

const twice = '{"id_token":{"acr":null,"acr":{"essential":true}}}'
const deep = (depth: number) => `{"id_token":${'{"acr":'.repeat(depth)}null${'}'.repeat(depth)}}`
const part = (text: string) => Buffer.from(text).toString('base64url')
const jwtOf = (claims: string, header = '{"alg":"ES256"}') => `${part(header)}.${part(claims)}.AA`

for (const [what, claims] of [
  ['a repeated member', twice],
  ['deep nesting', deep(32)],
] as const) {
  test(`rejects ${what} in the claims parameter and in request objects`, async (t) => {
    redirected(t, await request({ target: authorize({ claims }) }), 'invalid_request')
    for (const jwt of [
      jwtOf(`{"claims":${claims}}`),
      jwtOf(claims, claims),
      jwtOf(`{"claims":${'['.repeat(3000)}${']'.repeat(3000)}}`),
    ]) {
      const target = authorize({ request: jwt })
      redirected(t, await request({ target }), 'invalid_request_object')
    }
    const asText = jwtOf(JSON.stringify({ claims }))
    redirected(t, await request({ target: authorize({ request: asText }) }), 'invalid_request')
  })

  test(`rejects ${what} in a pushed request and in a client assertion`, async (t) => {
    const headers = [`Authorization: ${authorization}`]
    const body = (parameters: object) => new URLSearchParams({ ...parameters }).toString()
    const pushed = body({ response_type: 'code', redirect_uri: callback, claims })
    const par = await request({ method: 'POST', target: '/par', headers, body: pushed })
    isRefused(t, par, 400, 'invalid_request')
    t.regex(par.json.error_description, /claims must be a JSON object/)
    const assertion = body({
      grant_type: 'client_credentials',
      client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
      client_assertion: jwtOf(claims.replaceAll('acr', 'iss')),
    })
    const token = await request({ method: 'POST', target: '/token', body: assertion })
    isRefused(t, token, 401, 'invalid_client')
  })
}

test('accepts claims that are nested as deep as the specification needs', async (t) => {
  const claims = '{"id_token":{"name":{"values":["a","b"],"essential":true}},"userinfo":{}}'
  const answer = await request({ target: authorize({ claims }) })
  t.regex(answer.headers.get('location') ?? '', /\/interaction\//)
})

for (const name of ['scope', 'state', 'nonce', 'response_type', 'code_challenge', 'prompt']) {
  test(`an authorization request that repeats ${name} goes back as invalid_request`, async (t) => {
    redirected(
      t,
      await request({ target: authorize({ [name]: 'a' }, `&${name}=b`) }),
      'invalid_request',
    )
  })
}

test('rejects an authorization request that is cut off or too long', async (t) => {
  isRefused(t, await request({ target: '/authorize?client_id=%', headers: asPage }), 400)
  isRefused(t, await request({ target: authorize({ state: 'x'.repeat(20_000) }) }), 431)
})

for (const request_uri of [
  'x',
  '\0',
  'urn:ietf:params:oauth:request_uri:x',
  'https://evil.example/r',
]) {
  test(`the request_uri ${JSON.stringify(request_uri)} is not used`, async (t) => {
    const query = new URLSearchParams({ client_id: publicId, request_uri })
    const answer = await request({ target: `/authorize?${query}`, headers: asPage })
    isErrorPage(t, answer, 400, '(invalid_request_uri|request_uri_not_supported|invalid_request)')
  })
}

for (const value of [
  undefined,
  '',
  'Bearer',
  'Bearer x',
  'Bearer \xff',
  'DPoP x',
  'DPoP ',
  'Basic YTpi',
  `DPoP ${'x'.repeat(8000)}`,
]) {
  test(`userinfo with ${String(value?.slice(0, 20))} is refused with a challenge`, async (t) => {
    const headers = value === undefined ? [] : [`Authorization: ${value}`]
    const answer = await request({ target: '/userinfo', headers })
    isRefused(t, answer, answer.status, answer.json?.error)
    t.true([400, 401].includes(answer.status), answer.text)
    t.regex(answer.headers.get('www-authenticate') ?? '', /DPoP|Bearer/)
  })
}

test('userinfo takes one Authorization header', async (t) => {
  const headers = ['Authorization: DPoP x', 'Authorization: Bearer y']
  isRefused(t, await request({ target: '/userinfo', headers }), 400, 'invalid_request')
})

test('userinfo takes a token from one place', async (t) => {
  const headers = ['Authorization: Bearer x']
  const body = 'access_token=x'
  const answer = await request({ method: 'POST', target: '/userinfo', headers, body })
  isRefused(t, answer, 400, 'invalid_request')
})

for (const query of [
  'id_token_hint=x',
  'id_token_hint=%00',
  'id_token_hint=a.b.c',
  'client_id=%00',
  'client_id=a&client_id=b',
  'client_id=nobody&post_logout_redirect_uri=x',
]) {
  test(`sign-out with ${query} ends in a page`, async (t) => {
    const answer = await request({ target: `/session/end?${query}`, headers: asPage })
    isErrorPage(t, answer, 400, '\\w+')
    t.is(answer.headers.get('location'), null)
  })
}

test('sign-out of nobody in particular leads to nobody', async (t) => {
  const target = '/session/end?post_logout_redirect_uri=https://evil.example'
  const answer = await request({ target, headers: asPage })
  t.is(answer.status, 200)
  t.false(answer.text.includes('evil.example'))
  t.regex(answer.headers.get('content-security-policy') ?? '', /form-action 'self'(;|$)/)
})

test('the sign-out form cannot be sent by another site', async (t) => {
  for (const body of ['', 'xsrf=x&logout=yes', 'xsrf=%00', 'xsrf=a&xsrf=b']) {
    const answer = await request({
      method: 'POST',
      target: '/session/end/confirm',
      headers: asPage,
      body,
    })
    isErrorPage(t, answer, 400, '\\w+')
  }
})

for (const uid of ['x', '%00', '%ff', '%', '..%2f..', 'x'.repeat(4000)]) {
  test(`there is no interaction ${uid.slice(0, 10)}`, async (t) => {
    for (const [method, page] of [
      ['GET', ''],
      ['GET', '/login'],
      ['POST', '/login'],
      ['POST', '/confirm'],
      ['POST', '/abort'],
    ] as const) {
      const answer = await request({
        method,
        target: `/interaction/${uid}${page}`,
        headers: [...asPage, 'Cookie: _interaction=x; _interaction.sig=y'],
        ...(method === 'POST' ? { body: 'email=a&password=b' } : {}),
      })
      t.true([400, 404].includes(answer.status), `${answer.status}`)
      isErrorPage(t, answer, answer.status, '(expired_interaction|not_found|invalid_request)')
    }
  })
}

test('the resumption of nothing ends in a page', async (t) => {
  for (const uid of ['x', '%00', '%ff', '%']) {
    const answer = await request({ target: `/authorize/${uid}`, headers: asPage })
    t.true([400, 404].includes(answer.status), `${answer.status}`)
    isErrorPage(t, answer, answer.status, '\\w+')
  }
})

test('cookies that nobody has set are no session', async (t) => {
  for (const value of ['x', '\xff\xfe', '%00', ';;;==', 'x'.repeat(8000)]) {
    const headers = [`Cookie: _session=${value}; _session.sig=${value}`]
    const answer = await request({ target: authorize(), headers })
    t.is(answer.status, 303)
    t.regex(answer.headers.get('location') ?? '', /\/interaction\//)
  }
})

const wellKnown = ['/.well-known/openid-configuration', '/.well-known/oauth-authorization-server']

for (const target of wellKnown) {
  test(`${target} names the configured issuer, whatever the request says`, async (t) => {
    for (const changes of [
      {},
      { host: 'evil.example' },
      { headers: ['X-Forwarded-Host: evil.example', 'X-Forwarded-Proto: https'] },
      { headers: ['Forwarded: host=evil.example;proto=https'] },
      { target: `http://evil.example${target}` },
    ]) {
      const answer = await request({ target, ...changes })
      t.is(answer.status, 200)
      t.is(answer.json.issuer, server.issuer)
      t.is(answer.json.token_endpoint, `${server.issuer}/token`)
      t.false(answer.text.includes('evil.example'))
    }
  })

  test(`${target} is only read`, async (t) => {
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH']) {
      isRefused(t, await request({ method, target, body: 'x=y' }), 405)
    }
    isRefused(t, await request({ target: `${target}/../x` }), 404)
  })
}

test('a proof is for the configured issuer, whatever the request says', async (t) => {
  const key = await newKey()
  const ask = async (htu: string, changes: Partial<RawRequest> = {}) =>
    request({
      method: 'POST',
      target: '/token',
      body: tokenForm(`&resource=${encodeURIComponent(api)}&scope=read`),
      ...changes,
      headers: [
        `Authorization: ${authorization}`,
        `DPoP: ${await makeProof(key, { method: 'POST', url: htu })}`,
        ...(changes.headers ?? []),
      ],
    })
  const own = `${server.issuer}/token`
  const foreign = 'http://evil.example/token'
  for (const changes of [
    { host: 'evil.example' },
    { target: foreign },
    { headers: ['X-Forwarded-Host: evil.example'] },
  ]) {
    isRefused(t, await ask(foreign, changes), 400, 'invalid_dpop_proof')
    t.is((await ask(own, changes)).status, 200)
  }
})

for (const method of ['PUT', 'DELETE', 'PATCH', 'TRACE', 'PROPFIND', 'OPTIONS', 'HEAD']) {
  test(`${method} fails no endpoint`, async (t) => {
    for (const target of [
      '/',
      '/authorize',
      '/token',
      '/userinfo',
      '/jwks',
      '/interaction/x',
      '/x',
    ]) {
      const answer = await request({ method, target })
      t.true(answer.status >= 200 && answer.status < 500, `${target}: ${answer.status}`)
      isRefused(t, answer, answer.status)
    }
  })
}

for (const [what, bytes, status] of [
  ['an unknown method', 'DANCE / HTTP/1.1\r\nHost: a\r\n\r\n', 400],
  ['no HTTP', 'hello\r\n\r\n', 400],
  ['no Host', 'GET / HTTP/1.1\r\n\r\n', 400],
  ['a header with a bare line feed', 'GET / HTTP/1.1\r\nHost: a\r\nX: a\nb\r\n\r\n', 400],
  ['a header name with a space', 'GET / HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n', 400],
  [
    'two lengths',
    'POST /token HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx',
    400,
  ],
  [
    'a length and chunks',
    'POST /token HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    400,
  ],
  ['a header of 20 kB', `GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`, 431],
  ['a path of 20 kB', `GET /${'x'.repeat(20_000)} HTTP/1.1\r\nHost: a\r\n\r\n`, 431],
] as const) {
  test(`a request with ${what} is refused`, async (t) => {
    isRefused(t, await send(bytes), status)
  })
}

for (const target of [
  '/%',
  '/%ff',
  '/%00',
  '//evil.example/x',
  '/..%2f',
  '*',
  '/authorize%00',
  '/assets/..%2f..%2fpackage.json',
]) {
  test(`there is nothing at ${target}`, async (t) => {
    const answer = await request({ target, headers: asPage })
    t.true([400, 404].includes(answer.status), `${answer.status} ${answer.text}`)
    isRefused(t, answer, answer.status)
  })
}

test('answers in JSON where no page was asked for', async (t) => {
  const answer = await request({ target: '/nothing-here' })
  isRefused(t, answer, 404, 'not_found')
})

test('an Accept header of any kind gets an answer', async (t) => {
  for (const accept of ['', '*/*', 'image/png', 'text/html;q=x', ','.repeat(1000)]) {
    isRefused(t, await request({ target: '/nothing-here', headers: [`Accept: ${accept}`] }), 404)
  }
})
