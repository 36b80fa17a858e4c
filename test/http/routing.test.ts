import test from 'ava'
import Koa from 'koa'
import { readRequestTarget } from '../../src/http/request-target.ts'
import { type AdminRoute, adminRoutes, allRoutes, route } from '../../src/http/routes.ts'
import { createMatcher } from '../../src/http/routing.ts'
import { freePort } from '../../src/net/free-port.ts'
import { type RawRequest, sendBytes, sendRequest } from '../support/raw-request.ts'
import { everyFeature, routed } from '../support/routed.ts'
import { serve } from '../support/serve.ts'
import { type TestServer, useTestServer } from '../support/server.ts'

/** Node's old URL parser warns of itself, and of what it makes of such targets. */
const warnings: string[] = []
process.on('warning', ({ message }) => warnings.push(message))

const features = {
  HOLDFAST_ADMIN_API: 'on',
  HOLDFAST_DEVICE_FLOW: 'on',
  HOLDFAST_REGISTRATION: 'on',
}
const port = await freePort()
const atOrigin = useTestServer(test, { ...features, HOLDFAST_REFUSAL_LIMIT: '3' })
const belowPath = useTestServer(test, {
  ...features,
  HOLDFAST_ISSUER: `http://127.0.0.1:${port}/in/here`,
  HOLDFAST_PORT: String(port),
})

const match = createMatcher(everyFeature)
const example = (path: string) => path.replace(/:\w+/g, 'x')
const routes = Object.entries(allRoutes).flatMap(([name, { methods, path }]) =>
  methods.map((method) => ({ name, method, path: example(path) })),
)

/** Other ways to write a path, each of which some router or proxy takes for the path. */
const spellings: Readonly<Record<string, (path: string) => string>> = {
  'in capitals': (path) => path.toUpperCase(),
  'with one capital': (path) => path.replace(/[a-z]/, (letter) => letter.toUpperCase()),
  'with a final slash': (path) => `${path}/`,
  'with a doubled slash': (path) => `/${path}`,
  'with a doubled slash inside': (path) => path.replace(/\/(?=[^/]*$)/, '//'),
  'behind a dot': (path) => `/.${path}`,
  'behind two dots': (path) => `/x/..${path}`,
  'behind an escaped dot': (path) => `/%2e${path}`,
  'with an escaped letter': (path) =>
    path.replace(/[a-z]/, (letter) => `%${letter.charCodeAt(0).toString(16)}`),
  'with an escaped slash': (path) => `/%2F${path.slice(1)}`,
  'with a backslash': (path) => `\\${path.slice(1)}`,
  'with a parameter of a segment': (path) => `/;x=y${path}`,
  'with a letter that folds to ASCII': (path) =>
    path.replace(/[ks]/, (letter) => (letter === 'k' ? '\u212a' : '\u017f')),
  'with an overlong slash': (path) => `/%c0%af${path.slice(1)}`,
}
const endings: Readonly<Record<string, string>> = {
  U_0000: '%00',
  space: '%20',
  dot: '.',
  'parameter of a segment': ';x=y',
  'overlong U+0000': '%c0%80',
  extension: '.json',
}

for (const { name, method, path } of routes) {
  test(`${method} ${path} is one route, and no other spelling of it is a route`, (t) => {
    t.is(match(method, path)?.name, name as never)
    for (const [how, spell] of Object.entries(spellings)) {
      if (spell(path) !== path) t.is(match(method, spell(path)), undefined, `${path} ${how}`)
    }
    for (const ending of Object.values(endings)) {
      const found = match(method, path + ending)
      if (path.endsWith('/x')) t.true([undefined, name].includes(found?.name), path + ending)
      else t.is(found, undefined, path + ending)
    }
  })
}

test('matches nothing that is longer than its longest path, however long', (t) => {
  t.is(match('GET', '/x'.repeat(8000)), undefined)
})

test('takes HEAD for GET, and a preflight for no request', (t) => {
  t.is(match('HEAD', '/jwks')?.name, 'jwks')
  t.like(match('OPTIONS', '/token'), { name: 'token', isPreflight: true })
  t.is(match('OPTIONS', '/authorize'), undefined)
  t.is(match('get', '/jwks'), undefined)
})

test('has no route of a feature that is off', (t) => {
  const none = createMatcher({
    adminApi: false,
    deviceFlow: false,
    registration: false,
    signUp: false,
  })
  for (const { method, path, name } of routes) {
    const { feature } = allRoutes[name as keyof typeof allRoutes]
    t.is(none(method, path) === undefined, feature !== undefined, path)
  }
})

test('decodes a parameter once', (t) => {
  t.is(match('GET', '/admin/clients/a%2Fb%2541')?.params.client_id, 'a/b%41')
})

test('an admin route has a scope, and is in its table', (t) => {
  // @ts-expect-error a scope is missing
  const noScope: AdminRoute = { methods: ['GET'], path: '/admin/x', feature: 'adminApi' }
  // @ts-expect-error the table of public routes takes no path of the admin API
  const noGuard = route(['GET'], '/admin/x')
  t.deepEqual([noScope.path, noGuard.path], ['/admin/x', '/admin/x'])
})

for (const [target, path] of [
  ['/', '/'],
  ['/token', '/token'],
  ['/token?', '/token'],
  ['/a/../b//c', '/a/../b//c'],
  ['//evil.example/x', '//evil.example/x'],
  ['http://id.example/token', '/token'],
  ['HTTPS://id.example:443/token?x=/', '/token'],
  ['http://[::1]:8080', '/'],
  ['http://id.example?x', '/'],
] as const) {
  test(`reads the path of ${target}`, (t) => {
    t.is(readRequestTarget(target)?.path, path)
  })
}

const malformed = [
  '*',
  'x',
  'id.example:443',
  'http:',
  'http://',
  'http:///token',
  'http://?',
  'http://[/',
  'http://[::1/token',
  'http://a:b/',
  'http://a:99999/',
  'http://user@id.example/token',
  'http://a\\b/token',
  'http://%zz/token',
  'ftp://id.example/token',
  'javascript:alert(1)',
  '/token#x',
  '/tok\u00e9n',
  '/a?\u00a0',
  `/security?${'&'.repeat(100)}`,
]
for (const target of [...malformed, '', '/a b', '/\t', '/\u0000']) {
  test(`reads no target ${JSON.stringify(target)}`, (t) => {
    t.is(readRequestTarget(target), undefined)
  })
}

test('reads a query of a hundred parameters', (t) => {
  t.is(readRequestTarget(`/authorize?${'a&'.repeat(99)}`)?.search.length, 199)
})

test('shows the path / in place of a malformed target to what parses it', async (t) => {
  const seen: string[] = []
  const app = new Koa().use(routed()).use((ctx) => {
    seen.push(ctx.path + ctx.search)
    ctx.body = ''
  })
  const origin = await serve(t, app)
  for (const target of malformed) await sendRequest(origin, { target })
  // Some do not get past Node's own parser of HTTP.
  t.true(seen.length > 10)
  t.deepEqual([...new Set(seen)], ['/'])
  t.deepEqual(warnings, [])
})

for (const [where, server, prefix] of [
  ['', atOrigin, ''],
  [', below a path', belowPath, '/in/here'],
] as const) {
  const send = (raw: RawRequest) => sendRequest(server.issuer, raw)

  test(`answers 400 to a malformed target, and does not call it an error${where}`, async (t) => {
    for (const target of malformed) {
      const { status, json } = await send({ target })
      t.is(status, 400, target)
      if (json) t.is(json.error, 'invalid_request')
    }
    const bytes = 'CONNECT id.example:443 HTTP/1.1\r\nHost: id.example:443\r\n\r\n'
    t.is((await sendBytes(server.issuer, bytes)).status, 400)
    t.deepEqual(failures(server), [])
    t.deepEqual(warnings, [])
  })

  test(`answers 404 to every other spelling of a route${where}`, async (t) => {
    for (const path of ['/token', '/admin/clients', '/device', '/authorize', '/register']) {
      const others = Object.values(spellings).map((spell) => prefix + spell(path))
      for (const target of new Set([
        ...others,
        ...Object.values(endings).map((ending) => prefix + path + ending),
        ...(prefix ? Object.values(spellings).map((spell) => spell(prefix) + path) : []),
      ])) {
        if (target === prefix + path || /[^!-~]/.test(target) || !target.startsWith('/')) continue
        for (const method of ['GET', 'POST']) {
          const headers = ['X-HTTP-Method-Override: PUT', `X-Original-URL: ${path}`]
          const { status } = await send({ method, target, headers, body: '' })
          t.is(status, 404, `${method} ${target}`)
        }
      }
    }
    t.deepEqual(failures(server), [])
  })

  test(`fails at no route and no method${where}`, async (t) => {
    for (const path of new Set(routes.map((each) => each.path))) {
      for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE']) {
        const { status } = await send({ method, target: prefix + path, host: 'x@@/\\:junk' })
        t.true(status >= 200 && status < 500, `${method} ${path}: ${status}`)
      }
    }
    t.deepEqual(failures(server), [])
  })

  test(`lets nobody pass beside the guard of the admin API${where}`, async (t) => {
    for (const { methods, path } of Object.values(adminRoutes)) {
      for (const method of [...methods, ...(methods.includes('GET') ? ['HEAD'] : [])]) {
        const target = prefix + example(path)
        t.is((await send({ method, target })).status, 401, `${method} ${target}`)
      }
    }
  })
}

test.serial('no spelling of a route passes beside its limit', async (t) => {
  const send = (target: string) =>
    sendRequest(atOrigin.issuer, { method: 'POST', target, body: 'grant_type=x' })
  const statuses = []
  for (let count = 0; count < 5; count += 1) statuses.push((await send('/token')).status)
  t.is(statuses.at(-1), 429)
  for (const target of ['/token?', '/token?x=y', `${atOrigin.issuer}/token`]) {
    t.is((await send(target)).status, 429, target)
  }
  for (const target of ['/TOKEN', '/Token', '/token/', '//token', '/%74oken', '/token;x=y']) {
    t.is((await send(target)).status, 404, target)
  }
})

test('a link with a user code leads to our page in one spelling only', async (t) => {
  const open = (path: string) =>
    sendRequest(atOrigin.issuer, {
      target: `${path}?user_code=BBBB-BBBB`,
      headers: ['Accept: text/html'],
    })
  const page = await open('/device')
  t.is(page.status, 200)
  t.notRegex(page.text, /\.submit\(\)|onload/)
  for (const path of ['/device/', '/DEVICE', '//device']) t.is((await open(path)).status, 404, path)
})

for (const [method, target, allow] of [
  ['GET', '/token', 'POST, OPTIONS'],
  ['PATCH', '/register/x', 'GET, HEAD, PUT, DELETE, OPTIONS'],
  ['POST', '/admin/audit', 'GET, HEAD'],
  ['DELETE', '/device', 'GET, HEAD, POST'],
  ['OPTIONS', '/authorize', 'GET, HEAD, POST'],
] as const) {
  test(`answers 405 to ${method} ${target}, with the methods there are`, async (t) => {
    const { status, json, headers } = await sendRequest(atOrigin.issuer, { method, target })
    t.is(status, 405)
    t.is(headers.get('allow'), allow)
    t.is(json.error, 'invalid_request')
  })
}

test('refuses an Origin that is longer than any', async (t) => {
  const { status, json } = await sendRequest(atOrigin.issuer, {
    target: '/jwks',
    headers: [`Origin: https://${'a'.repeat(293)}`],
  })
  t.is(status, 400)
  t.is(json.error, 'invalid_request')
  const longest = [`Origin: https://${'a'.repeat(292)}`]
  t.is((await sendRequest(atOrigin.issuer, { target: '/jwks', headers: longest })).status, 200)
})

function failures({ logged }: TestServer): string[] {
  return logged.filter((line) => /"event":"(server_error|error)"/.test(line))
}
