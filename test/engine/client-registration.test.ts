import test from 'ava'
import {
  changeClient,
  RegistrationError,
  type RequestedMetadata,
} from '../../src/clients/client-registration.ts'
import { useTestServer } from '../support/server.ts'

const server = useTestServer(test)

const valid = {
  client_id: 'broken',
  application_type: 'web',
  redirect_uris: ['https://app.example.com/callback'],
} as const satisfies RequestedMetadata

const refused: [string, Record<string, unknown>, RegExp][] = [
  ['an unknown binding', { binding_method: 'tls' }, /binding_method must be one of/],
  [
    'a contradiction of binding and flag',
    { binding_method: 'bearer', dpop_bound_access_tokens: true },
    /contradicts binding_method bearer/,
  ],
  ['no redirect URI', { redirect_uris: [] }, /redirect_uris/],
  ['a redirect URI that is none', { redirect_uris: ['callback'] }, /redirect_uris/],
  ['a redirect URI with a fragment', { redirect_uris: ['https://a.example/#x'] }, /fragment/],
  [
    'a web client on plain HTTP',
    { redirect_uris: ['http://a.example/cb'] },
    /redirect_uris must be https/,
  ],
  [
    'another spelling of a redirect URI',
    { redirect_uris: ['https://SHOP.example:8443/cb'] },
    /redirect_uris must be written https:\/\/shop\.example:8443\/cb \(got https:\/\/SHOP/,
  ],
  [
    'another spelling of where logout ends',
    { post_logout_redirect_uris: ['https://a.example:443/'] },
    /post_logout_redirect_uris must be written https:\/\/a\.example\//,
  ],
  ['redirect URIs that are no list', { redirect_uris: 'https://a.example/cb' }, /redirect_uris/],
  ['an unknown authentication', { token_endpoint_auth_method: 'tls_client_auth' }, /auth_method/],
  ['a key that is missing', { token_endpoint_auth_method: 'private_key_jwt' }, /jwks/],
  ['an unknown grant', { grant_types: ['password'] }, /grant_types/],
  ['the implicit flow', { response_types: ['token'] }, /response_types/],
  ['a client_id that is no text', { client_id: 5 }, /client_id/],
  ['the client_id of My security', { client_id: 'holdfast-my-security' }, /is reserved/],
  ['a client_id of nothing', { client_id: '' }, /client_id must be 1 to 256/],
  ['a client_id with a letter beyond ASCII', { client_id: 'caf\u00e9' }, /client_id must be/],
  ['a client_id on two lines', { client_id: 'a\nb' }, /client_id must be/],
  ['a client_id without end', { client_id: 'x'.repeat(257) }, /client_id must be/],
  ['U+0000', { client_name: 'a\0b' }, /character/],
  ['half a surrogate pair', { client_name: 'a\ud800' }, /character/],
  ['a name that turns the text', { client_name: 'Shop\u202e' }, /client_name must be 1 to 100/],
  ['a name that nobody sees', { client_name: '\u200b' }, /client_name must be/],
  ['a name with tags', { client_name: 'Shop\u{e0041}' }, /client_name must be/],
  ['a name of 10 KB', { client_name: 'x'.repeat(10_240) }, /client_name must be/],
]

for (const [what, changes, sentence] of refused) {
  test(`does not register ${what}`, async (t) => {
    const error = await t.throwsAsync(
      server.addClient({ ...valid, ...changes } as RequestedMetadata),
      { instanceOf: RegistrationError },
    )
    t.is(error?.code, 'invalid_client_metadata')
    t.regex(error?.message ?? '', sentence)
    t.regex(error?.message ?? '', /^The client cannot be registered: [^\n]*\.$/)
    t.is(await server.storage.clients.find('broken'), undefined)
  })
}

test('registers plain HTTP of loopback', async (t) => {
  const redirect_uris = ['http://localhost:3000/callback', 'http://127.0.0.1', 'http://0.0.0.0/cb']
  const { client_id } = await server.addClient({ ...valid, client_id: 'local', redirect_uris })
  t.deepEqual((await server.storage.clients.find(client_id))?.redirect_uris, redirect_uris)
})

test('registers any client_id that RFC 6749 has', async (t) => {
  const client_id = 'My shop: "a"/<b>?c=d%e&~'.padEnd(256, 'x')
  t.is((await server.addClient({ ...valid, client_id })).client_id, client_id)
})

test('changes no client to a name or redirect URI that it could not be added with', async (t) => {
  const { client_id } = await server.addClient({ ...valid, client_id: 'changing' })
  const by = { table: server.storage.clients, validator: server.provider }
  for (const change of [
    { client_name: 'Shop\u202e' },
    { redirect_uris: ['https://APP.example.com/callback'] },
  ]) {
    const error = await t.throwsAsync(
      changeClient(client_id, { ...valid, client_id, ...change }, by),
      { instanceOf: RegistrationError },
    )
    t.is(error?.code, 'invalid_client_metadata')
  }
})

test('tells a client_id that is taken from other mistakes', async (t) => {
  await server.addClient({ ...valid, client_id: 'taken' })
  const error = await t.throwsAsync(server.addClient({ ...valid, client_id: 'taken' }), {
    instanceOf: RegistrationError,
  })
  t.is(error?.code, 'client_id_taken')
})
