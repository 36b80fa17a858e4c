/**
 * Back-channel, front-channel and RP-initiated logout, written from the specifications. The modules
 * of the OpenID Foundation's plans that they mirror are in docs/conformance.md.
 */
import test from 'ava'
import { createRemoteJWKSet, decodeJwt, jwtVerify } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { deliverBatch, mostAttempts } from '../../src/deliveries/deliveries.ts'
import type { GuardedAnswer, GuardedRequest } from '../../src/net/guarded-fetch.ts'
import type { LogoutDelivery } from '../../src/storage/delivery-queue.ts'
import { createPerson, newKey, obtainCode, type Person, post } from '../support/flow.ts'
import { query } from '../support/query.ts'
import { password, useTestServer } from '../support/server.ts'
import { until } from '../support/until.ts'

/** What the applications were sent, by their address. */
const received = new Map<string, string[]>()
let status = 200

async function guardedFetch(url: string, { form }: GuardedRequest = {}): Promise<GuardedAnswer> {
  const before = received.get(url) ?? []
  received.set(url, [...before, form?.get('logout_token') ?? ''])
  return { status, headers: new Map(), body: new Uint8Array() }
}

const server = useTestServer(test, {}, { guardedFetch })
let keys: ReturnType<typeof createRemoteJWKSet>
let people = 0

test.before(() => {
  keys = createRemoteJWKSet(new URL(`${server.issuer}/jwks`))
})

const callback = 'https://rp.example/callback'

/** An application that listens at an address of its own. */
async function addClient(metadata: Partial<ClientMetadata> = {}) {
  const client = await server.addClient({
    application_type: 'web',
    redirect_uris: [callback],
    post_logout_redirect_uris: ['https://rp.example/bye'],
    ...metadata,
  })
  return { client, at: String(client.backchannel_logout_uri) }
}

let addresses = 0
const newAddress = () => `https://rp.example/logout/${addresses++}`

async function newPerson() {
  const credentials = { email: `person${people++}@example.com`, password }
  await createAccounts({ store: server.storage.accounts }).add(credentials)
  return { person: createPerson(server, { credentials }), email: credentials.email }
}

/** The ID token of a sign-in. */
async function signIn(person: Person, client: ClientMetadata): Promise<Record<string, unknown>> {
  const { exchange } = await obtainCode(person, client, { redirect_uri: callback, nonce: 'n' })
  const { body } = await post(server, '/token', exchange, { key: await newKey() })
  return decodeJwt(body.id_token)
}

async function signOut(
  person: Person,
  parameters: Record<string, string> = {},
  button = 'Sign out everywhere in this browser',
) {
  const fields: Record<string, string> = button.startsWith('Only') ? {} : { logout: 'yes' }
  const url = `${server.issuer}/session/end?${new URLSearchParams(parameters)}`
  const page = await person.browser.visit(url)
  return person.browser.submit(page, button, fields, { until: 'https://rp.example/bye' })
}

async function sentTo(at: string): Promise<string[]> {
  await until(async () => received.has(at))
  return received.get(at) ?? []
}

const pending = (client: ClientMetadata) =>
  query(server.databaseUrl, 'select attempts from logout_deliveries where client_id = $1', [
    client.client_id,
  ])

test.serial('the metadata names both channels', async (t) => {
  const answer = await fetch(`${server.issuer}/.well-known/openid-configuration`)
  t.like(await answer.json(), {
    backchannel_logout_supported: true,
    backchannel_logout_session_supported: true,
    frontchannel_logout_supported: true,
    frontchannel_logout_session_supported: true,
  })
})

test.serial('sends a logout token of section 2.4 to each application of a session', async (t) => {
  const { person } = await newPerson()
  const applications = [
    await addClient({ backchannel_logout_uri: newAddress() }),
    await addClient({
      backchannel_logout_uri: newAddress(),
      backchannel_logout_session_required: true,
      id_token_signed_response_alg: 'ES256',
    }),
  ]
  const idTokens = []
  for (const { client } of applications) idTokens.push(await signIn(person, client))
  const deaf = await addClient()
  t.false('sid' in (await signIn(person, deaf.client)))
  await signOut(person)
  for (const [at, { client, at: address }] of applications.entries()) {
    const [token = ''] = await sentTo(address)
    const { payload, protectedHeader } = await jwtVerify(token, keys, {
      issuer: server.issuer,
      audience: client.client_id,
      typ: 'logout+jwt',
    })
    t.is(protectedHeader.alg, at === 0 ? 'RS256' : 'ES256')
    t.is(payload.sub, idTokens[at]?.sub as string)
    t.is(payload.sid, idTokens[at]?.sid)
    t.is(typeof payload.sid, 'string')
    t.deepEqual(payload.events, { 'http://schemas.openid.net/event/backchannel-logout': {} })
    t.true(Number(payload.exp) - Number(payload.iat) <= 120)
    t.truthy(payload.jti)
    t.false('nonce' in payload)
    await until(async () => (await pending(client)).length === 0)
    t.is(received.get(address)?.length, 1)
  }
})

test.serial('leaves an application alone that the person stays signed in to', async (t) => {
  const { person } = await newPerson()
  const stays = await addClient({ backchannel_logout_uri: newAddress() })
  const left = await addClient({ backchannel_logout_uri: newAddress(), client_name: 'Left' })
  await signIn(person, stays.client)
  await signIn(person, left.client)
  await signOut(person, { client_id: left.client.client_id }, 'Only sign out of Left')
  t.is((await sentTo(left.at)).length, 1)
  t.is(received.get(stays.at), undefined)
  t.is((await pending(stays.client)).length, 0)
})

const accounts = () => createAccounts({ store: server.storage.accounts })

for (const [title, end] of [
  [
    'the end of a session by an administrator',
    async (email) => {
      const account = (await accounts().find(email)).id
      const [session] = await server.storage.issued.listSessions({ account })
      await server.storage.issued.endSession(session?.id ?? '')
    },
  ],
  [
    'the end of its access by the person',
    async (email, clientId) =>
      server.storage.artifacts.removeGrantsOf((await accounts().find(email)).id, clientId),
  ],
  [
    'a grant that an administrator revokes',
    async (_email, client) => {
      const [grant] = await server.storage.issued.listGrants({ client })
      await server.storage.issued.revokeGrant(grant?.id ?? '')
    },
  ],
  ['a sign-out of an account', (email) => accounts().signOut(email)],
  ['an account that is disabled', (email) => accounts().disable(email)],
  ['a new password', (email) => accounts().setPassword(email, 'another long password')],
] as [string, (email: string, clientId: string) => Promise<unknown>][]) {
  test.serial(`tells applications of ${title}`, async (t) => {
    const { person, email } = await newPerson()
    const { client, at } = await addClient({ backchannel_logout_uri: newAddress() })
    const { sid } = await signIn(person, client)
    await end(email, client.client_id)
    const [token = ''] = await sentTo(at)
    t.is(decodeJwt(token).sid, sid)
  })
}

test.serial('queues one row for an application, of which no sign-in writes any', async (t) => {
  const { person } = await newPerson()
  const { client } = await addClient({ backchannel_logout_uri: newAddress() })
  await signIn(person, client)
  await signIn(person, client)
  t.is((await pending(client)).length, 0)
})

/** A queue of its own, whose rows no server takes: it looks at those that are due. */
async function queued(count: number) {
  const { client, at } = await addClient({ backchannel_logout_uri: newAddress() })
  const rows = Array.from({ length: count }, (_, each) => `session ${each}`)
  await query(
    server.databaseUrl,
    `insert into logout_deliveries (client_id, session_uid, sid, account_id, due_at)
     select $1, uid, uid, 'ada', now() + interval '10 minutes' from unnest($2::text[]) as uid`,
    [client.client_id, rows],
  )
  return { client, at }
}

test.serial('gives each row to one of several nodes', async (t) => {
  const { client } = await queued(12)
  const table = server.storage.logoutDeliveries
  const taken: LogoutDelivery[] = []
  // The server takes rows as well: what it sends is counted with ours.
  await query(
    server.databaseUrl,
    'update logout_deliveries set due_at = now() where client_id = $1',
    [client.client_id],
  )
  const take = async () => {
    const rows = await table.take(4)
    taken.push(...rows.filter(({ clientId }) => clientId === client.client_id))
  }
  await Promise.all(Array.from({ length: 6 }, take))
  const ids = taken.map(({ id }) => id)
  t.is(new Set(ids).size, ids.length)
  t.true(taken.every(({ attempts }) => attempts === 1))
})

test.serial('tries again later, as often as is allowed, and then reports it', async (t) => {
  const delivery = { id: '1', clientId: 'app', sid: 's', accountId: 'ada', attempts: 1 }
  const removed: string[][] = []
  const outcomes: string[] = []
  const attempt = (attempts: number, outcome: 'failed' | 'refused' | 'gone' | 'delivered') =>
    deliverBatch({
      queue: {
        take: async () => [{ ...delivery, attempts }],
        remove: async (ids) => void removed.push([...ids]),
      },
      send: async () => outcome,
      onDone: (_, done) => outcomes.push(done),
      onError: (error) => t.fail(String(error)),
    })
  await attempt(1, 'failed')
  t.deepEqual(removed, [])
  await attempt(mostAttempts, 'failed')
  await attempt(1, 'refused')
  await attempt(1, 'gone')
  await attempt(1, 'delivered')
  t.deepEqual(outcomes, ['retried', 'given_up', 'given_up', 'gone', 'delivered'])
  t.is(removed.length, 4)
})

test.serial('keeps a row that an application answers with 503, and gives up at 400', async (t) => {
  const { person } = await newPerson()
  const { client, at } = await addClient({ backchannel_logout_uri: newAddress() })
  await signIn(person, client)
  status = 503
  t.teardown(() => {
    status = 200
  })
  await signOut(person)
  await sentTo(at)
  const [row] = await pending(client)
  t.is(row?.attempts, 1)
  status = 400
  await query(
    server.databaseUrl,
    'update logout_deliveries set due_at = now() where client_id = $1',
    [client.client_id],
  )
  await until(async () => (await pending(client)).length === 0)
  await server.flushAudit()
  const [event] = await query(
    server.databaseUrl,
    `select client, details from audit_events where event = 'logout.undelivered' and client = $1`,
    [client.client_id],
  )
  t.deepEqual(event?.details, { attempts: 2 })
  const metrics = await (await fetch(`http://${server.operators}/metrics`)).text()
  t.regex(metrics, /^holdfast_logout_deliveries_total\{outcome="given_up"\} [1-9]/m)
})

test.serial('queues a thousand logouts of an application at most', async (t) => {
  const { client } = await queued(1000)
  const { person, email } = await newPerson()
  await signIn(person, client)
  await accounts().signOut(email)
  t.is((await pending(client)).length, 1000)
})

test.serial(
  'an address is https, and that of the front channel is of a redirect URI',
  async (t) => {
    for (const metadata of [
      { backchannel_logout_uri: 'http://rp.example/logout' },
      { backchannel_logout_uri: 'https://rp.example/logout#fragment' },
      { backchannel_logout_uri: 'https://user@rp.example/logout' },
      { backchannel_logout_session_required: 'yes' as never },
      { frontchannel_logout_uri: 'https://other.example/logout' },
      { frontchannel_logout_uri: 'http://rp.example/logout' },
    ]) {
      await t.throwsAsync(addClient(metadata), { code: 'invalid_client_metadata' })
    }
  },
)

test.serial(
  'frames each application of the front channel after a sign-out, with iss and sid',
  async (t) => {
    const { person } = await newPerson()
    const { client } = await addClient({
      client_name: 'Front',
      frontchannel_logout_uri: 'https://rp.example/front?x=1',
      frontchannel_logout_session_required: true,
    })
    const { sid } = await signIn(person, client)
    const asked = {
      client_id: client.client_id,
      post_logout_redirect_uri: 'https://rp.example/bye',
      state: 'the state',
    }
    const { html, url, headers } = await signOut(person, asked)
    t.is(url.origin, server.issuer)
    const frame = /<iframe src="([^"]+)"/.exec(html)?.[1]?.replaceAll('&amp;', '&')
    const framed = new URL(frame ?? '')
    t.is(framed.origin + framed.pathname, 'https://rp.example/front')
    t.deepEqual(Object.fromEntries(framed.searchParams), {
      x: '1',
      iss: server.issuer,
      sid: String(sid),
    })
    t.regex(
      html,
      /<meta http-equiv="refresh" content="2; url=https:\/\/rp\.example\/bye\?state=the/,
    )
    const policy = headers?.get('content-security-policy') ?? ''
    t.regex(policy, /; frame-src https:\/\/rp\.example$/)
    t.regex(policy, /script-src 'none'/)
  },
)

test.serial('frames no application that the person stays signed in to', async (t) => {
  const { person } = await newPerson()
  const addresses = ['https://rp.example/leaves', 'https://rp.example/stays']
  const [leaves, stays] = await Promise.all(
    addresses.map((uri) => addClient({ client_name: 'Front', frontchannel_logout_uri: uri })),
  )
  for (const each of [leaves, stays]) if (each) await signIn(person, each.client)
  const client_id = String(leaves?.client.client_id)
  const { html } = await signOut(person, { client_id }, 'Only sign out of Front')
  t.deepEqual(
    [...html.matchAll(/<iframe src="([^"?]+)/g)].map(([, src]) => src),
    ['https://rp.example/leaves'],
  )
})

test.serial(
  'returns to the application with its state where no application has a front channel',
  async (t) => {
    const { person } = await newPerson()
    const { client } = await addClient()
    await signIn(person, client)
    const post_logout_redirect_uri = 'https://rp.example/bye'
    const asked = { client_id: client.client_id, post_logout_redirect_uri, state: 's' }
    const { url } = await signOut(person, asked)
    t.is(url.href, 'https://rp.example/bye?state=s')
  },
)
