import test from 'ava'
import {
  createClientDocuments,
  documentIdProblem,
  documentLimitBytes,
} from '../../src/clients/client-documents.ts'
import { openClient, redirectPlaces } from '../../src/clients/open-clients.ts'
import type { FetchedDocument } from '../../src/storage/client-document-table.ts'
import { agentDocument, documentHosts } from '../support/agents.ts'

const id = 'https://agent.example/client.json'
const minute = 60_000

function setUp({
  kept = false,
  admitted = true,
  domains = undefined as string[] | undefined,
} = {}) {
  const hosts = documentHosts()
  hosts.documents.set(id, agentDocument(id))
  const rows = new Map<string, FetchedDocument>()
  const clock = { ms: 1_000_000 }
  const counts = { admitted: 0 }
  const make = () =>
    createClientDocuments({
      table: {
        find: async (key) => rows.get(key),
        write: async (key, fetched) => {
          rows.set(key, fetched)
        },
      },
      guardedFetch: hosts.guardedFetch,
      domains,
      admit: async () => {
        counts.admitted += 1
        return admitted
      },
      now: () => clock.ms,
    })
  if (kept)
    rows.set(id, { document: agentDocument(id), etag: undefined, fetchedAt: 0, freshUntil: 0 })
  return { hosts, rows, clock, counts, make, documents: make() }
}

test('makes a client of a document: public, bound by DPoP, checked by nobody', async (t) => {
  const { documents, hosts } = setUp()
  t.like(await documents.find(id), {
    client_id: id,
    client_name: 'Helpful agent',
    token_endpoint_auth_method: 'none',
    application_type: 'native',
    self_registered: true,
    open_client: 'document',
    scope: 'openid offline_access profile email',
  })
  await documents.find(id)
  t.is(hosts.asked.length, 1)
})

test('knows no other ids, and fetches nothing for them', async (t) => {
  const { documents, hosts } = setUp()
  t.is(await documents.find('4711'), undefined)
  t.is(await documents.known('http://agent.example/client.json'), undefined)
  t.deepEqual(hosts.asked, [])
})

const wrongIds: Record<string, string> = {
  'without a path': 'https://agent.example/',
  'with a query': `${id}?copy=2`,
  'with a fragment': `${id}#2`,
  'with a user name': 'https://someone@agent.example/client.json',
  'with a dot segment': 'https://agent.example/a/../client.json',
  'in another spelling': 'https://AGENT.example/client.json',
  'with a default port': 'https://agent.example:443/client.json',
  'that is too long': `https://agent.example/${'a'.repeat(256)}`,
}
for (const [what, wrong] of Object.entries(wrongIds)) {
  test(`rejects a URL ${what} as a client_id`, async (t) => {
    const { documents, hosts } = setUp()
    hosts.documents.set(wrong, agentDocument(wrong))
    await t.throwsAsync(documents.find(wrong), { message: 'invalid_client' })
    t.deepEqual(hosts.asked, [])
  })
}

test('accepts documents of the configured hosts only', (t) => {
  const domains = ['agent.example', '*.apps.example']
  t.is(documentIdProblem(id, domains), undefined)
  t.is(documentIdProblem('https://a.b.apps.example/c', domains), undefined)
  for (const other of [
    'https://apps.example/c',
    'https://evilapps.example/c',
    'https://x.agent.example/c',
  ]) {
    t.is(documentIdProblem(other, domains), 'documents of this host are not accepted here')
  }
})

const unfit: Record<string, unknown> = {
  'names another client_id': agentDocument('https://other.example/client.json'),
  'names no client_id': { ...agentDocument(id), client_id: undefined },
  'has a secret': agentDocument(id, { client_secret: 'shared with everyone' }),
  'authenticates by a secret': agentDocument(id, {
    token_endpoint_auth_method: 'client_secret_post',
  }),
  'asks for bearer tokens': agentDocument(id, { binding_method: 'bearer' }),
  'has no redirect URIs of a scheme that is allowed': agentDocument(id, {
    redirect_uris: ['http://agent.example/cb'],
  }),
  'has a name that hides': agentDocument(id, { client_name: 'Bank\u202e' }),
  'has pages of another host': agentDocument(id, { client_uri: 'https://bank.example/' }),
  'has keys at another host': agentDocument(id, {
    token_endpoint_auth_method: 'private_key_jwt',
    jwks_uri: 'https://victim.example/keys',
  }),
  'is no object': [agentDocument(id)],
  'is no JSON': '<html>',
  'names a member twice': `{"client_id":"${id}","client_id":"${id}"}`,
  'is too long': agentDocument(id, { padding: 'x'.repeat(documentLimitBytes) }),
  'is not there': 404,
}
for (const [what, document] of Object.entries(unfit)) {
  test(`rejects a document that ${what}, and asks again after a minute`, async (t) => {
    const { documents, hosts, clock } = setUp()
    hosts.documents.set(id, document)
    await t.throwsAsync(documents.find(id), { message: 'invalid_client' })
    hosts.documents.set(id, agentDocument(id))
    await t.throwsAsync(documents.find(id), { message: 'invalid_client' })
    t.is(hosts.asked.length, 1)
    clock.ms += minute
    t.like(await documents.find(id), { client_id: id })
  })
}

test('leaves out grants and members that such a client has no use for', (t) => {
  const changes = {
    grant_types: ['authorization_code', 'client_credentials', 'urn:example:other'],
    response_types: ['code', 'code id_token'],
    scope: 'openid admin:write',
    skip_consent: true,
    backchannel_logout_uri: 'https://victim.example/logout',
    logo_uri: 'https://agent.example/logo.png',
  }
  const client = openClient('document', agentDocument(id, changes), 'agent.example')
  t.like(client, { grant_types: ['authorization_code'], response_types: ['code'] })
  for (const name of ['skip_consent', 'backchannel_logout_uri', 'logo_uri']) t.false(name in client)
  t.is(client.scope, 'openid offline_access profile email')
})

test('takes a client of loopback redirects for a native one, unless it says otherwise', (t) => {
  const typeOf = (redirect_uris: string[], application_type?: string) =>
    openClient('registration', { redirect_uris, application_type }).application_type
  t.is(typeOf(['http://localhost:3118/callback']), 'native')
  t.is(typeOf(['https://agent.example/cb', 'http://127.0.0.1:1/cb']), 'native')
  t.is(typeOf(['com.example.app:/cb']), 'native')
  t.is(typeOf(['https://agent.example/cb']), undefined)
  t.throws(() => typeOf(['http://localhost/cb'], 'web'), { message: /of this machine/ })
})

test('names every place that a client may send people to, once', (t) => {
  t.deepEqual(
    redirectPlaces([
      'http://127.0.0.1:1/a',
      'http://127.0.0.1:2/b',
      'https://agent.example/cb',
      'com.example.app:/x',
    ]),
    { hosts: ['127.0.0.1', 'agent.example', 'com.example.app:'], isLocalOnly: false },
  )
  t.true(redirectPlaces(['http://localhost/a', 'com.example.app:/x']).isLocalOnly)
})

test('uses a document as long as its host says, within bounds', async (t) => {
  const rows: [headers: Record<string, string>, freshMs: number][] = [
    [{}, 5 * minute],
    [{ 'cache-control': 'max-age=600' }, 10 * minute],
    [{ 'cache-control': 'public, max-age=1' }, minute],
    [{ 'cache-control': 'max-age=999999999' }, 24 * 60 * minute],
    [{ 'cache-control': 'no-store' }, minute],
    [{ 'cache-control': 'no-cache, max-age=600' }, minute],
  ]
  for (const [headers, freshMs] of rows) {
    const { documents, hosts, clock } = setUp()
    hosts.headers = headers
    await documents.find(id)
    clock.ms += freshMs - 1
    await documents.find(id)
    t.is(hosts.asked.length, 1, JSON.stringify(headers))
    clock.ms += 1
    await documents.find(id)
    t.is(hosts.asked.length, 2, JSON.stringify(headers))
  }
})

test('asks by ETag whether a document has changed', async (t) => {
  const { documents, hosts, clock } = setUp()
  hosts.headers = { etag: '"one"' }
  await documents.find(id)
  clock.ms += 5 * minute
  t.like(await documents.find(id), { client_name: 'Helpful agent' })
  t.deepEqual(hosts.asked, [
    [id, undefined],
    [id, '"one"'],
  ])
  hosts.headers = { etag: '"two"' }
  hosts.documents.set(id, agentDocument(id, { client_name: 'Renamed agent' }))
  clock.ms += 5 * minute
  t.like(await documents.find(id), { client_name: 'Renamed agent' })
})

test('writes no row for a document that nobody has allowed', async (t) => {
  const { documents, rows } = setUp()
  await documents.find(id)
  t.is(rows.size, 0)
  await documents.remember(id)
  t.deepEqual([...rows.keys()], [id])
})

test('fetches a document once for all who ask at once', async (t) => {
  const { documents, hosts } = setUp()
  await Promise.all(Array.from({ length: 16 }, () => documents.find(id)))
  t.is(hosts.asked.length, 1)
})

test('fetches nothing for a request that is not admitted', async (t) => {
  const { documents, hosts, counts } = setUp({ admitted: false })
  await t.throwsAsync(documents.find(id), { message: 'invalid_client' })
  t.is(await documents.known(id), undefined)
  t.deepEqual([hosts.asked.length, counts.admitted], [0, 1])
})

test('needs no admission for a document that a person has allowed', async (t) => {
  const { documents, hosts, counts } = setUp({ admitted: false, kept: true })
  t.like(await documents.known(id), { client_id: id })
  t.deepEqual([hosts.asked.length, counts.admitted], [1, 0])
})

test('keeps an allowed document for a week while its host does not answer', async (t) => {
  const { documents, hosts, clock, make } = setUp({ kept: true })
  hosts.documents.delete(id)
  t.like(await documents.find(id), { client_id: id })
  clock.ms = 7 * 24 * 60 * minute
  await t.throwsAsync(make().find(id), { message: 'invalid_client' })
})

test('refuses an allowed document that was taken away, also when its host falls silent', async (t) => {
  const { documents, hosts, clock } = setUp({ kept: true })
  hosts.documents.set(id, 410)
  await t.throwsAsync(documents.known(id), { message: 'invalid_client' })
  hosts.documents.delete(id)
  clock.ms += minute
  await t.throwsAsync(documents.known(id), { message: 'invalid_client' })
  hosts.documents.set(id, agentDocument(id))
  t.like(await documents.known(id), { client_id: id })
})

test('remembers a bounded number of documents', async (t) => {
  const { documents, hosts } = setUp()
  await documents.find(id)
  for (let count = 0; count < 500; count += 1) {
    const other = `https://agent.example/${count}`
    hosts.documents.set(other, agentDocument(other))
    await documents.find(other)
  }
  const before = hosts.asked.length
  await documents.find(id)
  t.is(hosts.asked.length, before + 1)
})
