import { once } from 'node:events'
import { createServer } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { type AddressInfo, createServer as createTcpServer } from 'node:net'
import { text } from 'node:stream/consumers'
import test, { type ExecutionContext } from 'ava'
import { isDisplayName } from '../../src/net/display-name.ts'
import { findFetchProblem } from '../../src/net/fetch-problem.ts'
import {
  createGuardedFetch,
  type GuardedFetchErrorCode,
  type GuardedFetchOptions,
  isPublicAddress,
} from '../../src/net/guarded-fetch.ts'
import { networkOf, networksOf } from '../../src/net/network.ts'
import { spellingProblem } from '../../src/net/normal-uri.ts'
import { isOfThisMachine } from '../../src/net/this-machine.ts'
import { trustedPeers } from '../../src/net/trusted-peers.ts'
import { selfSigned } from '../support/certificates.ts'

for (const name of [
  'Harbour Orders',
  'Ärzte & Söhne',
  '日本',
  'नमस्ते',
  'လျှော့',
  '✓',
  'a'.repeat(100),
]) {
  test(`accepts ${name}`, (t) => t.true(isDisplayName(name, 100)))
}

const refused: [string, string][] = [
  ['nothing', ''],
  ['spaces', '  '],
  ['no-break spaces', '\u00a0\u2003'],
  ['a second line', 'Shop\nof Ada'],
  ['a line separator', 'Shop\u2028'],
  ['text that is turned round', 'Shop\u202etxt'],
  ['an isolate', 'Shop\u2066'],
  ['a zero-width space', 'Sh\u200bop'],
  ['a zero-width joiner alone', '\u200d'],
  ['a soft hyphen', 'Sh\u00adop'],
  ['a Hangul filler', '\u3164'],
  ['a variation selector', 'Shop\ufe0f'],
  ['a tag', 'Shop\u{e0041}'],
  ['an empty braille pattern', '\u2800'],
  ['combining marks alone', '\u0301\u0301'],
  ['a stack of marks', `a${'\u0301'.repeat(7)}`],
  ['a private character', '\ue000'],
  ['half of a surrogate pair', 'Shop\ud800'],
  ['too many characters', 'a'.repeat(101)],
]

test('no name is invisible in part or as a whole, or turns the text around it', (t) => {
  for (const [what, name] of refused) t.false(isDisplayName(name, 100), what)
})

/** Counts connections, on IPv4 and IPv6, which a request that was refused must never make. */
async function listener(t: ExecutionContext) {
  const counts = { connections: 0 }
  const server = createTcpServer((socket) => {
    counts.connections += 1
    socket.destroy()
  })
  server.listen(0, '::')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return { counts, port: (server.address() as AddressInfo).port }
}

type Handler = NonNullable<Parameters<typeof createServer>[1]>

/** A server of a client that may be asked, by the exception for tests. */
async function keyServer(t: ExecutionContext, handler: Handler, options: GuardedFetchOptions = {}) {
  const asked: string[] = []
  const server = createServer((request, response) => {
    asked.push(request.url ?? '')
    handler(request, response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const guarded = createGuardedFetch({
    resolve: async () => ['127.0.0.1'],
    development: { addresses: ['127.0.0.1'] },
    ...options,
  })
  const url = `http://keys.example:${(server.address() as AddressInfo).port}/keys`
  return { asked, guarded, url }
}

const answerOf: Handler = (_request, response) => response.end('{"keys":[]}')

async function fetchRefused(
  t: ExecutionContext,
  code: GuardedFetchErrorCode,
  fetching: Promise<unknown>,
) {
  await t.throwsAsync(fetching, { name: 'GuardedFetchError', code })
}

test('returns the status, the headers and the body', async (t) => {
  const { guarded, url } = await keyServer(t, (_request, response) => {
    response.setHeader('cache-control', 'max-age=60')
    response.end('{"keys":[]}')
  })
  const { status, headers, body } = await guarded(url)
  t.is(status, 200)
  t.is(headers.get('cache-control'), 'max-age=60')
  t.is(new TextDecoder().decode(body), '{"keys":[]}')
})

test('posts JSON with the headers that it is given, and follows no redirect', async (t) => {
  const { asked, guarded, url } = await keyServer(t, async (request, response) => {
    const { method, headers } = request
    const { authorization, 'content-type': type } = headers
    if (request.url === '/keys')
      response.end(JSON.stringify([method, authorization, type, await text(request)]))
    else response.writeHead(307, { location: '/keys' }).end()
  })
  const posted = { headers: { authorization: 'Bearer a' }, json: { auth_req_id: 'b' } }
  const { body } = await guarded(url, posted)
  const expected = ['POST', 'Bearer a', 'application/json', '{"auth_req_id":"b"}']
  t.deepEqual(JSON.parse(new TextDecoder().decode(body)), expected)
  await fetchRefused(t, 'redirected', guarded(`${url}/moved`, posted))
  t.deepEqual(asked, ['/keys', '/keys/moved'])
})

const special = `
  0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.255.0.1 169.254.169.254
  172.16.0.1 172.31.255.255 192.0.0.1 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1
  198.51.100.1 203.0.113.1 224.0.0.1 240.0.0.1 255.255.255.255 :: ::1 ::127.0.0.1 ::8.8.8.8
  ::ffff:127.0.0.1 ::ffff:8.8.8.8 64:ff9b::7f00:1 64:ff9b:1::1 100::1 2001::1 2001:2::1
  2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254
  fe80::1 fe80::1%eth0 fec0::1 ff02::1 localhost`

for (const address of special.split(/\s+/)) {
  test(`${address || 'nothing'} is no public address`, (t) => t.false(isPublicAddress(address)))
}

for (const address of [
  '8.8.8.8',
  '93.184.215.14',
  '172.32.0.1',
  '2606:4700::1111',
  '2a00:1450::1',
]) {
  test(`${address} is a public address`, (t) => t.true(isPublicAddress(address)))
}

for (const resolved of [
  ['127.0.0.1'],
  ['::1'],
  ['::ffff:127.0.0.1'],
  ['0.0.0.0'],
  ['::'],
  ['8.8.8.8', '127.0.0.1'],
]) {
  test(`never connects to a name that resolves to ${resolved.join(' and ')}`, async (t) => {
    const { counts, port } = await listener(t)
    const guarded = createGuardedFetch({ resolve: async () => resolved })
    await fetchRefused(t, 'special_address', guarded(`https://keys.evil.example:${port}/`))
    t.is(counts.connections, 0)
  })
}

for (const host of [
  '127.0.0.1',
  '[::1]',
  '[::ffff:127.0.0.1]',
  '[::ffff:7f00:1]',
  '0.0.0.0',
  '[::]',
  '2130706433',
  '0x7f000001',
  '0177.0.0.1',
  '127.1',
  '127.0.0.1.',
]) {
  test(`never connects to ${host}`, async (t) => {
    const { counts, port } = await listener(t)
    // A resolver that hands an address on as it is must make no difference.
    const guarded = createGuardedFetch({ resolve: async (name) => [name] })
    await fetchRefused(t, 'special_address', guarded(`https://${host}:${port}/`))
    t.is(counts.connections, 0)
  })
}

test('never connects to a name that resolved to a public address before', async (t) => {
  const { counts, port } = await listener(t)
  const answers = [['127.0.0.2'], ['127.0.0.1']]
  const guarded = createGuardedFetch({
    resolve: async () => answers.shift() ?? [],
    development: { addresses: ['127.0.0.2'] },
    limits: { firstPauseMs: 0 },
  })
  await fetchRefused(t, 'unreachable', guarded(`https://keys.evil.example:${port}/`))
  t.is(counts.connections, 1)
  await fetchRefused(t, 'special_address', guarded(`https://keys.evil.example:${port}/`))
  t.is(counts.connections, 1)
})

for (const url of [
  'http://keys.example/',
  'file:///etc/passwd',
  'data:application/json,{}',
  'ftp://keys.example/',
  'https://user@keys.example/',
  '/keys',
]) {
  test(`refuses ${url}`, async (t) => {
    const resolve = async () => t.fail() as never
    await fetchRefused(t, 'not_https', createGuardedFetch({ resolve })(url))
  })
}

test('refuses a name without an address', async (t) => {
  const guarded = createGuardedFetch({ resolve: async () => [] })
  await fetchRefused(t, 'unreachable', guarded('https://keys.example/'))
})

test('follows no redirect', async (t) => {
  const { asked, guarded, url } = await keyServer(t, (_request, response) => {
    response.writeHead(302, { location: '/elsewhere' }).end()
  })
  await fetchRefused(t, 'redirected', guarded(url))
  t.deepEqual(asked, ['/keys'])
})

for (const [what, declare] of [
  ['that says how large it is', true],
  ['that does not', false],
] as const) {
  test(`refuses a large answer ${what}`, async (t) => {
    const limits = { limitBytes: 1000 }
    const { guarded, url } = await keyServer(
      t,
      (_request, response) => {
        if (declare) response.setHeader('content-length', 1001)
        response.write('x')
        response.end('x'.repeat(1000))
      },
      { limits },
    )
    await fetchRefused(t, 'too_large', guarded(url))
  })
}

for (const [what, handler] of [
  ['says nothing', () => {}],
  ['stops in the middle', (_request, response) => response.write('{"keys":')],
] satisfies [string, Handler][]) {
  test(`waits for no server that ${what}`, async (t) => {
    const { guarded, url } = await keyServer(t, handler, { limits: { patienceMs: 50 } })
    await fetchRefused(t, 'timed_out', guarded(url))
  })
}

test('limits the requests of a requester, and those of all', async (t) => {
  let time = 60_000
  const { asked, guarded, url } = await keyServer(t, answerOf, {
    limits: { perMinute: 3, perMinutePerRequester: 2 },
    now: () => time,
  })
  await guarded(url, { requester: 'one' })
  await guarded(`${url}/2`, { requester: 'one' })
  await fetchRefused(t, 'too_many', guarded(`${url}/3`, { requester: 'one' }))
  await guarded(url, { requester: 'two' })
  await fetchRefused(t, 'too_many', guarded(url, { requester: 'three' }))
  t.is(asked.length, 3)
  time += 60_000
  t.is((await guarded(url, { requester: 'one' })).status, 200)
})

test('limits the requests on their way of a requester, and those of all', async (t) => {
  const waiting: (() => void)[] = []
  const { guarded, url } = await keyServer(
    t,
    (_request, response) => waiting.push(() => response.end()),
    { limits: { concurrent: 2, concurrentPerRequester: 1 } },
  )
  const [one, two] = ['one', 'two'].map((requester) => guarded(url, { requester }))
  await fetchRefused(t, 'too_many', guarded(url, { requester: 'one' }))
  await fetchRefused(t, 'too_many', guarded(url, { requester: 'three' }))
  while (waiting.length < 2) await new Promise(setImmediate)
  for (const answer of waiting) answer()
  await Promise.all([one, two])
  const again = guarded(url, { requester: 'one' })
  while (waiting.length < 3) await new Promise(setImmediate)
  waiting[2]?.()
  t.is((await again).status, 200)
})

test('says that a certificate is not trusted, and says it again before the next try', async (t) => {
  const { cert, key } = await selfSigned({ subject: 'CN=keys.example' })
  const server = createHttpsServer({ cert, key }, answerOf)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const guarded = createGuardedFetch({
    resolve: async () => ['127.0.0.1'],
    development: { addresses: ['127.0.0.1'] },
  })
  const url = `https://keys.example:${(server.address() as AddressInfo).port}/keys`
  const problems = []
  for (const code of ['untrusted_certificate', 'failed_before'] as const) {
    const error = await t.throwsAsync(guarded(url), { name: 'GuardedFetchError', code })
    problems.push(findFetchProblem(new Error('of the engine', { cause: error })))
  }
  const [first, again] = problems
  t.regex(first?.forOperator ?? '', /not trusted \((?:DEPTH_ZERO_)?SELF_SIGNED_CERT|UNABLE_TO_/)
  t.regex(first?.forClient ?? '', /^the keys of the client could not be fetched: the certificate/)
  t.regex(again?.forOperator ?? '', /a moment ago: the certificate of the host is not trusted/)
  t.regex(again?.forClient ?? '', /the certificate of its host is not trusted \(a moment ago\)/)
})

test('tells a client the same of a host inside and of one that there is not', async (t) => {
  const problemOf = async (addresses: string[]) => {
    const guarded = createGuardedFetch({ resolve: async () => addresses })
    return findFetchProblem(await t.throwsAsync(guarded('https://keys.example/')))
  }
  const [inside, nowhere] = [await problemOf(['10.0.0.1']), await problemOf([])]
  t.is(inside?.forClient, nowhere?.forClient)
  t.not(inside?.forOperator, nowhere?.forOperator)
  t.is(findFetchProblem(new Error('another')), undefined)
})

for (const [what, handler] of [
  ['an error', (_request, response) => response.writeHead(500).end()],
  ['no answer', (request) => request.socket.destroy()],
] satisfies [string, Handler][]) {
  test(`asks later and later after ${what}`, async (t) => {
    let time = 0
    const limits = { firstPauseMs: 10, longestPauseMs: 25, perMinutePerRequester: 99 }
    const { asked, guarded, url } = await keyServer(t, handler, { limits, now: () => time })
    const attempt = () => guarded(url).catch(() => {})
    for (time = 0; time < 100; time += 1) await attempt()
    // At 0, and after pauses of 10, 20 and then 25 each.
    t.is(asked.length, 5)
    await fetchRefused(t, 'failed_before', guarded(url))
    time = 200
    await attempt()
    t.is(asked.length, 6)
  })
}

for (const [address, network] of [
  ['192.0.2.7', '192.0.2.7'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['2001:db8:1:2::6', '2001:db8:1:2::/64'],
  ['2001:0db8:0001:0002:ffff:ffff:ffff:ffff', '2001:db8:1:2::/64'],
  ['2001:db8::1', '2001:db8:0:0::/64'],
  ['::1', '0:0:0:0::/64'],
  ['::ffff:192.0.2.7', '192.0.2.7'],
  ['::ffff:c000:207', '192.0.2.7'],
  ['192.0.2.7:443', '192.0.2.7'],
  ['[2001:db8:1:2::6]:443', '2001:db8:1:2::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64'],
] as const) {
  test(`${address} is of ${network}`, (t) => t.is(networkOf(address), network))
}

test('IPv6 counts for the /48 around it as well, and IPv4 for one network', (t) => {
  t.deepEqual(networksOf('2001:db8:1:2::6'), { near: '2001:db8:1:2::/64', wide: '2001:db8:1::/48' })
  t.deepEqual(networksOf('::ffff:192.0.2.7'), { near: '192.0.2.7', wide: undefined })
})

for (const host of [
  'localhost',
  'localhost.',
  'LOCALHOST',
  'app.localhost',
  '127.0.0.1',
  '127.8.9.10',
  '0.0.0.0',
  '2130706433',
  '0x7f.1',
  '0177.0.0.1',
  '[::1]',
  '[::]',
  '[::ffff:127.0.0.1]',
  '[::ffff:0.0.0.0]',
  '[0:0:0:0:0:0:0:1]',
]) {
  test(`finds this machine at ${host}`, (t) => {
    t.true(isOfThisMachine(new URL(`http://${host}/`).hostname))
  })
}

for (const host of [
  'shop.example',
  'localhost.example',
  'notlocalhost',
  '128.0.0.1',
  '10.0.0.1',
  '127.0.0.1.example',
  '[2001:db8::1]',
  '[::ffff:192.0.2.1]',
]) {
  test(`finds another machine at ${host}`, (t) => {
    t.false(isOfThisMachine(new URL(`http://${host}/`).hostname))
  })
}

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

const uriRefused: [string, string, string][] = [
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

for (const [what, uri, expected] of uriRefused) {
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

const isTrusted = trustedPeers(['10.1.0.0/16', '192.0.2.7', 'fd00::/8', '2001:db8::1'])

test('trusts addresses inside the networks', (t) => {
  for (const address of ['10.1.2.3', '192.0.2.7', 'fd12::3', '2001:db8::1', '::ffff:10.1.2.3']) {
    t.true(isTrusted(address), address)
  }
})

test('trusts nobody else', (t) => {
  for (const address of ['10.2.0.1', '192.0.2.8', 'fe80::1', '2001:db8::2', '::ffff:10.2.0.1']) {
    t.false(isTrusted(address), address)
  }
})

test('trusts no peer without an address', (t) => {
  t.false(isTrusted(undefined))
  t.false(isTrusted(''))
  t.false(isTrusted('proxy.internal'))
})

test('trusts nobody where nobody is named', (t) => {
  t.false(trustedPeers([])('127.0.0.1'))
})

test('names what is no network', (t) => {
  for (const network of ['', 'proxy', '10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', '10.0.0.0/-1']) {
    const error = t.throws(() => trustedPeers([network]), { instanceOf: TypeError })
    t.true(error.message.includes(`"${network}"`))
  }
})
