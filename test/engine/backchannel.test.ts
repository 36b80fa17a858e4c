import { randomUUID } from 'node:crypto'
import test from 'ava'
import { decodeJwt } from 'jose'
import { passkeyAcr, passwordAcr } from '../../src/accounts/acr.ts'
import { createPings } from '../../src/approvals/pings.ts'
import { RegistrationError } from '../../src/clients/client-registration.ts'
import { cibaGrant } from '../../src/clients/grant-types.ts'
import { deliverBatch } from '../../src/deliveries/deliveries.ts'
import { createPingState } from '../../src/engine/backchannel-requests.ts'
import {
  type GuardedAnswer,
  GuardedFetchError,
  type GuardedRequest,
} from '../../src/net/guarded-fetch.ts'
import { Fapi2Client, nowS } from '../conformance/fapi2-client.ts'
import type { Page } from '../support/browser.ts'
import { createPerson, type Person, refreshing } from '../support/flow.ts'
import { makeSigningKey } from '../support/jws.ts'
import { query } from '../support/query.ts'
import { api, email, password, useTestServer } from '../support/server.ts'
import { until } from '../support/until.ts'

/** What clients in ping mode were sent, by their address, whose path says what is the answer. */
const pinged = new Map<string, GuardedRequest[]>()

async function guardedFetch(url: string, request: GuardedRequest = {}): Promise<GuardedAnswer> {
  pinged.set(url, [...(pinged.get(url) ?? []), request])
  const [, answer = ''] = new URL(url).pathname.split('/')
  if (answer === 'hangs') throw new GuardedFetchError('timed_out', 'no answer in time')
  if (answer === 'redirects') throw new GuardedFetchError('redirected', 'not followed')
  return { status: Number(answer), headers: new Map(), body: new Uint8Array() }
}

const server = useTestServer(test, { HOLDFAST_GROUP_SIGN_IN: 'admins = passkey' }, { guardedFetch })
const message = 'Counter 7, code K4'

const registered = {
  redirect_uris: [],
  response_types: [],
  grant_types: [cibaGrant, 'refresh_token'],
}
const newClient = (changes: object = {}) =>
  new Fapi2Client(server).register({ client_name: 'The bank', ...registered, ...changes })

test.before(async () => {
  await server.storage.detailsTypes.replace(api, {
    payment: { label: 'Make a payment', members: { to: { kind: 'string', label: 'To' } } },
  })
})

const signed = (by: Fapi2Client, changes: object = {}, header: Record<string, unknown> = {}) =>
  by.authenticationRequest({ login_hint: email, binding_message: message, ...changes }, header)

/** Asks by a client of its own, because each may ask a person a few times only. */
async function ask(changes: object = {}, client?: Fapi2Client) {
  const by = client ?? (await newClient())
  return { by, ...(await by.post('/backchannel', signed(by, changes))) }
}

const redeem = ({ by, body }: Pick<Awaited<ReturnType<typeof ask>>, 'by' | 'body'>) =>
  by.post('/token', { grant_type: cibaGrant, auth_req_id: body.auth_req_id })

const approvals = async (person: Person): Promise<Page> => {
  const page = await person.browser.visit(`${server.issuer}/security/approvals`)
  if (!page.html.includes('>Sign in<')) return page
  return person.browser.submit(page, 'Sign in', { email, password })
}

/** Has the person decide about the one request of a message. */
async function decide(
  bindingMessage: string,
  button: 'Allow' | 'Deny',
  person = createPerson(server),
) {
  const page = await approvals(person)
  const sections = page.html
    .split('<section class="request">')
    .filter((each) => each.includes(bindingMessage))
  if (sections.length === 0) throw new Error(`no request says ${bindingMessage}`)
  return person.browser.submit({ ...page, html: `${sections[0]}` }, button)
}

test('issues tokens once the person has approved, by the key of the request', async (t) => {
  const binding_message = 'From approval to tokens'
  const asked = await ask({
    binding_message,
    scope: 'openid read offline_access',
    resource: api,
    authorization_details: [{ type: 'payment', to: 'Bob' }],
    requested_expiry: 90,
  })
  t.is(asked.status, 200)
  t.like(asked.body, { expires_in: 90, interval: 5 })
  t.is((await redeem(asked)).body.error, 'authorization_pending')
  // However slow this machine is.
  await query(
    server.databaseUrl,
    `update device_polls set due = now() + interval '1 hour'
      where id = sha256(convert_to($1, 'UTF8'))`,
    [asked.body.auth_req_id],
  )
  t.is((await redeem(asked)).body.error, 'slow_down')
  const done = await decide(binding_message, 'Allow')
  t.false(done.html.includes(binding_message))
  const tokens = await redeem(asked)
  t.is(tokens.status, 200)
  const claims = decodeJwt(tokens.body.access_token)
  t.like(claims, { aud: api, scope: 'read', cnf: { jkt: asked.by.key.jkt } })
  t.deepEqual(tokens.body.authorization_details, [{ type: 'payment', to: 'Bob' }])
  const idToken = decodeJwt(tokens.body.id_token)
  t.is(idToken.sub, claims.sub)
  const again = await redeem(asked)
  t.is(again.body.error, 'invalid_grant')
  const { id: client_id } = asked.by
  const refresh = await asked.by.post(
    '/token',
    refreshing({ client_id }, tokens.body.refresh_token),
  )
  t.is(refresh.body.error, 'invalid_grant')
})

test('issues no refresh token without offline_access, and tokens outlive the session', async (t) => {
  const binding_message = 'Without offline access'
  const asked = await ask({ binding_message })
  const person = createPerson(server)
  await decide(binding_message, 'Allow', person)
  const leaving = await person.browser.visit(`${server.issuer}/session/end`)
  await person.browser.submit(leaving, 'Sign out everywhere in this browser')
  const tokens = await redeem(asked)
  t.is(tokens.status, 200)
  t.is(tokens.body.refresh_token, undefined)
})

for (const [by, groups, required_acr] of [
  ['the application', [], passkeyAcr],
  ['a group of the person', ['admins'], passwordAcr],
] as const) {
  test.serial(`takes no approval by a weaker sign-in than is required by ${by}`, async (t) => {
    const { account } = (await server.storage.accounts.findByEmail(email)) ?? {}
    const change = (to: readonly string[]) =>
      server.storage.accounts.change(String(account?.id), { groups: [...to] })
    const binding_message = `Required by ${by}`
    const asked = await ask(
      { binding_message },
      await newClient({ session_policy: { required_acr } }),
    )
    const person = createPerson(server)
    await approvals(person)
    await change(groups)
    const { url } = await decide(binding_message, 'Allow', person)
    await change([])
    t.regex(url.pathname, /^\/interaction\//)
    t.is((await redeem(asked)).body.error, 'authorization_pending')
    if (required_acr !== passwordAcr) return
    const again = createPerson(server)
    await decide(binding_message, 'Allow', again)
    await query(server.databaseUrl, 'delete from device_polls')
    t.is((await redeem(asked)).status, 200)
  })
}

test('returns access_denied when the person denies', async (t) => {
  const binding_message = 'To be denied'
  const asked = await ask({ binding_message })
  await decide(binding_message, 'Deny')
  t.is((await redeem(asked)).body.error, 'access_denied')
})

test('of sixteen uses of one auth_req_id at once, one succeeds', async (t) => {
  const binding_message = 'Sixteen at once'
  const asked = await ask({ binding_message })
  await decide(binding_message, 'Allow')
  const answers = await Promise.all(Array.from({ length: 16 }, () => redeem(asked)))
  t.is(answers.filter(({ status }) => status === 200).length, 1)
})

test('tells another key and another client nothing', async (t) => {
  const binding_message = 'Of another key'
  const asked = await ask({ binding_message })
  await decide(binding_message, 'Allow')
  const parameters = { grant_type: cibaGrant, auth_req_id: asked.body.auth_req_id }
  const other = asked.by.proof('/token', {}, makeSigningKey())
  t.is((await asked.by.post('/token', parameters, other)).body.error, 'invalid_grant')
  const stranger = await newClient()
  t.is((await redeem({ by: stranger, body: asked.body })).body.error, 'invalid_grant')
  t.is((await redeem(asked)).status, 200)
})

test('rejects a request without the key that its tokens will be bound to', async (t) => {
  const client = await newClient()
  const { body } = await client.post('/backchannel', signed(client), '')
  t.is(body.error, 'invalid_request')
})

test('returns expired_token after the end of a request', async (t) => {
  const asked = await ask({ binding_message: 'Expires', requested_expiry: 1 })
  await query(
    server.databaseUrl,
    `update artifacts set payload = jsonb_set(payload::jsonb, '{exp}', '1')::json
      where id = sha256(convert_to($1, 'UTF8'))`,
    [asked.body.auth_req_id],
  )
  t.is((await redeem(asked)).body.error, 'expired_token')
})

let endpoints = 0

/** A request of a client in ping mode whose endpoint answers like this. */
async function askForPing(answer: string, binding_message: string, changes: object = {}) {
  const at = `https://till.example/${answer}/${endpoints++}`
  const by = await newClient({
    backchannel_token_delivery_mode: 'ping',
    backchannel_client_notification_endpoint: at,
  })
  const token = randomUUID()
  const asked = await ask({ binding_message, client_notification_token: token, ...changes }, by)
  return { ...asked, at, token }
}

const waiting = ({ id }: Fapi2Client) =>
  query(
    server.databaseUrl,
    'select attempts, sealed, due_at > now() as later from ping_deliveries where client_id = $1',
    [id],
  )

for (const [button, error] of [
  ['Allow', undefined],
  ['Deny', 'access_denied'],
] as const) {
  test(`notifies a client in ping mode once, after the button ${button}`, async (t) => {
    const binding_message = `To be notified of ${button}`
    const { at, token, ...asked } = await askForPing('204', binding_message)
    t.is((await redeem(asked)).body.error, 'authorization_pending')
    t.false(pinged.has(at))
    await decide(binding_message, button)
    await until(async () => pinged.has(at) && (await waiting(asked.by)).length === 0)
    t.deepEqual(pinged.get(at), [
      {
        requester: asked.by.id,
        headers: { authorization: `Bearer ${token}` },
        json: { auth_req_id: asked.body.auth_req_id },
      },
    ])
    t.is((await redeem(asked)).body.error, error)
  })
}

for (const [answer, title] of [
  ['503', 'fails'],
  ['hangs', 'does not answer'],
] as const) {
  test(`notifies an endpoint that ${title} again later`, async (t) => {
    const binding_message = `Endpoint that ${title}`
    const { at, token, ...asked } = await askForPing(answer, binding_message)
    await decide(binding_message, 'Allow')
    await until(async () => pinged.has(at))
    const [row] = await waiting(asked.by)
    t.like(row, { attempts: 1, later: true })
    const sealed = String(row?.sealed)
    t.false(Buffer.from(sealed, 'base64url').toString('latin1').includes(token))
    // The client may ask all the same.
    t.is((await redeem(asked)).status, 200)
  })
}

for (const answer of ['redirects', '400']) {
  test(`gives up an endpoint that answers: ${answer}`, async (t) => {
    const binding_message = `Answer ${answer}`
    const { at, by } = await askForPing(answer, binding_message)
    await decide(binding_message, 'Allow')
    await until(async () => pinged.has(at) && (await waiting(by)).length === 0)
    t.is(pinged.get(at)?.length, 1)
    await until(async () => {
      await server.flushAudit()
      const events = await query(
        server.databaseUrl,
        `select from audit_events where event = 'ping.undelivered' and client = $1`,
        [by.id],
      )
      return events.length === 1
    })
  })
}

// Alone: these nodes take whatever is due, and report it to no audit trail.
test.serial('of several nodes, one sends a notification', async (t) => {
  const binding_message = 'Two nodes'
  const { at, ...asked } = await askForPing('204', binding_message)
  const state = createPingState(server.keys)
  const node = {
    queue: server.storage.pingDeliveries,
    send: createPings({ engine: server.provider, guardedFetch, state }),
    onDone: () => {},
    onError: (error: unknown) => t.fail(String(error)),
  }
  await decide(binding_message, 'Allow')
  // And the server itself.
  await Promise.all(Array.from({ length: 8 }, () => deliverBatch(node)))
  await until(async () => pinged.has(at) && (await waiting(asked.by)).length === 0)
  t.is(pinged.get(at)?.length, 1)
})

test('notifies nobody of a client that polls now, or of a token that it cannot read', async (t) => {
  const { by } = await askForPing('204', 'Never decided', { requested_expiry: 1 })
  const state = createPingState(server.keys)
  const send = createPings({ engine: server.provider, guardedFetch, state })
  const row = { id: '1', accountId: 'ada', attempts: 1 }
  const ping = { auth_req_id: 'a', token: 'b' }
  const sealed = (clientId: string) => state.seal(clientId, ping, nowS() + 60)
  t.is(await send({ ...row, clientId: by.id, sealed: sealed('another') }), 'gone')
  t.is(await send({ ...row, clientId: by.id, sealed: sealed(by.id) }), 'delivered')
  const { id: clientId } = await newClient()
  t.is(await send({ ...row, clientId, sealed: sealed(clientId) }), 'gone')
})

for (const [what, client_notification_token] of [
  ['without a token', undefined],
  ['with a token that is no bearer token', 'a b'],
  ['with a long token', 'a'.repeat(1025)],
] as const) {
  test(`rejects a request in ping mode ${what}`, async (t) => {
    const { body } = await askForPing('204', message, { client_notification_token })
    t.is(body.error, 'invalid_request')
  })
}

test('accepts a notification token of 1024 characters', async (t) => {
  const client_notification_token = 'a'.repeat(1024)
  const changes = { client_notification_token, requested_expiry: 1 }
  const { status } = await askForPing('204', 'Long token', changes)
  t.is(status, 200)
})

test('names the modes poll and ping in the metadata', async (t) => {
  const answer = await fetch(`${server.issuer}/.well-known/openid-configuration`)
  const metadata = (await answer.json()) as Record<string, unknown>
  t.deepEqual(metadata.backchannel_token_delivery_modes_supported, ['poll', 'ping'])
})

const refused: Record<string, [object, string]> = {
  'no hint': [{ login_hint: undefined }, 'invalid_request'],
  'two hints': [{ id_token_hint: 'a.b.c' }, 'invalid_request'],
  'a login_hint_token': [{ login_hint: undefined, login_hint_token: 'a' }, 'invalid_request'],
  'no binding message': [{ binding_message: undefined }, 'invalid_request'],
  'a long binding message': [{ binding_message: 'a'.repeat(61) }, 'invalid_binding_message'],
  'a binding message of two lines': [{ binding_message: 'a\nb' }, 'invalid_binding_message'],
  'no openid': [{ scope: 'read' }, 'invalid_request'],
  'no jti': [{ jti: undefined }, 'invalid_request'],
  'no iat': [{ iat: undefined }, 'invalid_request'],
  'no exp': [{ exp: undefined }, 'invalid_request'],
  'another audience': [{ aud: 'https://other.example' }, 'invalid_request'],
  'no time': [{ requested_expiry: 'soon' }, 'invalid_request'],
  'unknown details': [{ authorization_details: [{ type: 'a' }] }, 'invalid_authorization_details'],
}
for (const [what, [changes, error]] of Object.entries(refused)) {
  test(`rejects an authentication request with ${what}`, async (t) => {
    const { status, body } = await ask(changes)
    t.is(status, 400)
    t.is(body.error, error)
  })
}

test('rejects requests that are not signed, signed by another key, or were used', async (t) => {
  const client = await newClient()
  const plain = { scope: 'openid', login_hint: email, binding_message: message }
  t.is((await client.post('/backchannel', plain)).body.error, 'invalid_request')
  const forged = new Fapi2Client(server, client.id)
  t.is((await client.post('/backchannel', signed(forged))).body.error, 'invalid_request')
  const request = signed(client, { binding_message: 'Used twice' })
  t.is((await client.post('/backchannel', request)).status, 200)
  t.is((await client.post('/backchannel', request)).body.error, 'invalid_request')
})

test('rejects clients that are not registered for it, or weaker than FAPI-CIBA', async (t) => {
  const other = await new Fapi2Client(server).register({})
  t.regex((await ask({}, other)).body.error_description, /is not allowed for this client/)
  for (const changes of [
    { token_endpoint_auth_method: 'client_secret_basic' },
    { binding_method: 'bearer' },
    { backchannel_token_delivery_mode: 'push' },
    { backchannel_token_delivery_mode: 'ping' },
    ...['http://till.example/', 'https://a@till.example/', 'https://till.example/#a'].map((at) => ({
      backchannel_token_delivery_mode: 'ping',
      backchannel_client_notification_endpoint: at,
    })),
  ]) {
    await t.throwsAsync(newClient(changes), { instanceOf: RegistrationError })
  }
})

test('answers alike for an account that does not exist', async (t) => {
  const known = await ask({ binding_message: 'Known' })
  const unknown = await ask({ binding_message: 'Unknown', login_hint: 'nobody@example.com' })
  t.is(unknown.status, known.status)
  t.deepEqual(Object.keys(unknown.body), Object.keys(known.body))
  t.is(unknown.body.expires_in, known.body.expires_in)
  t.is((await redeem(unknown)).body.error, 'authorization_pending')
  const flooding = await newClient()
  const errors = async (login_hint: string) => {
    const asking = Array.from({ length: 31 }, () => ask({ login_hint }, flooding))
    return (await Promise.all(asking)).flatMap(({ body: { error } }) => error ?? [])
  }
  t.deepEqual(await errors(email), ['temporarily_unavailable'])
  t.deepEqual(await errors('someone@example.com'), ['temporarily_unavailable'])
  // Another client may still ask.
  t.is((await ask({}, await newClient())).status, 200)
})

test('shows requests to their person alone, after a sign-in of a few minutes ago', async (t) => {
  const binding_message = '<b>Bold</b> & 7'
  await ask({ binding_message })
  const person = createPerson(server)
  const page = await approvals(person)
  t.regex(page.html, /&lt;b>Bold|&lt;b&gt;Bold/)
  t.regex(page.html, /The bank/)
  const { url } = await person.browser.visit(`${server.issuer}/security/approvals`)
  t.is(url.pathname, '/security/approvals')
  await query(
    server.databaseUrl,
    `update artifacts set payload =
    jsonb_set(payload::jsonb, '{loginTs}', to_jsonb((payload->>'loginTs')::int - 301))::json
    where kind = 'Session' and payload->>'loginTs' is not null`,
  )
  const stale = await person.browser.visit(`${server.issuer}/security/approvals`)
  t.true(stale.html.includes('>Sign in<'))
})

test('of sixteen decisions at once, one counts, and none of another account', async (t) => {
  const binding_message = 'Of one account'
  const asked = await ask({ binding_message })
  const { backchannelRequests: requests } = server.storage
  const [row] = await query(
    server.databaseUrl,
    'select uid from artifacts where id = sha256(convert_to($1, $2))',
    [asked.body.auth_req_id, 'UTF8'],
  )
  const account = String(row?.uid)
  const own = await requests.listPending(account, 100)
  const found = own.find(({ payload }) => payload.bindingMessage === binding_message)
  const id = String(found?.id)
  t.regex(id, /^[0-9a-f]{64}$/)
  t.deepEqual(await requests.listPending('another', 100), [])
  const denied = { grantId: undefined, payload: { ...found?.payload, error: 'access_denied' } }
  t.false(await requests.decide('another', id, denied))
  const decisions = Array.from({ length: 16 }, () => requests.decide(account, id, denied))
  t.is((await Promise.all(decisions)).filter(Boolean).length, 1)
})

test('takes a decision from the form of this person only, and once', async (t) => {
  const binding_message = 'Decided once'
  const asked = await ask({ binding_message })
  const person = createPerson(server)
  const page = await approvals(person)
  const [form = ''] = page.html
    .split('<section class="request">')
    .filter((each) => each.includes(binding_message))
  const press = (html: string, button: string) => person.browser.submit({ ...page, html }, button)
  const forged = await press(
    form.replace(/name="token" value="[^"]*"/, 'name="token" value="a"'),
    'Allow',
  )
  t.is(forged.status, 400)
  t.is((await press(form, 'Deny')).status, 200)
  t.is((await press(form, 'Allow')).status, 400)
  t.is((await redeem(asked)).body.error, 'access_denied')
})

test('stores no hint, and nothing that redeems', async (t) => {
  const asked = await ask({ binding_message: 'At rest' })
  const pings = await askForPing('204', 'At rest too', { requested_expiry: 1 })
  const rows = await query(
    server.databaseUrl,
    `select payload::text as text from artifacts where kind = 'BackchannelAuthenticationRequest'`,
  )
  t.true(rows.length > 0)
  for (const { text } of rows) {
    for (const secret of [asked.body.auth_req_id, pings.body.auth_req_id, pings.token]) {
      t.false(String(text).includes(secret))
    }
    t.false(String(text).includes(email))
  }
})
