import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import test, { type ExecutionContext } from 'ava'
import Koa, { type Middleware } from 'koa'
import { CookieJar } from 'tough-cookie'
import { isPath, pathOfIssuer } from '../../src/config/issuer-path.ts'
import type { TokenBindingMode } from '../../src/config/token-binding-config.ts'
import { mayCallFrom } from '../../src/engine/provider.ts'
import { clientAddress, noteClientAddress } from '../../src/http/client-address.ts'
import { formAction } from '../../src/http/form-action.ts'
import { type FormRequest, readForm } from '../../src/http/form-body.ts'
import { createFormTokens } from '../../src/http/form-token.ts'
import { hostCookies } from '../../src/http/host-cookies.ts'
import { machineRoutes } from '../../src/http/machine-routes.ts'
import { publicPlaces } from '../../src/http/public-path.ts'
import { allRoutes } from '../../src/http/routes.ts'
import { sameOrigin } from '../../src/http/same-origin.ts'
import { securityHeaders } from '../../src/http/security-headers.ts'
import { createTokenBindingReader } from '../../src/http/token-binding-reader.ts'
import { trustedPeers } from '../../src/net/trusted-peers.ts'
import { serve } from '../support/serve.ts'
import { useTestServer } from '../support/server.ts'
import { forwarded, newId } from '../support/token-binding.ts'

const isTrusted = trustedPeers(['10.0.0.0/8', '::1'])

const from = (remoteAddress: string, forwarded?: string) =>
  clientAddress(
    { socket: { remoteAddress }, headers: forwarded ? { 'x-forwarded-for': forwarded } : {} },
    isTrusted,
  )

test('is the peer, whatever it says of itself', (t) => {
  t.is(from('192.0.2.7', '198.51.100.1'), '192.0.2.7')
})

test('is what a trusted proxy says', (t) => {
  t.is(from('10.0.0.1', '198.51.100.1'), '198.51.100.1')
})

test('is the last one that is no proxy: those before it were written by the client', (t) => {
  t.is(from('10.0.0.1', '203.0.113.1, 198.51.100.1, 10.0.0.2'), '198.51.100.1')
})

test('is the proxy when it names nobody, or nothing that is an address', (t) => {
  t.is(from('10.0.0.1'), '10.0.0.1')
  t.is(from('10.0.0.1', 'unknown'), '10.0.0.1')
  t.is(from('10.0.0.1', '10.0.0.2'), '10.0.0.1')
})

for (const [written, address] of [
  ['198.51.100.1:4711', '198.51.100.1'],
  ['[2001:db8::1]:4711', '2001:db8::1'],
  ['[2001:db8::1]', '2001:db8::1'],
  ['2001:0DB8:0::0:1', '2001:db8::1'],
  ['::ffff:198.51.100.1', '198.51.100.1'],
  ['[::ffff:c633:6401]:80', '198.51.100.1'],
  ['fe80::1%eth0', 'fe80::1'],
] as const) {
  test(`reads ${written} as ${address}`, (t) => t.is(from('10.0.0.1', written), address))
}

test('passes over proxies that are written with their ports', (t) => {
  t.is(from('10.0.0.1', '198.51.100.1:99, 10.0.0.2:443, [::1]:443'), '198.51.100.1')
})

test('believes nothing that only looks like an address', (t) => {
  for (const text of ['[10.9.9.9]:80', '198.51.100.1:', '1.2.3.4:5:6', '2001:db8::1]:80', '_x']) {
    t.is(from('10.0.0.1', text), '10.0.0.1', text)
  }
})

test('an IPv4 address is spelt one way', (t) => {
  t.is(from('::ffff:192.0.2.7'), '192.0.2.7')
})

test('reports the first peer that forwards and is not trusted, once', async (t) => {
  const reported: string[] = []
  const middleware = noteClientAddress(isTrusted, {
    onFirstUntrusted: (peer) => reported.push(peer),
  })
  const arrive = (remoteAddress: string, headers: Record<string, string> = {}) =>
    middleware({ req: { socket: { remoteAddress }, headers }, state: {} } as never, async () => {})
  await arrive('192.0.2.6')
  await arrive('10.0.0.1', { 'x-forwarded-for': '198.51.100.1' })
  t.deepEqual(reported, [])
  await arrive('192.0.2.7', { forwarded: 'for=198.51.100.1' })
  await arrive('192.0.2.8', { 'x-forwarded-for': '198.51.100.1' })
  t.deepEqual(reported, ['192.0.2.7'])
})

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

function request(body: string | Buffer, type = 'application/x-www-form-urlencoded'): FormRequest {
  return {
    req: Readable.from([Buffer.from(body)]) as FormRequest['req'],
    is: (expected) => (expected === type ? expected : false),
  }
}

test('reads fields, decoded', async (t) => {
  const form = await readForm(request('email=ada%40example.com&password=a+b%2Bc&empty='))
  t.deepEqual(
    [...form],
    [
      ['email', 'ada@example.com'],
      ['password', 'a b+c'],
      ['empty', ''],
    ],
  )
})

test('a field is data whatever its name', async (t) => {
  const form = await readForm(request('__proto__=x&constructor[prototype]=y'))
  t.is(form.get('__proto__'), 'x')
  t.is(form.get('email'), undefined)
})

test('accepts 16 kB', async (t) => {
  t.is((await readForm(request(`a=${'x'.repeat(16 * 1024 - 2)}`))).size, 1)
})

test('rejects one byte more', async (t) => {
  const read = readForm(request(`a=${'x'.repeat(16 * 1024 - 1)}`))
  t.like(await t.throwsAsync(read), { code: 'form_too_large', status: 413 })
})

test('rejects a repeated field', async (t) => {
  const read = readForm(request('email=ada@example.com&email=eve@example.com'))
  t.like(await t.throwsAsync(read), { code: 'invalid_form', status: 400 })
})

for (const type of ['application/json', 'multipart/form-data', 'text/plain', '']) {
  test(`rejects ${type || 'a body without a type'}`, async (t) => {
    t.like(await t.throwsAsync(readForm(request('{}', type))), { code: 'invalid_form' })
  })
}

test('rejects a body that breaks off', async (t) => {
  const req = new Readable({
    read() {
      this.destroy(new Error('aborted'))
    },
  }) as FormRequest['req']
  const read = readForm({ ...request(''), req })
  t.like(await t.throwsAsync(read), { code: 'invalid_form' })
})

const [key, next, other] = [1, 2, 3].map((byte) => Buffer.alloc(32, byte)) as [
  Buffer,
  Buffer,
  Buffer,
]
const under = (...keys: Buffer[]) => createFormTokens(() => keys)
const token = under(key).make('uid-1')

test('knows its own token', (t) => {
  t.true(under(key).accepts('uid-1', token))
})

test('makes tokens with the first key, and knows those of the others', (t) => {
  t.is(under(key, next).make('uid-1'), token)
  t.not(under(next, key).make('uid-1'), token)
  t.true(under(next, key).accepts('uid-1', token))
})

test('goes by the keys of the moment', (t) => {
  const keys = [key]
  const forms = createFormTokens(() => keys)
  keys[0] = next
  t.is(forms.make('uid-1'), under(next).make('uid-1'))
  t.false(forms.accepts('uid-1', token))
})

for (const [title, keys, uid, given] of [
  ['of another interaction', [key], 'uid-2', token],
  ['under another key', [next, other], 'uid-1', token],
  ['that is empty', [key], 'uid-1', ''],
  ['that was cut', [key], 'uid-1', token.slice(0, -1)],
  ['of as many characters and more bytes', [key], 'uid-1', 'é'.repeat(token.length)],
] as const) {
  test(`refuses a token ${title}`, (t) => {
    t.false(under(...keys).accepts(uid, given))
  })
}

/** Sends cookies to a server that sets some by the engine's names, and answers which it has seen. */
async function exchange(
  t: ExecutionContext,
  { issuer = 'https://id.example', path = '/', cookie = '', set = [] as string[] },
) {
  const app = new Koa().use(hostCookies({ issuer })).use(securityHeaders({ issuer }))
  app.use((ctx) => {
    ctx.body = ctx.get('cookie')
    if (set.length > 0) ctx.set('set-cookie', set)
  })
  const answer = await fetch((await serve(t, app)) + path, { headers: { cookie } })
  return { seen: await answer.text(), set: answer.headers.getSetCookie(), headers: answer.headers }
}

const session = '_session=s; path=/; secure; httponly'
const interaction = (uid: string) => `_interaction=${uid}; path=/interaction/${uid}/proof; secure`

test('a session that a sibling host has planted is not seen, signed or not', async (t) => {
  const cookie = '_session=x; _session.sig=y; __Secure-holdfast_session=x; other=1'
  t.is((await exchange(t, { cookie })).seen, '__Secure-holdfast_session=x; other=1')
  for (const domain of ['example.com', 'id.example.com']) {
    const jar = new CookieJar()
    const planted = `__Host-holdfast_session=x; Domain=${domain}; Path=/; Secure`
    await jar.setCookie(planted, 'https://id.example.com/', { ignoreError: true })
    t.is(await jar.getCookieString('https://id.example.com/'), '')
  }
})

test('sets a session that the browser takes, and reads it', async (t) => {
  const { set } = await exchange(t, { set: [session, '_session.sig=y; path=/; secure'] })
  const jar = new CookieJar()
  for (const each of set) await jar.setCookie(each, 'https://id.example/')
  const cookie = await jar.getCookieString('https://id.example/')
  t.is(cookie, '__Host-holdfast_session=s; __Host-holdfast_session.sig=y')
  t.is((await exchange(t, { cookie })).seen, '_session=s; _session.sig=y')
})

test('tells the interactions of one browser apart', async (t) => {
  const first = await exchange(t, {
    set: [interaction('a'), '_interaction_resume=a; path=/authorize/a'],
  })
  t.deepEqual(first.set, [
    '__Host-holdfast_interaction.a=a; path=/; secure',
    '__Host-holdfast_resume.a=a; path=/',
  ])
  const cookie =
    '__Host-holdfast_interaction.a=a; __Host-holdfast_interaction.b=b; __Host-holdfast_resume.b=b'
  t.is(
    (await exchange(t, { cookie, path: '/interaction/b/login' })).seen,
    '_interaction=b; _interaction_resume=b',
  )
  t.is((await exchange(t, { cookie, path: '/authorize/a' })).seen, '_interaction=a')
  t.is((await exchange(t, { cookie })).seen, '')
})

test('expires the cookies of an interaction that is over', async (t) => {
  const names = ['interaction.a', 'interaction.a.sig', 'resume.a']
  const cookie = names.map((name) => `__Host-holdfast_${name}=a`).join('; ')
  const gone = '_interaction_resume=; path=/authorize/a; expires=Thu, 01 Jan 1970 00:00:00 GMT'
  const { set } = await exchange(t, { cookie, set: [gone] })
  // Each once.
  t.deepEqual(
    set,
    names.map((name) => `__Host-holdfast_${name}=; path=/; max-age=0; secure; httponly`),
  )
})

test('expires the oldest of many interactions', async (t) => {
  const uids = 'abcdefgh'
  const cookie = [...uids].map((uid) => `__Host-holdfast_interaction.${uid}=${uid}`).join('; ')
  const { set } = await exchange(t, { cookie, set: [interaction('i')] })
  t.deepEqual(set.slice(1), ['__Host-holdfast_interaction.a=; path=/; max-age=0; secure; httponly'])
})

test('keeps paths below an issuer with a path, and leaves http alone', async (t) => {
  const set = [interaction('a')]
  const below = await exchange(t, { issuer: 'https://id.example/auth', set })
  t.regex(below.set[0] ?? '', /^__Host-holdfast_browser\..*; path=\/; .*secure; httponly/)
  t.regex(
    below.set[1] ?? '',
    /^__Secure-holdfast_interaction=a\.[\w-]{22}; path=\/interaction\/a\/proof; secure$/,
  )
  const cookie = below.set.map((each) => each.split(';')[0]).join('; ')
  const seen = async (sent: string) =>
    (await exchange(t, { issuer: 'https://id.example/auth', cookie: sent })).seen
  t.regex(await seen(cookie), /; _interaction=a$/)
  t.notRegex(await seen(cookie.replace('=a.', '=b.')), /interaction/)
  t.notRegex(await seen(cookie.replace('_interaction=', '_session=')), /session/)
  t.is(await seen(below.set[1]?.split(';')[0] ?? ''), '')
  t.deepEqual((await exchange(t, { issuer: 'http://id.example', set })).set, set)
})

test('browsers are to come back over https, except to a loopback', async (t) => {
  const hsts = async (issuer: string) =>
    (await exchange(t, { issuer })).headers.get('strict-transport-security')
  t.is(await hsts('https://id.example'), 'max-age=31536000')
  t.is(await hsts('https://localhost:8443'), null)
  t.is(await hsts('http://id.example'), null)
})

test('scripts of an opaque origin may call nothing', (t) => {
  const client = {
    clientAuthMethod: 'none',
    redirectUris: ['com.app:/cb', 'https://app.example/cb'],
  }
  t.false(mayCallFrom(undefined, 'null', client))
  t.true(mayCallFrom(undefined, 'https://app.example', client))
})

const seen = (issuer: string, arrivalPath: string, path: string) =>
  publicPlaces({ issuer, arrivalPath })(path)

const issuer = 'https://example.org/auth'

test('a path that is kept', (t) => {
  t.is(seen(issuer, '/auth', '/auth/token'), '/token')
  t.is(seen(issuer, '/auth', '/auth'), '/')
})

test('a path that was stripped', (t) => {
  t.is(seen(issuer, '', '/token'), '/token')
})

test('a path that was replaced', (t) => {
  t.is(seen(issuer, '/in/here', '/in/here/token'), '/token')
  t.is(seen(issuer, '/in/here', '/auth/token'), undefined)
})

test('a path that a proxy has added to an origin', (t) => {
  t.is(seen('https://example.org', '/in', '/in/token'), '/token')
})

test('no path at all', (t) => {
  t.is(seen('https://example.org', '', '/token'), '/token')
})

for (const target of [
  '/',
  '/token',
  '/authority/token',
  '/AUTH/token',
  '/%61uth/token',
  '/x/auth',
]) {
  test(`${target} is not below the path`, (t) => {
    t.is(seen(issuer, '/auth', target), undefined)
  })
}

for (const arrivalPath of ['/auth', '']) {
  const how = arrivalPath ? 'kept' : 'stripped'
  for (const document of ['oauth-authorization-server', 'openid-configuration']) {
    test(`${document} at the origin, with the path ${how}`, (t) => {
      const place = `/.well-known/${document}`
      t.is(seen(issuer, arrivalPath, `${place}/auth`), place)
    })
  }

  test(`device-bound-sessions and change-password at the origin, with the path ${how}`, (t) => {
    for (const document of ['device-bound-sessions', 'change-password']) {
      const place = `/.well-known/${document}`
      t.is(seen(issuer, arrivalPath, place), place)
    }
  })
}

test('metadata of another issuer of the origin is not ours', (t) => {
  const place = '/.well-known/oauth-authorization-server'
  t.is(seen(issuer, '/auth', place), undefined)
  t.is(seen(issuer, '/auth', `${place}/other`), undefined)
})

test('paths that an issuer may have', (t) => {
  for (const path of ['/auth', '/t/a-1', '/v1.0', '/_x']) t.true(isPath(path), path)
  for (const path of ['', '/', 'auth', '/auth/', '//a', '/..', '/.x', '/a b', '/a%20', '/a?b']) {
    t.false(isPath(path), path)
  }
  t.is(pathOfIssuer('https://example.org'), '')
  t.is(pathOfIssuer('https://example.org/a/b'), '/a/b')
})

const publicOrigin = 'https://id.example'

function post(headers: Record<string, string>): unknown {
  const ctx = { get: (name: string) => headers[name] ?? '' } as Parameters<Middleware>[0]
  return sameOrigin({ publicOrigin })(ctx, async () => 'passed')
}

for (const [title, headers] of [
  ['our own page', { 'sec-fetch-site': 'same-origin', origin: publicOrigin }],
  ['a reload by the person', { 'sec-fetch-site': 'none' }],
  ['our own page in an older browser', { origin: publicOrigin }],
  ['no browser', {}],
] as const) {
  test(`lets a form through from ${title}`, async (t) => {
    t.is(await post(headers), 'passed')
  })
}

for (const [title, headers] of [
  ['another site', { 'sec-fetch-site': 'cross-site', origin: publicOrigin }],
  ['a sibling site', { 'sec-fetch-site': 'same-site' }],
  ['another origin', { origin: 'https://evil.example' }],
  ['our host without TLS', { origin: 'http://id.example' }],
  ['an origin that begins as ours', { origin: 'https://id.example.evil.example' }],
  ['an opaque origin', { origin: 'null' }],
] as const) {
  test(`refuses a form from ${title}`, (t) => {
    t.like(
      t.throws(() => post(headers)),
      { code: 'cross_site_request', status: 403 },
    )
  })
}

const proxy = '192.0.2.7'
const provided = newId()
const referred = newId()

function read(mode: TokenBindingMode, headers: Record<string, string>, remoteAddress = proxy) {
  const request = { socket: { remoteAddress }, rawHeaders: Object.entries(headers).flat() }
  const reader = createTokenBindingReader(mode, trustedPeers([proxy]))
  return reader(request as unknown as IncomingMessage)
}

test('reads what a trusted proxy has proven', (t) => {
  const proof = read('proxy', forwarded(provided, referred))
  t.deepEqual(proof, { provided, referred, other: [] })
})

test('reads nothing where a trusted proxy says nothing', (t) => {
  t.is(read('proxy', { accept: '*/*' }), undefined)
})

test('refuses the headers of a peer that is not trusted', (t) => {
  t.throws(() => read('proxy', forwarded(provided), '192.0.2.8'), { code: 'untrusted_peer' })
})

for (const mode of ['off', 'tls', 'tls13-draft'] as const) {
  test(`refuses forwarded headers, also of a trusted proxy, with ${mode}`, (t) => {
    t.throws(() => read(mode, forwarded(provided)), { code: 'untrusted_peer' })
  })
}

for (const mode of ['tls', 'tls13-draft'] as const) {
  test(`refuses a message on a connection that negotiated nothing, with ${mode}`, (t) => {
    t.throws(() => read(mode, { 'sec-token-binding': 'AIkAAgBB' }), { code: 'not_negotiated' })
  })
}

for (const mode of ['off', 'proxy'] as const) {
  test(`does not look at messages with ${mode}`, (t) => {
    t.is(read(mode, { 'sec-token-binding': 'AIkAAgBB' }), undefined)
  })
}

const server = useTestServer(test, {
  HOLDFAST_ADMIN_API: 'on',
  HOLDFAST_DEVICE_FLOW: 'on',
  HOLDFAST_REGISTRATION: 'on',
  HOLDFAST_REFUSAL_LIMIT: '100000',
})

const tooLong = 'x'.repeat(200_000)

/** What is wrong with a request, and what it sends where a body is possible. */
const broken: Readonly<Record<string, { type: string; body: string }>> = {
  'no credentials': { type: 'application/x-www-form-urlencoded', body: 'a=b' },
  'another content type': { type: 'text/plain', body: '{}' },
  'a body that is too long': { type: 'application/json', body: `{"a":"${tooLong}"}` },
  'a form that is too long': { type: 'application/x-www-form-urlencoded', body: `a=${tooLong}` },
}

for (const [problem, { type, body }] of Object.entries(broken)) {
  test(`answers ${problem} with JSON that has an error, at every machine route`, async (t) => {
    for (const name of machineRoutes) {
      const { methods, path } = allRoutes[name]
      for (const method of methods) {
        const response = await fetch(server.issuer + path.replace(/:\w+/g, 'some'), {
          method,
          // What the HTTP clients of some languages ask for by default.
          headers: { accept: 'text/html, */*;q=0.5', 'content-type': type },
          ...(method !== 'GET' && { body }),
        })
        const text = await response.text()
        const what = `${method} ${path}: ${response.status} ${text.slice(0, 100)}`
        t.true(response.status >= 400 && response.status < 500, what)
        t.regex(response.headers.get('content-type') ?? '', /^application\/json/, what)
        t.regex(String(JSON.parse(text).error), /^[a-z_]+$/, what)
      }
    }
  })
}

const formServer = useTestServer(test)

const send = (path: string, body: string, type = 'application/x-www-form-urlencoded') =>
  fetch(`${formServer.issuer}${path}`, {
    method: 'POST',
    redirect: 'manual',
    headers: { 'content-type': type },
    body,
  })

test('an authorization request by POST is sent on as the same request by GET', async (t) => {
  const client = await formServer.addClient()
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
  t.deepEqual([...new URL(location, formServer.issuer).searchParams], [...request])
  const answer = await fetch(new URL(location, formServer.issuer), { redirect: 'manual' })
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
