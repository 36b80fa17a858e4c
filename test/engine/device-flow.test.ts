import { hash, randomBytes } from 'node:crypto'
import test from 'ava'
import { decodeJwt } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { sessionBindingName } from '../../src/bindings/session-claims.ts'
import { type KeyPair, makeProof } from '../../src/doctor/proof.ts'
import { createUserCodes } from '../../src/engine/device-grant.ts'
import { selfSigned, type TestCertificate } from '../support/certificates.ts'
import {
  approve,
  askForCode,
  deviceEnvironment,
  deviceGrant,
  letIn,
  redeem,
  television,
  typeCode,
} from '../support/device-flow.ts'
import {
  basic,
  createPerson,
  newKey,
  obtainCode,
  type Person,
  type PostOptions,
  post,
  refreshing,
} from '../support/flow.ts'
import { race } from '../support/lock.ts'
import { useMtlsServer } from '../support/mtls.ts'
import { query } from '../support/query.ts'
import { initialToken, register } from '../support/registration.ts'
import { type Node, startSecondNode } from '../support/second-node.ts'
import { api, publicClient, useTestServer } from '../support/server.ts'
import { behindProxy, forwarded, newId } from '../support/token-binding.ts'

const server = useTestServer(test, deviceEnvironment)
let client: ClientMetadata
let bearer: ClientMetadata
let key: KeyPair
let thief: KeyPair

test.before(async () => {
  client = await server.addClient(television)
  bearer = await server.addClient({ ...television, binding_method: 'bearer' })
  key = await newKey()
  thief = await newKey()
})

const error = async (answer: Promise<{ body: { error?: string } }>) => (await answer).body.error

/** A code that waits for a person. */
async function ask(parameters: Record<string, string> = {}) {
  const { body } = await askForCode(server, client, { key }, parameters)
  return body as { device_code: string; user_code: string }
}

/** A code that a person has said yes to. */
async function askAndApprove(parameters: Record<string, string> = {}) {
  const asked = await ask(parameters)
  const person = createPerson(server)
  const page = await approve(server, person, asked.user_code)
  return { ...asked, person, page }
}

const setDue = (deviceCode: string, interval: string) =>
  query(
    server.databaseUrl,
    `update device_polls set due = now() + $2::interval where id = sha256(convert_to($1, 'UTF8'))`,
    [deviceCode, interval],
  )

/** Lets time pass for a device that waits. */
const wait = (deviceCode: string) => setDue(deviceCode, '0 seconds')

/** Has a device ask too early, however slow this machine is. */
const hurry = (deviceCode: string) => setDue(deviceCode, '1 hour')

test('from a code to tokens that are bound to the key that asked for it', async (t) => {
  const answer = await askForCode(server, client, { key }, { resource: api, scope: 'read' })
  t.is(answer.status, 200)
  const { device_code, user_code, ...rest } = answer.body
  t.regex(user_code, /^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$/)
  t.deepEqual(rest, {
    verification_uri: `${server.issuer}/device`,
    verification_uri_complete: `${server.issuer}/device?user_code=${user_code}`,
    expires_in: 600,
    interval: 5,
  })
  t.is(await error(redeem(server, client, device_code, { key })), 'authorization_pending')
  const page = await approve(server, createPerson(server), user_code)
  t.is(page.status, 200)
  t.regex(page.html, /Your device is connected/)
  const { status, body } = await redeem(server, client, device_code, { key })
  t.is(status, 200)
  t.is(body.token_type, 'DPoP')
  t.truthy((decodeJwt(body.access_token).cnf as { jkt: string }).jkt)
  const refreshed = await post(server, '/token', refreshing(client, body.refresh_token), { key })
  t.is(refreshed.status, 200)
})

test('the metadata names the endpoint and the grant', async (t) => {
  const response = await fetch(`${server.issuer}/.well-known/openid-configuration`)
  const metadata = (await response.json()) as Record<string, string | string[]>
  t.is(metadata.device_authorization_endpoint, `${server.issuer}/device_authorization`)
  t.true(metadata.grant_types_supported?.includes(television.grant_types?.[0] ?? ''))
})

test('asking without a proof is refused, and makes no code', async (t) => {
  const { status, body } = await askForCode(server, client)
  t.is(status, 400)
  t.is(body.error, 'invalid_request')
  t.regex(body.error_description, /a DPoP proof is required/)
})

test('a proof for the token endpoint does not ask for a code', async (t) => {
  const proof = await makeProof(key, { method: 'POST', url: `${server.issuer}/token` })
  t.is(await error(askForCode(server, client, { proof })), 'invalid_dpop_proof')
})

test('a proof asks for one code', async (t) => {
  const url = `${server.issuer}/device_authorization`
  const proof = await makeProof(key, { method: 'POST', url })
  t.is((await askForCode(server, client, { proof })).status, 200)
  const again = await askForCode(server, client, { proof })
  t.is(again.body.error, 'invalid_request')
  t.regex(again.body.error_description, /Replay/)
})

test('another key redeems nothing, and consumes nothing', async (t) => {
  const { device_code } = await askAndApprove()
  const stolen = await redeem(server, client, device_code, { key: thief })
  t.is(stolen.status, 400)
  t.is(stolen.body.error, 'invalid_grant')
  t.is((await redeem(server, client, device_code, { key })).status, 200)
})

test('does not show another key whether a user has decided, and slows no one', async (t) => {
  const { device_code } = await ask()
  t.is(await error(redeem(server, client, device_code, { key: thief })), 'invalid_grant')
  t.is(await error(redeem(server, client, device_code, { key: thief })), 'invalid_grant')
  t.is(await error(redeem(server, client, device_code, { key })), 'authorization_pending')
})

test('another client redeems nothing', async (t) => {
  const { device_code } = await askAndApprove()
  const other = await server.addClient(television)
  t.is(await error(redeem(server, other, device_code, { key })), 'invalid_grant')
  t.is((await redeem(server, client, device_code, { key })).status, 200)
})

test('no proof redeems nothing', async (t) => {
  const { device_code } = await askAndApprove()
  t.is(await error(redeem(server, client, device_code)), 'invalid_grant')
  t.is((await redeem(server, client, device_code, { key })).status, 200)
})

test('a confidential client authenticates at the device authorization endpoint', async (t) => {
  const confidential = await server.addClient({
    ...television,
    token_endpoint_auth_method: 'client_secret_basic',
  })
  const headers = basic(confidential)
  t.is((await askForCode(server, confidential, { key, headers })).status, 200)
  const wrong = basic({ ...confidential, client_secret: 'wrong' })
  const refused = await askForCode(server, confidential, { key, headers: wrong })
  t.is(refused.body.error, 'invalid_client')
})

test('a client of bearer tokens needs no key', async (t) => {
  const { body } = await askForCode(server, bearer)
  await approve(server, createPerson(server), body.user_code)
  const answer = await redeem(server, bearer, body.device_code)
  t.is(answer.status, 200)
  t.is(answer.body.token_type, 'Bearer')
})

test('a client of bearer tokens that shows a key is held to it', async (t) => {
  const { body } = await askForCode(server, bearer, { key })
  await approve(server, createPerson(server), body.user_code)
  t.is(await error(redeem(server, bearer, body.device_code)), 'invalid_grant')
  t.is((await redeem(server, bearer, body.device_code, { key })).status, 200)
})

test('a client that was not registered for it gets no code', async (t) => {
  const other = await server.addClient()
  t.is(await error(askForCode(server, other, { key })), 'invalid_request')
})

test('rejects a user code as a device code', async (t) => {
  const { device_code, user_code } = await askAndApprove()
  const [row] = await query(
    server.databaseUrl,
    `select uid, encode(id, 'base64') as id from artifacts
      where kind = 'DeviceCode' and id = sha256(convert_to($1, 'UTF8'))`,
    [device_code],
  )
  for (const guess of [user_code, String(row?.uid), String(row?.id)]) {
    t.is(await error(redeem(server, client, guess, { key })), 'invalid_grant')
  }
})

test('the database holds neither of the two codes', async (t) => {
  const { device_code, user_code } = await askAndApprove()
  const rows = await query(server.databaseUrl, 'select a::text as row from artifacts a')
  const text = rows.map(({ row }) => row).join('\n')
  t.true(rows.length > 0)
  for (const secret of [device_code, user_code, user_code.replace('-', '')]) {
    t.false(text.includes(secret))
  }
})

test('sooner than the interval is slow_down, and five seconds more from then on', async (t) => {
  const { device_code } = await ask()
  const poll = () => error(redeem(server, client, device_code, { key }))
  t.is(await poll(), 'authorization_pending')
  await hurry(device_code)
  t.is(await poll(), 'slow_down')
  await hurry(device_code)
  t.is(await poll(), 'slow_down')
  const [row] = await query(
    server.databaseUrl,
    `select pause, due > now() as later from device_polls
      where id = sha256(convert_to($1, 'UTF8'))`,
    [device_code],
  )
  t.deepEqual(row, { pause: 15, later: true })
  await wait(device_code)
  t.is(await poll(), 'authorization_pending')
})

test('a proof that was shown while waiting is used up', async (t) => {
  const { device_code } = await ask()
  const proof = await makeProof(key, { method: 'POST', url: `${server.issuer}/token` })
  const poll = () => error(redeem(server, client, device_code, { proof }))
  t.is(await poll(), 'authorization_pending')
  t.is(await poll(), 'invalid_grant')
  await wait(device_code)
  t.is(await error(redeem(server, client, device_code, { key })), 'authorization_pending')
})

test('returns access_denied to the device after denial', async (t) => {
  const { device_code, user_code } = await ask()
  const person = createPerson(server)
  const confirm = await typeCode(server, person, user_code)
  const page = await person.browser.submit(confirm, 'This was not me', { abort: 'yes' })
  t.regex(page.html, /not connected/)
  t.is(await error(redeem(server, client, device_code, { key: thief })), 'invalid_grant')
  t.is(await error(redeem(server, client, device_code, { key })), 'access_denied')
})

test('no at the consent page is heard as well', async (t) => {
  const { device_code, user_code } = await ask()
  const { browser } = createPerson(server)
  const confirm = await typeCode(server, { browser } as never, user_code)
  const login = await browser.submit(confirm, 'Continue', { confirm: 'yes' })
  const page = await browser.submit(login, 'Sign in', {
    email: 'ada@example.com',
    password: 'correct horse battery staple',
  })
  t.regex(page.html, /your other device/)
  const uid = /interaction\/([^/"]+)\/abort/.exec(page.html)?.[1]
  const denied = await browser.submit(
    { ...page, html: page.html.replaceAll(`${uid}/confirm`, `${uid}/abort`) },
    'Deny',
  )
  t.regex(denied.html, /not connected/)
  t.is(await error(redeem(server, client, device_code, { key })), 'access_denied')
})

test('an expired code is expired_token, and nobody can let it in', async (t) => {
  const { device_code, user_code } = await ask()
  const person = createPerson(server)
  const confirm = await typeCode(server, person, user_code)
  await query(
    server.databaseUrl,
    `update artifacts set expires_at = expires_at - interval '10 minutes', payload =
            regexp_replace(payload::text, '"exp":\\d+', '"exp":1000000000')::json
      where kind = 'DeviceCode' and id = sha256(convert_to($1, 'UTF8'))`,
    [device_code],
  )
  const page = await person.browser.submit(confirm, 'Continue', { confirm: 'yes' })
  t.regex(page.html, /has expired/)
  t.is(await error(redeem(server, client, device_code, { key })), 'expired_token')
})

test('a code is redeemed once, and one that comes back later ends what came of it', async (t) => {
  const { device_code } = await askAndApprove()
  const { body } = await redeem(server, client, device_code, { key })
  t.is(await error(redeem(server, client, device_code, { key: thief })), 'invalid_grant')
  const refreshed = await post(server, '/token', refreshing(client, body.refresh_token), { key })
  t.is(refreshed.status, 200)
  t.is(await error(redeem(server, client, device_code, { key })), 'invalid_grant')
  const { refresh_token } = refreshed.body
  t.is(
    await error(post(server, '/token', refreshing(client, refresh_token), { key })),
    'invalid_grant',
  )
})

test('a user code is one in lower case, and with other signs between its letters', async (t) => {
  const { user_code } = await ask()
  const letters = user_code.replace('-', '')
  const person = createPerson(server)
  for (const sign of ['', ' ', '-', '_', '.']) {
    const page = await typeCode(server, person, [...letters.toLowerCase()].join(sign))
    t.regex(page.html, /I started this/, `with ${JSON.stringify(sign)}`)
  }
})

for (const [what, typed] of [
  ['an unknown code', 'BBBB-BBBB'],
  ['no code', ''],
  ['a code with U+0000', 'BBBB\0BBBB'],
  ['half of a character', 'BBBB\ud800'],
  ['a huge code', 'B'.repeat(10_000)],
] as const) {
  test(`${what} is asked for again`, async (t) => {
    const page = await typeCode(server, createPerson(server), typed)
    t.is(page.status, 400)
    t.regex(page.html, /role="alert"/)
    t.regex(page.html, /name="user_code"/)
  })
}

test('missing and repeated parameters are refused', async (t) => {
  const { device_code } = await ask()
  const none = await post(
    server,
    '/token',
    { grant_type: television.grant_types?.[0] ?? '', client_id: client.client_id },
    { key },
  )
  t.is(none.body.error, 'invalid_request')
  const url = `${server.issuer}/device_authorization`
  const twice = await fetch(url, {
    method: 'POST',
    headers: {
      dpop: await makeProof(key, { method: 'POST', url }),
      'content-type': 'application/x-www-form-urlencoded',
    },
    body: `client_id=${client.client_id}&scope=openid&scope=email`,
  })
  t.is(twice.status, 400)
  for (const odd of ['\0', 'x'.repeat(20_000), `${device_code}\0`]) {
    t.is(await error(redeem(server, client, odd, { key })), 'invalid_grant')
  }
})

test('U+0000 in what a device asks for is kept, and hinders nothing', async (t) => {
  const { body } = await askForCode(server, client, { key }, { login_hint: 'ada\0' })
  await approve(server, createPerson(server), body.user_code)
  t.is((await redeem(server, client, body.device_code, { key })).status, 200)
})

test('a code in the address fills the form in, and still has to be confirmed', async (t) => {
  const { device_code, user_code } = await ask()
  const person = createPerson(server)
  const url = `${server.issuer}/device?user_code=${user_code}`
  const page = await person.browser.visit(url)
  t.true(page.html.includes(`value="${user_code}"`))
  t.false(page.html.includes('<script'))
  const confirm = await person.browser.submit(page, 'Continue', { user_code })
  t.regex(confirm.html, /Living room television/)
  t.regex(confirm.html, /Locked to a key/)
  t.regex(confirm.html, /127\.0\.0\.1/)
  const unchecked = await person.browser.submit(confirm, 'Continue')
  t.regex(unchecked.html, /I started this/)
  t.is(await error(redeem(server, client, device_code, { key })), 'authorization_pending')
  t.regex((await letIn(person, unchecked)).html, /is connected/)
})

test('an address cannot put markup into the form', async (t) => {
  const url = `${server.issuer}/device?user_code=${encodeURIComponent('"><b>x')}`
  const { html } = await createPerson(server).browser.visit(url)
  t.false(html.includes('<b>x'))
})

test('the form of another site or of another browser does nothing', async (t) => {
  const { device_code, user_code } = await ask()
  const fields = { user_code, confirm: 'yes', xsrf: 'made up' }
  const foreign = await post(server, '/device', fields, {
    headers: { origin: 'https://evil.example' },
  })
  t.is(foreign.status, 403)
  const confirm = await typeCode(server, createPerson(server), user_code)
  const other = createPerson(server)
  await other.browser.visit(`${server.issuer}/device`)
  const page = await other.browser.submit(confirm, 'Continue', { confirm: 'yes' })
  t.is(page.status, 400)
  t.is(await error(redeem(server, client, device_code, { key })), 'authorization_pending')
})

test('keeps little, and not for long, before a code is typed', async (t) => {
  await createPerson(server).browser.visit(`${server.issuer}/device`)
  const rows = await query(
    server.databaseUrl,
    `select from artifacts where kind = 'Session' and payload->>'accountId' is null
        and expires_at > now() + interval '61 minutes'`,
  )
  t.is(rows.length, 0)
})

test('the end of an interaction that is not this browser’s is a page, and changes nothing', async (t) => {
  const { device_code, user_code } = await ask()
  const person = createPerson(server)
  const confirm = await typeCode(server, person, user_code)
  const page = await person.browser.submit(confirm, 'Continue', { confirm: 'yes' })
  const uid = /interaction\/([^/"]+)\/login/.exec(page.html)?.[1]
  const { status, html } = await createPerson(server).browser.visit(
    `${server.issuer}/device/${uid}`,
  )
  t.is(status, 400)
  t.regex(html, /This page is out of date/)
  t.is(await error(redeem(server, client, device_code, { key })), 'authorization_pending')
  // Back to the page before, and sent once more.
  const back = await person.browser.submit(confirm, 'Continue', { confirm: 'yes' })
  t.is(back.status, 400)
  t.regex(back.html, /out of date/)
  const again = await person.browser.submit(back, 'Continue', { user_code })
  t.regex(again.html, /has been used/)
})

test('an account that was disabled meanwhile gets its device nothing', async (t) => {
  const eve = { email: 'eve@example.com', password: 'another horse, another battery' }
  const { id } = await createAccounts({ store: server.storage.accounts }).add(eve)
  const { device_code, user_code } = await ask()
  const person = createPerson(server)
  await letIn(person, await typeCode(server, person, user_code), eve)
  await query(server.databaseUrl, 'update accounts set disabled_at = now() where id = $1', [id])
  t.is(await error(redeem(server, client, device_code, { key })), 'invalid_grant')
  await query(server.databaseUrl, 'update accounts set disabled_at = null where id = $1', [id])
  t.is((await redeem(server, client, device_code, { key })).status, 200)
})

for (const scope of ['openid', 'openid offline_access']) {
  test(`${scope}: a session that was ended meanwhile gets its device nothing`, async (t) => {
    const { device_code } = await askAndApprove({ scope, prompt: 'consent' })
    const [row] = await query(
      server.databaseUrl,
      'select session_uid from artifacts where id = sha256(convert_to($1, $2))',
      [device_code, 'UTF8'],
    )
    t.true(await server.storage.browserSessions.end(String(row?.session_uid)))
    t.is(await error(redeem(server, client, device_code, { key })), 'invalid_grant')
  })
}

test('an ID token says what holds the session, and does not name its key as its own', async (t) => {
  const { device_code } = await askAndApprove()
  const [row] = await query(
    server.databaseUrl,
    'select session_uid from artifacts where id = sha256(convert_to($1, $2))',
    [device_code, 'UTF8'],
  )
  await query(
    server.databaseUrl,
    `insert into session_bindings (uid, method, jkt, alg, jwk) values ($1, 'dbsc', 'a key', 'ES256', '{}')`,
    [row?.session_uid],
  )
  const { body } = await redeem(server, client, device_code, { key })
  const claims = decodeJwt(body.id_token)
  t.is(claims[sessionBindingName], 'dbsc')
  t.is(claims.cnf, undefined)
  t.is(claims.dbsc_session, undefined)
  const { body: next } = await post(server, '/token', refreshing(client, body.refresh_token), {
    key,
  })
  t.is(decodeJwt(next.id_token).cnf, undefined)
})

test('the audit trail and the metrics tell of each step', async (t) => {
  const { device_code, user_code } = await askAndApprove()
  await redeem(server, client, device_code, { key })
  await redeem(server, client, (await ask()).device_code, { key })
  const denied = await ask()
  const person = createPerson(server)
  const confirm = await typeCode(server, person, denied.user_code)
  await person.browser.submit(confirm, 'This was not me', { abort: 'yes' })
  await typeCode(server, person, 'ZZZZ-ZZZZ')
  await server.flushAudit()
  const rows = await query(server.databaseUrl, 'select event, details::text from audit_events')
  const counted = await server.storage.countedEvents.list({ limit: 1000 })
  const events = new Set([...rows, ...counted].map(({ event }) => event))
  for (const event of ['issued', 'approved', 'denied']) t.true(events.has(`device_code.${event}`))
  t.true(events.has('user_code.unknown'))
  const text = JSON.stringify([rows, counted]) + server.logged.join('')
  for (const secret of [device_code, user_code]) t.false(text.includes(secret))
  t.false(rows.some(({ details }) => String(details).includes('authorization_pending')))
  const metrics = await (await fetch(`http://${server.operators}/metrics`)).text()
  t.regex(metrics, /holdfast_device_codes_total\{outcome="approved"\} [1-9]/)
  t.regex(metrics, /holdfast_refusals_total\{[^}]*reason="authorization_pending"[^}]*\} [1-9]/)
})

const environment = {
  ...deviceEnvironment,
  HOLDFAST_SECRET: 'a secret of two nodes, which is long enough',
}
const raceServer = useTestServer(test, environment)
let other: Node
let raceClient: ClientMetadata
let bearerClient: ClientMetadata
let raceKey: KeyPair

test.before(async () => {
  other = await startSecondNode(raceServer, environment)
  raceClient = await raceServer.addClient(television)
  bearerClient = await raceServer.addClient({ ...television, binding_method: 'bearer' })
  raceKey = await newKey()
})

test.after.always('closes the other node', () => other?.[Symbol.asyncDispose]())

const nodes = () => [{ fetch: globalThis.fetch }, { fetch: other.fetch }]

async function newCode(who = raceClient) {
  const { body } = await askForCode(raceServer, who, { key: raceKey })
  return body as { device_code: string; user_code: string }
}

function outcomes(answers: { status: number; body: { error?: string } }[]) {
  const losers = answers.filter(({ status }) => status !== 200)
  return {
    won: answers.length - losers.length,
    lost: [...new Set(losers.map(({ body }) => body.error))],
  }
}

/** Somebody who has the page in front of them on which the code is to be compared. */
async function atConfirmation(userCode: string, fetch: typeof globalThis.fetch) {
  const person = createPerson(raceServer, { fetch })
  return { person, confirm: await typeCode(raceServer, person, userCode) }
}

const sayYes = ({ browser }: Person, confirm: Awaited<ReturnType<typeof typeCode>>) =>
  browser.submit(confirm, 'Continue', { confirm: 'yes' })

test.serial(
  'sixteen redemptions at once at two nodes: one success, and it keeps its tokens',
  async (t) => {
    const { device_code, user_code } = await newCode()
    await approve(raceServer, createPerson(raceServer), user_code)
    const answers = await Promise.all(
      Array.from({ length: 16 }, (_, at) =>
        redeem(raceServer, raceClient, device_code, { key: raceKey, ...nodes()[at % 2] }),
      ),
    )
    t.deepEqual(outcomes(answers), { won: 1, lost: ['invalid_grant'] })
  },
)

test.serial('redemptions that have both found the code: one success', async (t) => {
  const { device_code, user_code } = await newCode()
  await approve(raceServer, createPerson(raceServer), user_code)
  const answers = await race(
    raceServer.databaseUrl,
    'DeviceCode',
    nodes().map((by) => () => redeem(raceServer, raceClient, device_code, { key: raceKey, ...by })),
  )
  t.deepEqual(outcomes(answers), { won: 1, lost: ['invalid_grant'] })
  const { refresh_token } = answers.find(({ status }) => status === 200)?.body ?? {}
  const next = await post(raceServer, '/token', refreshing(raceClient, refresh_token), {
    key: raceKey,
  })
  t.is(next.status, 200)
})

test.serial('a code of bearer tokens that was raced for ends what was issued', async (t) => {
  const { body } = await askForCode(raceServer, bearerClient)
  await approve(raceServer, createPerson(raceServer), body.user_code)
  const answers = await race(
    raceServer.databaseUrl,
    'DeviceCode',
    nodes().map((by) => () => redeem(raceServer, bearerClient, body.device_code, by)),
  )
  t.deepEqual(outcomes(answers), { won: 1, lost: ['invalid_grant'] })
  const { refresh_token } = answers.find(({ status }) => status === 200)?.body ?? {}
  const next = await post(raceServer, '/token', refreshing(bearerClient, refresh_token))
  t.is(next.body.error, 'invalid_grant')
})

test.serial('lets one of two users continue with one code', async (t) => {
  const { user_code } = await newCode()
  const people = await Promise.all(nodes().map(({ fetch }) => atConfirmation(user_code, fetch)))
  const pages = await race(
    raceServer.databaseUrl,
    'DeviceCode',
    people.map(
      ({ person, confirm }) =>
        () =>
          sayYes(person, confirm),
    ),
  )
  t.deepEqual(
    pages.map(({ html }) => (/>Sign in</.test(html) ? 'goes on' : 'used already')).sort(),
    ['goes on', 'used already'],
  )
})

test.serial('one says yes and another no: what came first, and never both', async (t) => {
  const { device_code, user_code } = await newCode()
  const [one, two] = await Promise.all(nodes().map(({ fetch }) => atConfirmation(user_code, fetch)))
  if (!one || !two) return t.fail()
  const [yes, no] = await race(raceServer.databaseUrl, 'DeviceCode', [
    () => sayYes(one.person, one.confirm),
    () => two.person.browser.submit(two.confirm, 'This was not me', { abort: 'yes' }),
  ])
  const goesOn = /Sign in/.test(yes?.html ?? '')
  t.is(/not connected/.test(no?.html ?? ''), !goesOn)
  const { body } = await redeem(raceServer, raceClient, device_code, { key: raceKey })
  t.is(body.error, goesOn ? 'authorization_pending' : 'access_denied')
})

test.serial('questions at once, at two nodes, are too many', async (t) => {
  const { device_code } = await newCode()
  const answers = await Promise.all(
    Array.from({ length: 8 }, (_, at) =>
      redeem(raceServer, raceClient, device_code, { key: raceKey, ...nodes()[at % 2] }),
    ),
  )
  const count = (name: string) => answers.filter(({ body }) => body.error === name).length
  t.true(count('authorization_pending') >= 1)
  t.true(count('slow_down') >= 4)
  t.is(count('authorization_pending') + count('slow_down'), 8)
})

test.serial('what one node has issued is decided and redeemed at another', async (t) => {
  const { body } = await askForCode(raceServer, raceClient, {
    key: raceKey,
    fetch: other.fetch,
  })
  await approve(raceServer, createPerson(raceServer), body.user_code)
  const answer = await redeem(raceServer, raceClient, body.device_code, {
    key: raceKey,
    fetch: other.fetch,
  })
  t.is(answer.status, 200)
})

const mtls = useMtlsServer(test, deviceEnvironment)
const bound = useTestServer(test, { ...deviceEnvironment, ...behindProxy })

const presenting = (certificate: TestCertificate): PostOptions => ({
  fetch: mtls.fetchWith(certificate),
  origin: mtls.mtlsOrigin,
})

async function askByCertificate() {
  const { server } = mtls
  const client = await server.addClient({ ...television, binding_method: 'mtls' })
  const own = presenting(await selfSigned())
  const { body } = await askForCode(server, client, own, { resource: api, scope: 'read' })
  await approve(server, createPerson(server), body.user_code)
  return { server, client, own, body }
}

test('a code of mutual TLS is redeemed by the certificate that asked for it', async (t) => {
  const { server, client, own, body } = await askByCertificate()
  const stolen = await redeem(server, client, body.device_code, presenting(await selfSigned()))
  t.is(stolen.body.error, 'invalid_grant')
  const answer = await redeem(server, client, body.device_code, own)
  t.is(answer.status, 200)
  t.truthy((decodeJwt(answer.body.access_token).cnf as Record<string, string>)['x5t#S256'])
})

test('the form is at the issuer, wherever the device has asked', async (t) => {
  const { server, body } = await askByCertificate()
  t.is(body.verification_uri, `${server.issuer}/device`)
  t.true(body.verification_uri_complete.startsWith(`${server.issuer}/device?user_code=`))
})

test('the metadata names where certificates are asked for', async (t) => {
  const response = await fetch(`${mtls.server.issuer}/.well-known/openid-configuration`)
  const { mtls_endpoint_aliases: aliases } = (await response.json()) as {
    mtls_endpoint_aliases: Record<string, string>
  }
  t.is(aliases.device_authorization_endpoint, `${mtls.mtlsOrigin}/device_authorization`)
})

test('without a certificate, or with one that has ended, there is no code', async (t) => {
  const { server } = mtls
  const client: ClientMetadata = await server.addClient({ ...television, binding_method: 'mtls' })
  const ended = await selfSigned({ notAfter: new Date(Date.now() - 1000) })
  for (const options of [{}, presenting(ended)]) {
    const { body } = await askForCode(server, client, options)
    t.is(body.error, 'invalid_request')
    t.regex(body.error_description, /client certificate/)
  }
})

test('a sign-in on the way to a device offers to bind the session', async (t) => {
  const { server } = mtls
  const client = await server.addClient(television)
  const key = await newKey()
  const offers: (string | null)[] = []
  const person = createPerson(server, {
    async fetch(...request) {
      const response = await fetch(...request)
      offers.push(response.headers.get('secure-session-registration'))
      return response
    },
  })
  const { body } = await askForCode(server, client, { key })
  await approve(server, person, body.user_code)
  t.true(offers.filter(Boolean).length > 0)
  t.is((await redeem(server, client, body.device_code, { key })).status, 200)
})

test('a code of Token Binding is redeemed by the key of the connection that asked', async (t) => {
  const client = await bound.addClient({ ...television, binding_method: 'token-binding' })
  const [own, referred] = [newId(), newId()]
  const connection = { headers: forwarded(own, referred) }
  const { body } = await askForCode(bound, client, connection)
  await approve(bound, createPerson(bound), body.user_code)
  for (const headers of [forwarded(newId(), referred), {}]) {
    const stolen = await redeem(bound, client, body.device_code, { headers })
    t.is(stolen.body.error, 'invalid_grant')
  }
  t.is((await redeem(bound, client, body.device_code, connection)).status, 200)
})

test('without a Token Binding there is no code', async (t) => {
  const client = await bound.addClient({ ...television, binding_method: 'token-binding' })
  const { body } = await askForCode(bound, client)
  t.is(body.error, 'invalid_request')
  t.regex(body.error_description, /Token Binding/)
})

test('a code stays bound when its client is registered for bearer tokens meanwhile', async (t) => {
  const client = await bound.addClient(television)
  const key = await newKey()
  const { body } = await askForCode(bound, client, { key })
  await approve(bound, createPerson(bound), body.user_code)
  await bound.storage.clients.remove(client.client_id)
  await bound.addClient({
    ...television,
    client_id: client.client_id,
    binding_method: 'bearer',
  })
  t.is((await askForCode(bound, client)).status, 200)
  for (const options of [{}, { key: await newKey() }]) {
    const { body: refused } = await redeem(bound, client, body.device_code, options)
    t.is(refused.error, 'invalid_grant')
  }
})

test('a code that is bound to nothing is worth nothing when its client has to be bound', async (t) => {
  const client = await bound.addClient({ ...television, binding_method: 'bearer' })
  const { body } = await askForCode(bound, client)
  await approve(bound, createPerson(bound), body.user_code)
  await bound.storage.clients.remove(client.client_id)
  await bound.addClient({ ...television, client_id: client.client_id })
  const { body: refused } = await redeem(bound, client, body.device_code, { key: await newKey() })
  t.is(refused.error, 'invalid_grant')
})

test('a client of bound ID tokens has no device flow', async (t) => {
  const asked = { ...television, id_token_token_binding_cnf: 'tbh' }
  await t.throwsAsync(bound.addClient(asked), { message: /not for the device flow/ })
})

const off = useTestServer(test, { HOLDFAST_REGISTRATION: 'on' })
const on = useTestServer(test, { HOLDFAST_REGISTRATION: 'on', ...deviceEnvironment })

const device = {
  client_name: 'Television',
  grant_types: [deviceGrant],
  response_types: [],
  token_endpoint_auth_method: 'none',
}

test('it is off by default: no endpoints, and the metadata names none', async (t) => {
  const response = await fetch(`${off.issuer}/.well-known/openid-configuration`)
  const metadata = (await response.json()) as Record<string, string[]>
  t.false('device_authorization_endpoint' in metadata)
  t.false(metadata.grant_types_supported?.includes(deviceGrant))
  const client = await off.addClient()
  t.is((await askForCode(off, client, { key: await newKey() })).status, 404)
  t.is((await fetch(`${off.issuer}/device`)).status, 404)
  const { body } = await redeem(off, client, 'code', { key: await newKey() })
  t.is(body.error, 'unsupported_grant_type')
})

test('rejects a registration for it where it is off, and says why', async (t) => {
  const expected = { message: /device_code needs HOLDFAST_DEVICE_FLOW=on/ }
  await t.throwsAsync(off.addClient(television), expected)
  const token = await initialToken(off, { grantTypes: [deviceGrant] })
  const { status, body } = await register(off, { token, key: await newKey(), body: device })
  t.is(status, 400)
  t.is(body.error, 'invalid_client_metadata')
  t.regex(body.error_description, expected.message)
})

test('another grant that is not known is not blamed on it', async (t) => {
  const asked = { ...television, grant_types: ['password'] }
  const error = await t.throwsAsync(off.addClient(asked))
  t.notRegex(error?.message ?? '', /HOLDFAST_DEVICE_FLOW/)
})

test('a client that was registered for it while it was on keeps its other grants', async (t) => {
  const grant_types = ['authorization_code', 'refresh_token', deviceGrant]
  const client = await on.addClient({ ...publicClient, grant_types })
  await off.storage.clients.insert(client)
  const key = await newKey()
  const { exchange } = await obtainCode(createPerson(off), client)
  t.is((await post(off, '/token', exchange, { key })).status, 200)
})

test('a client registers itself for it where the policy says so', async (t) => {
  const key = await newKey()
  const token = await initialToken(on, { grantTypes: [deviceGrant] })
  const { status, body } = await register(on, { token, key, body: device })
  t.is(status, 201)
  t.is((await askForCode(on, body, { key })).status, 200)
})

test('a client does not register itself for it where the policy does not say so', async (t) => {
  const token = await initialToken(on)
  const { status, body } = await register(on, { token, key: await newKey(), body: device })
  t.is(status, 400)
  t.is(body.error, 'invalid_client_metadata')
})

const [old, current] = [randomBytes(32), randomBytes(32)]
const before = createUserCodes(() => [old])
const after = createUserCodes(() => [current, old])

test('a digest of a user code cannot be made without the key', (t) => {
  const digest = before.digest('BCDFGHJK')
  t.not(digest, createUserCodes(() => [randomBytes(32)]).digest('BCDFGHJK'))
  t.not(digest, hash('sha256', 'holdfast user code\0BCDFGHJK', 'base64url'))
})

test('a code that was made under the key before is found by the one after', (t) => {
  t.true(after.candidates('BCDFGHJK').includes(before.digest('BCDFGHJK')))
  t.is(after.candidates('BCDFGHJK')[0], after.digest('BCDFGHJK'))
})

test('codes that differ have digests that differ', (t) => {
  t.not(before.digest('BCDFGHJK'), before.digest('BCDFGHJL'))
})
