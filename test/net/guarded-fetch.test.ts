import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, createServer as createTcpServer } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import {
  createGuardedFetch,
  type GuardedFetchErrorCode,
  type GuardedFetchOptions,
  isPublicAddress,
} from '../../src/net/guarded-fetch.ts'

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

async function refused(
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
    await refused(t, 'special_address', guarded(`https://keys.evil.example:${port}/`))
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
    await refused(t, 'special_address', guarded(`https://${host}:${port}/`))
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
  await refused(t, 'unreachable', guarded(`https://keys.evil.example:${port}/`))
  t.is(counts.connections, 1)
  await refused(t, 'special_address', guarded(`https://keys.evil.example:${port}/`))
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
    await refused(t, 'not_https', createGuardedFetch({ resolve })(url))
  })
}

test('refuses a name without an address', async (t) => {
  const guarded = createGuardedFetch({ resolve: async () => [] })
  await refused(t, 'unreachable', guarded('https://keys.example/'))
})

test('follows no redirect', async (t) => {
  const { asked, guarded, url } = await keyServer(t, (_request, response) => {
    response.writeHead(302, { location: '/elsewhere' }).end()
  })
  await refused(t, 'redirected', guarded(url))
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
    await refused(t, 'too_large', guarded(url))
  })
}

for (const [what, handler] of [
  ['says nothing', () => {}],
  ['stops in the middle', (_request, response) => response.write('{"keys":')],
] satisfies [string, Handler][]) {
  test(`waits for no server that ${what}`, async (t) => {
    const { guarded, url } = await keyServer(t, handler, { limits: { patienceMs: 50 } })
    await refused(t, 'timed_out', guarded(url))
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
  await refused(t, 'too_many', guarded(`${url}/3`, { requester: 'one' }))
  await guarded(url, { requester: 'two' })
  await refused(t, 'too_many', guarded(url, { requester: 'three' }))
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
  await refused(t, 'too_many', guarded(url, { requester: 'one' }))
  await refused(t, 'too_many', guarded(url, { requester: 'three' }))
  while (waiting.length < 2) await new Promise(setImmediate)
  for (const answer of waiting) answer()
  await Promise.all([one, two])
  const again = guarded(url, { requester: 'one' })
  while (waiting.length < 3) await new Promise(setImmediate)
  waiting[2]?.()
  t.is((await again).status, 200)
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
    await refused(t, 'failed_before', guarded(url))
    time = 200
    await attempt()
    t.is(asked.length, 6)
  })
}
