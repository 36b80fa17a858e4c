import { hash } from 'node:crypto'
import test from 'ava'
import { decodeJwt } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import type { KeyPair } from '../../src/doctor/proof.ts'
import type { DetailsType } from '../../src/storage/details-type-table.ts'
import { Fapi2Client, redirect_uri } from '../conformance/fapi2-client.ts'
import {
  askForCode,
  deviceEnvironment,
  letIn,
  redeem,
  television,
  typeCode,
} from '../support/device-flow.ts'
import { callback, createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { query } from '../support/query.ts'
import { api, publicClient, useTestServer } from '../support/server.ts'

const server = useTestServer(test, deviceEnvironment)
const other = 'https://other.example.com'
let client: ClientMetadata
let key: KeyPair

const payment: DetailsType = {
  label: 'Make a payment',
  members: {
    actions: { kind: 'string', list: true },
    to: { kind: 'string', label: 'To', required: true },
    amount: { kind: 'string', label: 'Amount', required: true },
  },
}
const accounts: DetailsType = {
  label: 'See your accounts',
  remember: true,
  members: { iban: { kind: 'string', list: true, label: 'Account' } },
}

test.before(async () => {
  const { resourceServers, detailsTypes } = server.storage
  await resourceServers.insert({ identifier: other, name: 'Bank', scopes: ['read'] })
  await detailsTypes.replace(api, { payment })
  await detailsTypes.replace(other, { accounts })
  client = await server.addClient()
  web = await server.addClient({ application_type: 'web', redirect_uris: [redirect_uri] })
  key = await newKey()
})

const pay = (changes: object = {}) => ({
  type: 'payment',
  actions: ['initiate', 'cancel'],
  to: 'Bob',
  amount: '45.00 EUR',
  ...changes,
})
const seeing = { type: 'accounts', iban: ['DE02'] }
const asking = (...details: object[]) => ({ authorization_details: JSON.stringify(details) })

/** Native applications are asked for consent each time. */
let web: ClientMetadata

const redeemed = async (
  parameters: Record<string, string>,
  changes: Record<string, string> = {},
) => {
  const { exchange } = await obtainCode(createPerson(server), client, parameters)
  return post(server, '/token', { ...exchange, ...changes }, { key })
}

const parametersOf = (changes: Record<string, string>): Record<string, string> => ({
  client_id: client.client_id,
  response_type: 'code',
  redirect_uri: callback,
  scope: 'openid',
  code_challenge: hash('sha256', 'a', 'base64url'),
  code_challenge_method: 'S256',
  ...changes,
})

const visit = (changes: Record<string, string>, person = createPerson(server)) =>
  person.browser.visit(`${server.issuer}/authorize?${new URLSearchParams(parametersOf(changes))}`, {
    until: changes.redirect_uri ?? callback,
  })

/** The consent page of a request. */
async function consentTo(changes: Record<string, string>, person = createPerson(server)) {
  const page = await visit(changes, person)
  const credentials = { email: 'ada@example.com', password: 'correct horse battery staple' }
  if (!page.html.includes('>Sign in<')) return page
  const { redirect_uri: until = callback } = changes
  return person.browser.submit(page, 'Sign in', credentials, { until })
}

test('puts what a person has granted into tokens, introspection and answers', async (t) => {
  const { status, body } = await redeemed(asking(pay()))
  t.is(status, 200)
  t.deepEqual(body.authorization_details, [pay()])
  t.like(decodeJwt(body.access_token), { aud: api, authorization_details: [pay()] })
  const token = { client_id: client.client_id, token: body.access_token }
  const { body: introspected } = await post(server, '/introspect', token)
  t.like(introspected, { active: true, authorization_details: [pay()] })
})

test('grants a part of the details by the code and by each refresh', async (t) => {
  const narrow = pay({ actions: ['cancel'] })
  const { body } = await redeemed(
    { ...asking(pay()), scope: 'openid offline_access', prompt: 'consent' },
    asking(narrow),
  )
  t.deepEqual(body.authorization_details, [narrow])
  const refresh = async (changes: Record<string, string>, token: string) =>
    (await post(server, '/token', { ...refreshing(client, token), ...changes }, { key })).body
  const wider = await refresh(asking(pay({ amount: '46.00 EUR' })), body.refresh_token)
  t.is(wider.error, 'invalid_authorization_details')
  const all = await refresh({}, body.refresh_token)
  t.deepEqual(all.authorization_details, [pay()])
  const again = await refresh(asking(narrow), all.refresh_token)
  t.deepEqual(decodeJwt(again.access_token).authorization_details, [narrow])
})

test('gives each API the details of its own types', async (t) => {
  const details = asking(pay(), seeing)
  const grants = async (resource: string) => (await redeemed(details, { resource })).body
  t.deepEqual((await grants(api)).authorization_details, [pay()])
  t.deepEqual((await grants(other)).authorization_details, [seeing])
  const { body } = await redeemed(details)
  t.is(body.authorization_details, undefined)
})

test('takes details that are pushed, or in a request object', async (t) => {
  const { issuer } = server
  const signing = await new Fapi2Client(server).register({ redirect_uris: [redirect_uri] })
  const requests = [
    signing.request(asking(pay())),
    signing.requestObject({ authorization_details: [pay()] }),
    signing.requestObject(asking(pay())),
  ]
  for (const request of requests) {
    const { searchParams } = await signing.authorize(request)
    const code = searchParams.get('code') ?? ''
    const { body } = await signing.post('/token', { ...signing.redeeming, code })
    t.deepEqual(body.authorization_details, [pay()], issuer)
  }
  const wrong = [
    signing.request(asking({ type: 'unknown' })),
    signing.requestObject({ authorization_details: [pay({ to: undefined })] }),
  ]
  for (const request of wrong) {
    const { status, body } = await signing.push(request)
    t.is(status, 400)
    t.is(body.error, 'invalid_authorization_details')
  }
})

test('takes details of a device', async (t) => {
  const device = await server.addClient(television)
  const asked = await askForCode(server, device, { key }, asking(pay()))
  const person = createPerson(server)
  const confirm = await typeCode(server, person, asked.body.user_code)
  t.regex((await letIn(person, confirm)).html, /will continue on your device/)
  const { body } = await redeem(server, device, asked.body.device_code, { key })
  t.deepEqual(body.authorization_details, [pay()])
  const refused = await askForCode(server, device, { key }, asking(pay({ to: 1 })))
  t.is(refused.body.error, 'invalid_authorization_details')
})

const refusedRequests: Record<string, Record<string, string>> = {
  'an unknown type': asking({ type: 'unknown' }),
  'an unknown member': asking(pay({ for: 'Eve' })),
  'a missing member': asking(pay({ amount: undefined })),
  'no list': { authorization_details: '{}' },
  'a member twice': { authorization_details: '[{"type":"accounts","type":"accounts"}]' },
  'details of another resource': { ...asking(seeing), resource: api },
}
for (const [what, parameters] of Object.entries(refusedRequests)) {
  test(`rejects a request with ${what}`, async (t) => {
    const { url } = await visit(parameters)
    t.is(url.searchParams.get('error'), 'invalid_authorization_details')
  })
}

test('bounds the parameter', async (t) => {
  const { url } = await visit(asking(pay({ to: 'a'.repeat(4096) })))
  t.is(url.searchParams.get('error'), 'invalid_authorization_details')
})

test('rejects a type that a client has not registered, where it has registered some', async (t) => {
  const limited = await server.addClient({ authorization_details_types: ['accounts'] } as object)
  const ask = async (details: object) =>
    (await visit({ client_id: limited.client_id, ...asking(details) })).url.searchParams.get(
      'error',
    )
  t.is(await ask(pay()), 'invalid_authorization_details')
  t.is(await ask(seeing), null)
  const wrong = server.addClient({
    ...publicClient,
    authorization_details_types: 'payment',
  } as object)
  await t.throwsAsync(wrong, { message: /authorization_details_types must be a list/ })
})

test('shows every member at consent, and nothing of a request as HTML', async (t) => {
  const page = await consentTo(asking(pay({ to: '<img src=x> & Bob' }), seeing))
  t.regex(page.html, /Make a payment/)
  t.regex(page.html, /To: <bdi><b>&lt;img src=x> &amp; Bob|To: <bdi><b>&lt;img src=x&gt; &amp; Bob/)
  t.regex(page.html, /Amount: <bdi><b>45\.00 EUR/)
  t.regex(page.html, /actions: <bdi><b>initiate/)
  t.regex(page.html, /Bank \(https:\/\/other\.example\.com\)/)
  t.false(page.html.includes('<img src=x'))
})

const asWeb = (details: object) => ({
  ...asking(details),
  client_id: web.client_id,
  redirect_uri,
})

test('asks again for other details, and each time where their type says nothing', async (t) => {
  const person = createPerson(server)
  const isAsked = async (details: object) => {
    const page = await consentTo(asWeb(details), person)
    if (!page.html.includes('>Allow<')) return false
    await person.browser.submit(page, 'Allow', {}, { until: redirect_uri })
    return true
  }
  t.true(await isAsked(seeing))
  t.false(await isAsked(seeing))
  t.true(await isAsked({ ...seeing, iban: ['DE02', 'DE03'] }))
  t.true(await isAsked({ ...seeing, iban: ['DE03'] }))
  t.false(await isAsked({ ...seeing, iban: ['DE03'] }))
  t.true(await isAsked(pay()))
  t.true(await isAsked(pay()))
})

test('asks again where consent was given for other details meanwhile', async (t) => {
  const person = createPerson(server)
  await consentTo(asking(seeing), person)
  const first = await consentTo(asking(pay({ to: 'Carol' })), person)
  const second = await consentTo(asking(pay({ to: 'Dave' })), person)
  const allow = (page: typeof first) =>
    person.browser.submit(page, 'Allow', {}, { until: callback })
  t.true((await allow(first)).url.searchParams.has('code'))
  t.true((await allow(second)).url.searchParams.has('code'))
  const rows = await query(
    server.databaseUrl,
    `select payload->'rar' as rar from artifacts where kind = 'Grant'`,
  )
  t.true(rows.some(({ rar }) => JSON.stringify(rar) === JSON.stringify([pay({ to: 'Dave' })])))
})

test('names the types in the metadata of the server', async (t) => {
  const response = await fetch(`${server.issuer}/.well-known/openid-configuration`)
  const metadata = (await response.json()) as Record<string, unknown>
  t.deepEqual(metadata.authorization_details_types_supported, ['accounts', 'payment'])
})
