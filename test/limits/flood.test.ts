import test from 'ava'
import { callback, createPerson, newKey, obtainCode, post } from '../support/flow.ts'
import { query } from '../support/query.ts'
import { publicClient, useTestServer } from '../support/server.ts'

/** Limits as they are delivered, those of pages but smaller; the proxy that names clients is us. */
const server = useTestServer(test, {
  HOLDFAST_AUTHORIZE_LIMIT: '20',
  HOLDFAST_DEVICE_FLOW: 'on',
  HOLDFAST_DEVICE_PAGE_LIMIT: '20',
  HOLDFAST_EDGE_REFUSAL_LIMIT: '60',
  HOLDFAST_PAR_LIMIT: '20',
  HOLDFAST_REFUSAL_LIMIT: '120',
  HOLDFAST_TRUSTED_PROXIES: '127.0.0.1',
})

/** A fetch from an address. */
const from =
  (address: string): typeof globalThis.fetch =>
  (input, init) => {
    const headers = new Headers(init?.headers)
    headers.set('x-forwarded-for', address)
    return fetch(input, { ...init, headers })
  }

/** The rows of every table. */
async function countRows(): Promise<number> {
  await server.flushAudit()
  const tables = await query(
    server.databaseUrl,
    `select quote_ident(relname) as name from pg_class
      where relkind = 'r' and relnamespace = 'public'::regnamespace`,
  )
  const counts = tables.map(({ name }) => `(select count(*) from ${name})`)
  const [row] = await query(server.databaseUrl, `select ${counts.join(' + ')} as rows`)
  return Number(row?.rows)
}

/** Sends requests, twenty at a time, and says how often each status came. */
async function flood(
  send: (at: number) => Promise<Response>,
  times = 1000,
): Promise<Record<number, number>> {
  const statuses: Record<number, number> = {}
  for (let at = 0; at < times; at += 20) {
    const answers = await Promise.all(Array.from({ length: 20 }, (_, more) => send(at + more)))
    for (const answer of answers) {
      await answer.arrayBuffer()
      statuses[answer.status] = (statuses[answer.status] ?? 0) + 1
    }
  }
  return statuses
}

const credentials = { authorization: `Basic ${btoa('nobody:guessed')}` }
const guess = (address: string) =>
  from(address)(`${server.issuer}/token`, {
    method: 'POST',
    headers: credentials,
    body: new URLSearchParams({ grant_type: 'client_credentials' }),
  })

test.serial('a thousand forged certificates write no row each, and keep nobody out', async (t) => {
  const before = await countRows()
  const forge = from('192.0.2.1')
  const paths = ['/jwks', '/userinfo', '/authorize', '/.well-known/openid-configuration']
  const statuses = await flood((at) =>
    forge(server.issuer + paths[at % paths.length], { headers: { 'client-cert': `:${at}:` } }),
  )
  t.true((statuses[400] ?? 0) >= 60)
  t.true((statuses[429] ?? 0) > 100, JSON.stringify(statuses))
  t.true((await countRows()) - before <= 8)
  t.is((await forge(`${server.issuer}/jwks`)).status, 200)
})

test.serial('a thousand guesses of a client secret write no row each', async (t) => {
  const before = await countRows()
  const statuses = await flood(() => guess('192.0.2.2'))
  t.true((statuses[401] ?? 0) >= 120)
  t.true((statuses[429] ?? 0) > 100, JSON.stringify(statuses))
  t.true((await countRows()) - before <= 8)
  t.is((await guess('192.0.2.3')).status, 401)
})

test.serial('guesses from many networks write no row each', async (t) => {
  const before = await countRows()
  const ofWide = await flood((at) => guess(`2001:db8:1:${at.toString(16)}::1`), 400)
  t.deepEqual(ofWide, { 401: 400 })
  const ofMany = await flood((at) => guess(`10.0.${at >> 8}.${at & 255}`), 400)
  t.deepEqual(ofMany, { 401: 400 })
  const counted = await query(
    server.databaseUrl,
    'select count(*)::int as rows from counted_events group by minute',
  )
  // A network each until there are 200 of a minute, and then all others together, by event.
  for (const { rows } of counted) t.true(Number(rows) <= 210)
  t.true((await countRows()) - before <= counted.length * 210)
  const shared = "select from rate_limits where key like 'refusals:%'"
  t.is((await query(server.databaseUrl, shared)).length, 1)
})

test.serial('a flood of pages and pushed requests keeps out no signed-in browser', async (t) => {
  const client = await server.addClient(publicClient)
  const stranger = from('192.0.2.4')
  const known = createPerson(server, { fetch: stranger })
  await obtainCode(known, client)
  const before = await countRows()
  const authorization = new URLSearchParams({
    client_id: client.client_id,
    redirect_uri: callback,
    response_type: 'code',
    scope: 'openid',
    code_challenge: 'x'.repeat(43),
    code_challenge_method: 'S256',
  })
  const headers = { accept: 'text/html' }
  for (const path of [`/authorize?${authorization}`, '/device']) {
    const ask = () => stranger(server.issuer + path, { headers, redirect: 'manual' })
    const statuses = await flood(ask, 200)
    t.true((statuses[429] ?? 0) > 100, `${path} ${JSON.stringify(statuses)}`)
    const page = await untilLimited(ask)
    t.true((await page.text()).includes('Too many requests'))
    for (let count = 0; count < 10; count += 1) {
      t.not((await known.browser.visit(server.issuer + path, { until: callback })).status, 429)
    }
  }
  const push = () => stranger(`${server.issuer}/par`, { method: 'POST', body: authorization })
  const statuses = await flood(push, 200)
  t.true((statuses[429] ?? 0) > 100, JSON.stringify(statuses))
  const answer = await untilLimited(push)
  t.like(await answer.json(), { error: 'temporarily_unavailable' })
  t.true(Number(answer.headers.get('retry-after')) > 0)
  t.true((await countRows()) - before <= 50)
  const { exchange } = await obtainCode(known, client)
  const key = await newKey()
  t.is((await post(server, '/token', exchange, { key, fetch: stranger })).status, 200)
})

/** A token may have come back since the limit was reached. */
async function untilLimited(ask: () => Promise<Response>): Promise<Response> {
  const answer = await ask()
  return answer.status === 429 ? answer : untilLimited(ask)
}

test.serial('a browser with a session has a budget of its own, and no more', async (t) => {
  const client = await server.addClient(publicClient)
  const fetch = from('192.0.2.5')
  const known = createPerson(server, { fetch })
  await obtainCode(known, client)
  let pages = 0
  while ((await known.browser.visit(`${server.issuer}/device`)).status === 200) pages += 1
  t.true(pages >= 70, String(pages))
})
