/*
 * What the extensions of the engine refuse of the metadata of a client: one valid case each, and one
 * thing that is broken.
 */
import { X509Certificate } from 'node:crypto'
import test from 'ava'
import { cibaGrant } from '../../src/clients/grant-types.ts'
import { checkIdTokenClaims } from '../../src/engine/account-claims.ts'
import { checkAdministration } from '../../src/engine/admin-resource.ts'
import { richAuthorization } from '../../src/engine/authorization-details.ts'
import { backchannel } from '../../src/engine/backchannel-requests.ts'
import { checkAudienceMetadata } from '../../src/engine/client-audience.ts'
import { checkCertificateMetadata } from '../../src/engine/client-certificates.ts'
import { checkDefaults } from '../../src/engine/client-defaults.ts'
import { checkLogoutMetadata } from '../../src/engine/client-logout.ts'
import { checkPkceMetadata } from '../../src/engine/client-pkce.ts'
import { checkSessionPolicy } from '../../src/engine/client-session-policy.ts'
import { checkConsentMetadata } from '../../src/engine/first-party.ts'
import { openRedirects } from '../../src/engine/open-redirects.ts'
import { checkTokenBindingMetadata } from '../../src/engine/token-binding/metadata.ts'
import { selfSigned } from '../support/certificates.ts'

const around = { notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + 60_000) }
const [own, other] = (await Promise.all([selfSigned(around), selfSigned(around)])).map(
  ({ cert }) => {
    const certificate = new X509Certificate(cert)
    const jwk = certificate.publicKey.export({ format: 'jwk' })
    return { jwk, x5c: certificate.raw.toString('base64') }
  },
) as [{ jwk: object; x5c: string }, { jwk: object; x5c: string }]

const device = 'urn:ietf:params:oauth:grant-type:device_code'
const standard = new Set(['openid', 'email'])
const page = 'https://app.example/logout'

/** Each function, with metadata that it accepts. */
const checks = {
  administration: [
    checkAdministration,
    {
      administration: 'read',
      binding_method: 'dpop',
      grant_types: ['client_credentials'],
      token_endpoint_auth_method: 'client_secret_basic',
    },
  ],
  certificates: [
    (metadata: never) => checkCertificateMetadata(metadata, true),
    { token_endpoint_auth_method: 'self_signed_tls_client_auth', binding_method: 'mtls' },
  ],
  'no certificates': [(metadata: never) => checkCertificateMetadata(metadata, false), {}],
  pkce: [checkPkceMetadata, { token_endpoint_auth_method: 'client_secret_basic' }],
  'session policy': [checkSessionPolicy, {}],
  'Token Binding': [(metadata: never) => checkTokenBindingMetadata(metadata, true), {}],
  'no Token Binding': [(metadata: never) => checkTokenBindingMetadata(metadata, false), {}],
  'claims of ID tokens': [checkIdTokenClaims, {}],
  details: [(metadata: never) => richAuthorization.checkClient?.(metadata, {} as never), {}],
  backchannel: [
    (metadata: never) => backchannel.checkClient?.(metadata, {} as never),
    {
      grant_types: [cibaGrant],
      token_endpoint_auth_method: 'private_key_jwt',
      binding_method: 'dpop',
    },
  ],
  logout: [checkLogoutMetadata, { redirect_uris: ['https://app.example/callback'] }],
  consent: [
    checkConsentMetadata,
    { skip_consent: true, redirect_uris: ['https://app.example/callback'] },
  ],
  defaults: [(metadata: never) => checkDefaults(metadata, standard), {}],
  audience: [checkAudienceMetadata, {}],
  redirects: [(metadata: never) => openRedirects.checkClient?.(metadata, {} as never), {}],
} as const

const withKey = (key: object) => ({ jwks: { keys: [key] } })
const many = (count: number) => Array.from({ length: count }, (_, at) => `type${at}`)

const accepted: readonly [keyof typeof checks, ...object[]][] = [
  ['administration', {}, { administration: undefined, grant_types: [] }],
  [
    'certificates',
    { tls_client_auth_san_dns: 'a.example' },
    withKey({ ...own.jwk, x5c: [own.x5c] }),
    withKey(own.jwk),
  ],
  ['no certificates', {}, { binding_method: 'dpop' }],
  [
    'pkce',
    {},
    { require_pkce: true, token_endpoint_auth_method: 'none' },
    { require_pkce: false },
    { require_pkce: false, require_nonce: false },
  ],
  ['audience', {}, { endpoint_audience: true }, { endpoint_audience: false }],
  ['redirects', {}, { redirect_errors: true }, { redirect_errors: false }],
  ['session policy', {}],
  ['Token Binding', {}, { id_token_token_binding_cnf: 'tbh' }],
  ['no Token Binding', { grant_types: [device] }],
  ['claims of ID tokens', {}, { id_token_claims: false }, { id_token_claims: true }],
  ['details', {}, { authorization_details_types: many(20) }],
  [
    'backchannel',
    {},
    { token_endpoint_auth_method: 'tls_client_auth', binding_method: 'mtls' },
    { grant_types: [], binding_method: 'bearer' },
  ],
  [
    'logout',
    {},
    { backchannel_logout_uri: 'https://other.example/logout' },
    { frontchannel_logout_uri: page, frontchannel_logout_session_required: true },
  ],
  [
    'consent',
    {},
    { skip_consent: undefined, redirect_uris: ['http://localhost/'] },
    { skip_consent: false, redirect_uris: ['http://localhost/'] },
  ],
  [
    'defaults',
    {},
    { default_resource: 'https://api.example' },
    { default_scope: 'openid read', scope: 'openid' },
    { default_scope: 'email' },
  ],
]

for (const [name, ...metadata] of accepted) {
  test(`accepts valid metadata: ${name}`, (t) => {
    const [check, valid] = checks[name]
    for (const each of metadata) t.notThrows(() => check({ ...valid, ...each } as never))
  })
}

const refused: readonly [keyof typeof checks, Readonly<Record<string, object>>][] = [
  [
    'administration',
    {
      'an unknown level': { administration: 'all' },
      'another grant': { grant_types: ['refresh_token'] },
      'one grant more': { grant_types: ['client_credentials', 'authorization_code'] },
      'no grants': { grant_types: undefined },
      'no authentication': { token_endpoint_auth_method: 'none' },
      'bearer tokens': { binding_method: 'bearer' },
    },
  ],
  [
    'certificates',
    {
      'a name that no certificate has': { tls_client_auth_san_dns: 'a b' },
      'a certificate of another key': withKey({ ...own.jwk, x5c: [other.x5c] }),
      'an empty list of certificates': withKey({ ...own.jwk, x5c: [] }),
    },
  ],
  ['no certificates', { 'tokens that are bound by some': { binding_method: 'mtls' } }],
  [
    'pkce',
    {
      'none for a public client': { require_pkce: false, token_endpoint_auth_method: 'none' },
      'another word': { require_pkce: 'no' },
      'PKCE without a nonce': { require_nonce: false },
    },
  ],
  ['audience', { 'a text': { endpoint_audience: 'yes' } }],
  ['redirects', { 'a text': { redirect_errors: 'yes' } }],
  ['session policy', { 'an unknown rule': { session_policy: { rule: 1 } } }],
  [
    'Token Binding',
    {
      'ID tokens that are bound by x': { id_token_token_binding_cnf: 'x' },
      'bound ID tokens of a device': { id_token_token_binding_cnf: 'tbh', grant_types: [device] },
    },
  ],
  [
    'no Token Binding',
    {
      'bound ID tokens': { id_token_token_binding_cnf: 'tbh' },
      'bound access tokens': { binding_method: 'token-binding' },
    },
  ],
  ['claims of ID tokens', { 'a text': { id_token_claims: 'yes' } }],
  [
    'details',
    {
      'a text': { authorization_details_types: 'payment' },
      'a number': { authorization_details_types: ['payment', 1] },
      '21 types': { authorization_details_types: many(21) },
    },
  ],
  [
    'backchannel',
    {
      'a secret': { token_endpoint_auth_method: 'client_secret_basic' },
      'bearer tokens': { binding_method: 'bearer' },
    },
  ],
  [
    'logout',
    {
      'a switch that is a text': { backchannel_logout_session_required: 'yes' },
      http: { backchannel_logout_uri: 'http://app.example/logout' },
      'no URL': { backchannel_logout_uri: 1 },
      'a user name': { backchannel_logout_uri: 'https://ada@app.example/logout' },
      'a password': { backchannel_logout_uri: 'https://:secret@app.example/logout' },
      'a fragment': { backchannel_logout_uri: `${page}#x` },
      '2,049 characters': { backchannel_logout_uri: `${page}?`.padEnd(2049, 'x') },
      'a page of another origin': { frontchannel_logout_uri: 'https://other.example/logout' },
    },
  ],
  [
    'consent',
    {
      'a text': { skip_consent: 'yes' },
      'a client that registered itself': { self_registered: true },
      'a native application': { application_type: 'native' },
      'a redirect by http': { redirect_uris: ['http://app.example/callback'] },
      'a redirect to this machine': { redirect_uris: ['https://localhost/callback'] },
      'one bad redirect of two': { redirect_uris: [page, 'com.example.app:/callback'] },
    },
  ],
  [
    'defaults',
    {
      'a resource that is no URI': { default_resource: '/api' },
      'a resource with a fragment': { default_resource: 'https://api.example/#x' },
      'a resource that is a number': { default_resource: 1 },
      'scopes that are a list': { default_scope: ['read'] },
      'scopes with a tab': { default_scope: 'read\twrite' },
      'a scope that the client may not have': { default_scope: 'openid email', scope: 'openid' },
    },
  ],
]

for (const [name, cases] of refused) {
  for (const [what, changes] of Object.entries(cases)) {
    test(`rejects metadata: ${name}: ${what}`, (t) => {
      const [check, valid] = checks[name]
      const error = t.throws(() => check({ ...valid, ...changes } as never))
      t.is((error as { error?: string }).error, 'invalid_client_metadata')
    })
  }
}
