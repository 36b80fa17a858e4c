import test from 'ava'
import { RegistrationError } from '../../src/clients/client-registration.ts'
import { applyPolicy, defaultPolicy } from '../../src/clients/registration-policy.ts'

const web = { redirect_uris: ['https://shop.example/callback'] }
const native = {
  application_type: 'native',
  redirect_uris: ['http://127.0.0.1/callback'],
  token_endpoint_auth_method: 'none',
}

test('fills in what RFC 7591 leaves to the server', (t) => {
  t.deepEqual(applyPolicy(defaultPolicy, web), {
    redirect_uris: web.redirect_uris,
    grant_types: ['authorization_code'],
    response_types: ['code'],
    token_endpoint_auth_method: 'client_secret_basic',
    scope: 'openid offline_access profile email',
  })
})

test('ignores what it does not understand', (t) => {
  const unknown = {
    client_id: 'mine',
    client_secret: 'mine',
    software_id: '1',
    sector_identifier_uri: 'https://metadata.internal/',
    request_uris: ['https://a.example'],
    'client_name#ja': 'x',
    grant_types: null,
  }
  t.deepEqual(applyPolicy(defaultPolicy, { ...web, ...unknown }), applyPolicy(defaultPolicy, web))
})

test('a client without people has no response types', (t) => {
  const policy = { ...defaultPolicy, grantTypes: ['client_credentials'] }
  const { response_types } = applyPolicy(policy, { grant_types: ['client_credentials'] })
  t.deepEqual(response_types, [])
})

const accepted: [string, object][] = [
  ['loopback redirects of native applications', native],
  [
    'schemes of native applications',
    { ...native, redirect_uris: ['com.example.app:/callback', 'https://app.example/callback'] },
  ],
  ['other bindings', { ...web, tls_client_certificate_bound_access_tokens: true }],
  ['fewer scopes', { ...web, scope: 'openid' }],
  ['pages of its own host', { ...web, client_uri: 'https://shop.example/', tos_uri: null }],
]

for (const [what, metadata] of accepted) {
  test(`accepts ${what}`, (t) => {
    t.notThrows(() => applyPolicy(defaultPolicy, { ...metadata }))
  })
}

const refused: [string, object, RegExp][] = [
  ['a grant beyond the policy', { grant_types: ['client_credentials'] }, /grant_types may have/],
  ['a response type whose grant is', { response_types: ['code id_token'] }, /grant_types may have/],
  ['a response type beyond all', { response_types: ['code token'] }, /grant_types may have/],
  ['bearer tokens', { binding_method: 'bearer' }, /binding_method may have dpop, mtls/],
  [
    'bindings that contradict themselves',
    { binding_method: 'dpop', tls_client_certificate_bound_access_tokens: true },
    /contradicts binding_method dpop/,
  ],
  ['a scope beyond the policy', { scope: 'openid admin' }, /scope may have/],
  ['a scope that is no string', { scope: ['openid'] }, /scope must be/],
  ['grants that are no list', { grant_types: 'authorization_code' }, /grant_types must be a list/],
  ['grants that are no strings', { grant_types: [7] }, /grant_types must be a list/],
  ['administration', { administration: 'read' }, /administration is for an administrator/],
  ['rules of sessions', { session_policy: {} }, /session_policy is for an administrator/],
  ['where it came from', { self_registered: false }, /self_registered is for an administrator/],
  ['a name on two lines', { client_name: 'Shop\nof Ada' }, /client_name must be/],
  ['a name that turns the text', { client_name: 'Shop\u202e' }, /client_name must be/],
  ['a name without end', { client_name: 'x'.repeat(10_240) }, /client_name must/],
  ['a name that nobody sees', { client_name: '\u200b' }, /client_name must be/],
  ['a name with tags', { client_name: 'Shop\u{e0041}' }, /client_name must be/],
  ['half a name', { client_name: 'Shop\ud800' }, /client_name must be/],
  ['a name that is no text', { client_name: ['Shop'] }, /client_name must be/],
  ['a long text', { contacts: [`${'x'.repeat(2048)}@a.example`] }, /contacts must not be longer/],
  ['a long contact', { contacts: [`${'x'.repeat(250)}@a.example`] }, /contacts must not be longer/],
  [
    'members without end',
    Object.fromEntries(Array.from({ length: 100 }, (_, at) => [`unknown_${at}`, at])),
    /metadata must have 100 members/,
  ],
  ['a long list', { contacts: Array(21).fill('a@a.example') }, /contacts must have 20/],
  ['many keys', { jwks: { keys: Array(21).fill({}) } }, /jwks must have 20/],
  ['much of everything', { jwks: { keys: [{ x5c: ['x'.repeat(17_000)] }] } }, /must not be longer/],
  ['keys over plain HTTP', { jwks_uri: 'http://shop.example/keys' }, /jwks_uri must be an https/],
  ['keys in a file', { jwks_uri: 'file:///etc/passwd' }, /jwks_uri must be an https/],
  ['a page of somebody else', { client_uri: 'https://bank.example/' }, /client_uri must be at/],
  ['a logo of somebody else', { logo_uri: 'https://bank.example/x.svg' }, /logo_uri must be at/],
  ['terms over plain HTTP', { tos_uri: 'http://shop.example/' }, /tos_uri must be an https/],
]

for (const [what, changes, words] of refused) {
  test(`refuses ${what}`, (t) => {
    const error = t.throws(() => applyPolicy(defaultPolicy, { ...web, ...changes }), {
      instanceOf: RegistrationError,
    })
    t.is(error?.code, 'invalid_client_metadata')
    t.regex(error?.message ?? '', words)
  })
}

test('refuses a way to authenticate beyond the policy', (t) => {
  const policy = { ...defaultPolicy, authMethods: ['private_key_jwt'] }
  const error = t.throws(() => applyPolicy(policy, web), { instanceOf: RegistrationError })
  t.regex(error?.message ?? '', /token_endpoint_auth_method may have private_key_jwt only/)
})

test('approves no software statement', (t) => {
  const error = t.throws(() => applyPolicy(defaultPolicy, { ...web, software_statement: 'x' }), {
    instanceOf: RegistrationError,
  })
  t.is(error?.code, 'unapproved_software_statement')
})

const wrongRedirects: [string, string, object?][] = [
  ['plain HTTP', 'http://shop.example/cb'],
  ['a wildcard', 'https://*.shop.example/cb'],
  ['a user name', 'https://bank.example@shop.example/cb'],
  ['loopback of a web application', 'https://localhost/cb'],
  ['another name of loopback', 'https://localhost./cb'],
  ['an address of this machine', 'https://0.0.0.0/cb'],
  ['loopback in IPv6', 'https://[::ffff:7f00:1]/cb'],
  ['another spelling', 'https://SHOP.example/cb'],
  ['what is no URI', '/callback'],
  ['a script', 'javascript:alert(1)', native],
  ['a scheme without a domain', 'myapp:/callback', native],
  ['plain HTTP of a native application', 'http://shop.example/cb', native],
]

for (const [what, uri, base = web] of wrongRedirects) {
  for (const name of ['redirect_uris', 'post_logout_redirect_uris']) {
    test(`refuses ${what} in ${name}`, (t) => {
      const error = t.throws(() => applyPolicy(defaultPolicy, { ...base, [name]: [uri] }), {
        instanceOf: RegistrationError,
      })
      t.is(error?.code, 'invalid_redirect_uri')
    })
  }
}

test('keeps redirects at the hosts of the policy', (t) => {
  const policy = { ...defaultPolicy, redirectHosts: ['shop.example'] }
  t.notThrows(() => applyPolicy(policy, web))
  t.notThrows(() => applyPolicy(policy, { redirect_uris: ['https://shop.example:8443/cb'] }))
  for (const uri of [
    'https://SHOP.example:8443/cb',
    'https://evil.example/cb',
    'https://shop.example.evil.example/cb',
    'http://127.0.0.1/callback',
    'com.example.app:/callback',
  ]) {
    const error = t.throws(() => applyPolicy(policy, { ...native, redirect_uris: [uri] }), {
      instanceOf: RegistrationError,
    })
    t.is(error?.code, 'invalid_redirect_uri')
  }
})
