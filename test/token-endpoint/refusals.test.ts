import { X509Certificate } from 'node:crypto'
import { Readable } from 'node:stream'
import test from 'ava'
import { isBound } from '../../src/bindings/binding.ts'
import type { ClientKey } from '../../src/clients/client-keys.ts'
import type { BrowserSession } from '../../src/storage/browser-session-table.ts'
import { familyOfCode } from '../../src/token-endpoint/family.ts'
import { readForm } from '../../src/token-endpoint/form.ts'
import {
  isRefusal,
  type RefusalReason,
  refusalBody,
  refusalForOperators,
  refusals,
  refuse,
} from '../../src/token-endpoint/refusal.ts'
import { createClientFinder } from '../../src/token-endpoint/registered-clients.ts'
import { createResourceFinder } from '../../src/token-endpoint/registered-resources.ts'
import { accessTokenKeys } from '../../src/token-endpoint/token-keys.ts'
import type { ClientKeys } from '../../src/token-endpoint/token-request.ts'
import { selfSigned } from '../support/certificates.ts'
import { makeSigningKey } from '../support/jws.ts'
import {
  api,
  ask,
  client,
  credential,
  type Environment,
  issuer,
  key,
  keysOf,
  now,
  proof,
  type Request,
  uri,
  verifier,
} from './fixtures.ts'

/*
 * Every reason of the table of refusals, by a valid request of which one thing is broken. A reason
 * without a row here fails the last test.
 */

const notFetched = { forClient: 'not fetched', forOperator: 'not fetched: refused' }

const service: Request = { form: { grant_type: 'client_credentials', client_id: 'app' } }
const withForm = (form: object): Request => ({ form: { ...service.form, ...form } })
const code = (form: object = {}): Request => ({
  form: {
    grant_type: 'authorization_code',
    client_id: 'app',
    code: 'value',
    code_verifier: verifier,
    redirect_uri: 'https://app.example/callback',
    ...form,
  },
})
const refresh = (form: object = {}): Request => ({
  form: { grant_type: 'refresh_token', client_id: 'app', refresh_token: 'value', ...form },
})
const device = (form: object = {}): Request => ({
  form: {
    grant_type: 'urn:ietf:params:oauth:grant-type:device_code',
    client_id: 'app',
    device_code: 'value',
    ...form,
  },
})
const approved = (form: object = {}): Request => ({
  form: {
    grant_type: 'urn:openid:params:grant-type:ciba',
    client_id: 'app',
    auth_req_id: 'value',
    ...form,
  },
})
const ofRequest = (...more: [source?: object, rest?: object]) =>
  of('BackchannelAuthenticationRequest', ...more)
const undecidedRequest = { grantId: undefined }
const payment = { type: 'payment', to: 'Bob' }
const asking = (...details: object[]) => ({ authorization_details: JSON.stringify(details) })
const of = (...parameters: Parameters<typeof credential>) => ({ found: credential(...parameters) })
const others = {
  ...(credential('AuthorizationCode').browserSession as BrowserSession),
  accountId: 'bob',
}
const undecided = { accountId: undefined, expiresWithSession: undefined }
const excused = { client: client({ requiresPkce: false }) }
const bound = (method: string) => ({ client: client({ method }) })

const basic = (text: string) => ({ authorization: `Basic ${btoa(text)}` })
const withSecret = (changes = {}) => ({
  client: client({ authenticatesBy: 'client_secret_basic', ...changes }),
})
const secret: Request = { form: { grant_type: 'client_credentials' }, ...basic('app:secret') }

const assertionKey = makeSigningKey()
const withKeys = (keys: ClientKeys = keysOf(assertionKey)) => ({
  client: client({ authenticatesBy: 'private_key_jwt', keys }),
})
const assertion = (claims: object = {}, header: object = {}): Request => ({
  form: {
    grant_type: 'client_credentials',
    client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
    client_assertion: assertionKey.sign(header, {
      iss: 'app',
      sub: 'app',
      aud: issuer,
      jti: 'once',
      exp: now + 60,
      ...claims,
    }),
  },
})

/** A request of the backchannel that is bound to the key of its client's assertion, and redeemed so. */
const assertedRequest = (clientKey = assertionKey.jkt): [Request, Partial<Environment>] => [
  {
    form: { ...assertion().form, ...approved().form },
    dpop: undefined,
    connection: certificate(),
  },
  {
    ...ofRequest({ jkt: undefined, clientKey }),
    client: client({
      method: 'mtls',
      authenticatesBy: 'private_key_jwt',
      keys: keysOf(makeSigningKey(), assertionKey),
    }),
  },
]

const certificate = (thumbprint = 'mine', from = now - 60) => ({
  certificate: {
    thumbprint,
    chain: [],
    certificate: {
      validFromDate: new Date(from * 1000),
      validToDate: new Date((now + 60) * 1000),
      subject: 'CN=app',
      publicKey: { asymmetricKeyType: 'ec' },
    } as never,
  },
  tokenBinding: undefined,
})
const aroundNow = { notBefore: new Date((now - 60) * 1000), notAfter: new Date((now + 60) * 1000) }
const named = {
  ...certificate(),
  certificate: {
    ...certificate().certificate,
    certificate: new X509Certificate((await selfSigned(aroundNow)).cert),
  },
}
const certified: Request = { ...service, dpop: undefined, connection: certificate() }
const byName = {
  client: client({
    method: 'mtls',
    authenticatesBy: 'tls_client_auth',
    certificateSubject: { property: 'tls_client_auth_san_uri', value: 'https://other.example' },
  }),
}
const byRegistration = {
  client: client({ method: 'mtls', authenticatesBy: 'self_signed_tls_client_auth' }),
}

const registered: ClientKeys = { ...keysOf(), certificates: () => ['mine'] }
const keysLike = (changes: Partial<ClientKey>): ClientKeys => ({
  ...keysOf(),
  current: () =>
    keysOf(assertionKey)
      .current()
      .map((each) => ({ ...each, ...changes })),
})
/** A client that authenticates by the name of a certificate that an authority has issued. */
const trusted = (method: string) => ({
  client: client({
    method,
    authenticatesBy: 'tls_client_auth',
    certificateSubject: {
      property: 'tls_client_auth_subject_dn',
      value: 'CN=self-signed client',
    },
  }),
  authorities: { check: () => undefined },
  overlapS: 3600,
})
const tbh = 'A'.repeat(43)
const provided = (thumbprint: string) => ({
  certificate: undefined,
  tokenBinding: { provided: { tbh: thumbprint } } as never,
})
/** A refresh token that another request has used at this moment. */
const repeated = (
  environment: Partial<Environment> = {},
  source: object = {},
): Partial<Environment> => ({
  ...of('RefreshToken', { succession: 's', ...source }),
  reuseS: 10,
  outcome: 'already consumed',
  successor: { payload: { jkt: key.jkt }, consumedAt: null },
  ...environment,
})

type Case = [Request, Partial<Environment>?]

const cases: Partial<Record<RefusalReason, Case | Record<string, Case>>> = {
  parameter_twice: {
    'of the client': [withForm({ client_id: ['app', 'app'] })],
    'of the grant': [code({ code: ['value', 'value'] })],
    'grant_type itself': [withForm({ grant_type: ['client_credentials', 'refresh_token'] })],
  },
  parameter_missing: {
    grant_type: [{ form: { client_id: 'app' } }],
    code: [code({ code: undefined })],
    redirect_uri: [code({ redirect_uri: undefined })],
    refresh_token: [refresh({ refresh_token: '' })],
  },
  grant_type_unknown: [withForm({ grant_type: 'password' })],
  grant_type_forbidden: [service, { client: client({ grantTypes: new Set(['refresh_token']) }) }],
  scope_malformed: [withForm({ scope: 'a  b' })],
  origin_forbidden: [{ ...service, origin: 'https://evil.example' }],

  client_unnamed: [{ form: { grant_type: 'client_credentials' } }],
  client_named_twice: [{ ...withForm({}), ...basic('other:secret') }, withSecret()],
  client_authenticates_twice: {
    'a secret and a header': [{ ...withForm({ client_secret: 's' }), ...basic('app:secret') }],
    'an assertion and a header': [{ ...assertion(), ...basic('app:secret') }],
  },
  authorization_malformed: {
    'another scheme': [{ ...service, authorization: 'Bearer abc' }],
    'no base64': [{ ...service, authorization: 'Basic *' }],
    'no colon': [{ ...service, ...basic('app') }],
    'no secret': [{ ...service, ...basic('app:') }],
    'a broken escape': [{ ...service, ...basic('app:%zz') }],
    'a control character': [{ ...service, ...basic('app:%0a') }],
  },
  assertion_type: [{ form: { ...assertion().form, client_assertion_type: 'other' } }, withKeys()],
  assertion_malformed: [{ form: { ...assertion().form, client_assertion: 'a.b' } }, withKeys()],
  client_unknown: [withForm({ client_id: 'nobody' })],
  client_method: {
    'a secret of a public client': [secret],
    'no secret of a confidential one': [service, withSecret()],
    'the secret in the form': [withForm({ client_secret: 'secret' }), withSecret()],
  },
  secret_wrong: [{ ...secret, ...basic('app:wrong') }, withSecret()],
  secret_expired: [secret, withSecret({ secretExpiresAt: now })],
  assertion_subject: {
    none: [assertion({ sub: undefined }), withKeys()],
    'an empty one': [assertion({ sub: '' }), withKeys()],
  },
  assertion_algorithm: {
    'one that is not accepted': [assertion({}, { alg: 'HS256' }), withKeys()],
    'another than the registered': [
      assertion(),
      { client: client({ ...withKeys().client, assertionAlgorithm: 'PS256' }) },
    ],
    'a critical extension': [assertion({}, { crit: ['x'], x: 1 }), withKeys()],
  },
  assertion_claims: {
    'no exp': [assertion({ exp: undefined }), withKeys()],
    'no jti': [assertion({ jti: undefined }), withKeys()],
    'an empty jti': [assertion({ jti: '' }), withKeys()],
    'a jti that is a number': [assertion({ jti: 1 }), withKeys()],
    'an nbf that is a text': [assertion({ nbf: '1' }), withKeys()],
    'an iat that is a text': [assertion({ iat: '1' }), withKeys()],
  },
  assertion_issuer: [assertion({ iss: 'other' }), withKeys()],
  assertion_audience: {
    'another server': [assertion({ aud: 'https://other.example' }), withKeys()],
    several: [assertion({ aud: [issuer, 'https://other.example'] }), withKeys()],
    'the issuer in a list': [assertion({ aud: [issuer] }), withKeys()],
    'the endpoint': [assertion({ aud: uri }), withKeys()],
    none: [assertion({ aud: undefined }), withKeys()],
  },
  assertion_signature: {
    'another key': [assertion(), withKeys(keysOf(makeSigningKey()))],
    'a key of another curve': [assertion(), withKeys(keysLike({ crv: 'P-384' }))],
    'a key for another algorithm': [assertion(), withKeys(keysLike({ alg: 'ES384' }))],
    'another kid': [assertion({}, { kid: 'other' }), withKeys()],
    'a key that was taken away': [
      assertion(),
      withKeys({ ...keysOf(), refresh: async () => 'fetched' }),
    ],
  },
  assertion_keys: {
    'of an assertion': [assertion(), withKeys({ ...keysOf(), refresh: async () => notFetched })],
    'of a certificate': [
      certified,
      {
        client: {
          ...byRegistration.client,
          keys: { ...registered, refresh: async () => notFetched },
        },
      },
    ],
  },
  assertion_time: {
    'the past': [assertion({ exp: now - 10 }), withKeys()],
    'the future': [assertion({ nbf: now + 11 }), withKeys()],
    'issued in the future': [assertion({ iat: now + 11 }), withKeys()],
  },
  assertion_long: [assertion({ exp: now + 601 }), withKeys()],
  assertion_replayed: {
    'in the statement that issues': [assertion(), { ...withKeys(), outcome: { replayed: 0 } }],
    'of a refresh token that was used': [
      { form: { ...assertion().form, ...refresh().form } },
      { ...withKeys(), ...of('RefreshToken', {}, { consumedAt: now - 1 }), replayed: true },
    ],
  },
  certificate_missing: {
    none: [service, byName],
    'none of a registered one': [service, byRegistration],
    'one whose time has not come': [
      { ...certified, connection: certificate('mine', now + 1) },
      byName,
    ],
    'a registered one whose time has not come': [
      { ...certified, connection: certificate('mine', now + 1) },
      { client: { ...byRegistration.client, keys: registered } },
    ],
  },
  certificate_untrusted: {
    'no authority': [certified, byName],
    'a revoked one': [certified, { ...byName, authorities: { check: () => 'revoked' } }],
  },
  certificate_subject: [
    { ...certified, connection: named },
    { ...byName, authorities: { check: () => undefined } },
  ],
  certificate_unregistered: [certified, byRegistration],

  client_metadata: [service, { clientProblem: { refused: 'client_metadata' } }],

  dpop_missing: [{ ...service, dpop: undefined }],
  dpop_invalid: {
    'no JWT': [{ ...service, dpop: 'no.proof' }],
    'another type': [{ ...service, dpop: proof({}, key, { typ: 'JWT' }) }],
    'an algorithm that is not accepted': [{ ...service, dpop: proof({}, key, { alg: 'ES384' }) }],
    'an algorithm that its profile does not allow': [
      service,
      { client: client({ algorithms: ['PS256'] }) },
    ],
  },
  dpop_htm_mismatch: [{ ...service, dpop: proof({ htm: 'GET' }) }],
  dpop_htu_mismatch: [{ ...service, dpop: proof({ htu: `${issuer}/other` }) }],
  dpop_nonce: {
    'none where one is needed': [service, { nonces: 'required' }],
    'a wrong one': [{ ...service, dpop: proof({ nonce: 'wrong' }) }],
  },
  dpop_not_recent: {
    'by default': [{ ...service, dpop: proof({ iat: now - 301 }) }],
    'by a shorter window': [{ ...service, dpop: proof({ iat: now - 61 }) }, { windowS: 60 }],
    'of the future': [{ ...service, dpop: proof({ iat: now + 11 }) }],
  },
  dpop_replayed: [service, { outcome: { replayed: 0 } }],
  certificate_proof_missing: {
    'of a client of certificates': [{ ...service, dpop: undefined }, bound('mtls')],
  },
  token_binding_missing: {
    'none at all': [{ ...service, dpop: undefined }, bound('token-binding')],
    'no referred one': [
      {
        ...code(),
        dpop: undefined,
        connection: provided(tbh),
      },
      { ...bound('token-binding'), ...of('AuthorizationCode', { scope: 'read' }) },
    ],
  },
  two_bindings: [{ ...certified, dpop: proof() }, bound('mtls')],

  token_unknown: {
    code: [code()],
    'refresh token': [refresh()],
    'device code': [device()],
    'a request of the backchannel': [approved()],
  },
  client_mismatch: {
    code: [code(), of('AuthorizationCode', { clientId: 'other', expiresWithSession: false })],
    'refresh token': [
      refresh(),
      of('RefreshToken', { clientId: 'other', expiresWithSession: false }),
    ],
    'device code': [device(), of('DeviceCode', { clientId: 'other', expiresWithSession: false })],
    'a request of the backchannel': [approved(), ofRequest({ clientId: 'other' })],
  },
  code_expired: [code(), of('AuthorizationCode', { exp: now })],
  token_expired: [refresh(), of('RefreshToken', { exp: now })],
  session_ended: {
    'a code': [code(), of('AuthorizationCode', {}, { browserSession: undefined })],
    'a code of another person': [code(), of('AuthorizationCode', {}, { browserSession: others })],
    'a code of another grant': [code(), of('AuthorizationCode', { grantId: 'other' })],
    'a refresh token of nobody': [
      refresh(),
      of(
        'RefreshToken',
        { accountId: undefined },
        { session: {}, browserSession: { ...others, accountId: undefined as never } },
      ),
    ],
    'a refresh token': [refresh(), of('RefreshToken', {}, { session: undefined })],
    'a device code': [device(), of('DeviceCode', {}, { session: { accountId: 'other' } })],
    'a device code whose session is of another person': [
      device(),
      of('DeviceCode', { expiresWithSession: false }, { session: { accountId: 'other' } }),
    ],
    'a device code for offline access': [
      device(),
      of('DeviceCode', { expiresWithSession: false }, { browserSession: undefined }),
    ],
  },
  grant_gone: {
    none: [code(), of('AuthorizationCode', {}, { grant: undefined })],
    'an ended one': [
      refresh(),
      of('RefreshToken', {}, { grant: { accountId: 'ada', clientId: 'app', exp: now } }),
    ],
    'that of another client': [
      device(),
      of('DeviceCode', {}, { grant: { accountId: 'ada', clientId: 'other' } }),
    ],
  },
  account_gone: {
    none: [code(), of('AuthorizationCode', {}, { account: undefined })],
    'a disabled one': [
      refresh(),
      of(
        'RefreshToken',
        {},
        {
          account: { id: 'ada', email: 'a', disabled: true, createdAt: new Date(0) },
        },
      ),
    ],
  },
  account_mismatch: [
    code(),
    of('AuthorizationCode', {}, { grant: { accountId: 'other', clientId: 'app' } }),
  ],
  pkce_malformed: [code({ code_verifier: 'short' }), of('AuthorizationCode')],
  pkce_mismatch: {
    'another verifier': [code({ code_verifier: 'w'.repeat(43) }), of('AuthorizationCode')],
    none: [code({ code_verifier: undefined }), of('AuthorizationCode')],
    'a code without a challenge': [code(), of('AuthorizationCode', { codeChallenge: undefined })],
    'neither a verifier nor a challenge': [
      code({ code_verifier: undefined }),
      of('AuthorizationCode', { codeChallenge: undefined, codeChallengeMethod: undefined }),
    ],
    'neither of an excused client, and no nonce': [
      code({ code_verifier: undefined }),
      { ...of('AuthorizationCode', { codeChallenge: undefined, nonce: undefined }), ...excused },
    ],
    'a verifier without a challenge, of an excused client': [
      code(),
      { ...of('AuthorizationCode', { codeChallenge: undefined, nonce: 'n' }), ...excused },
    ],
    'no verifier of an excused client that sent a challenge': [
      code({ code_verifier: undefined }),
      { ...of('AuthorizationCode', { nonce: 'n' }), ...excused },
    ],
    'another method': [code(), of('AuthorizationCode', { codeChallengeMethod: 'plain' })],
    'a Token Binding that is not shown': [
      code({ code_verifier: 'provided_tb' }),
      of('AuthorizationCode', { codeChallenge: `TB-S256.${'A'.repeat(43)}` }),
    ],
  },
  redirect_uri_mismatch: [code({ redirect_uri: 'https://app.example/' }), of('AuthorizationCode')],
  key_mismatch: {
    dpop_jkt: [code(), of('AuthorizationCode', { dpopJkt: 'other' })],
    'jkt of a refresh token': [refresh(), of('RefreshToken', { jkt: 'other' })],
    'x5t#S256 of a refresh token': [
      { ...refresh(), dpop: undefined, connection: certificate() },
      { ...bound('mtls'), ...of('RefreshToken', { jkt: undefined, 'x5t#S256': 'other' }) },
    ],
    'a refresh token without its certificate': [
      refresh(),
      of('RefreshToken', { 'x5t#S256': 'mine' }),
    ],
    'a refresh token with its certificate before its time': [
      { ...refresh(), dpop: undefined, connection: certificate('mine', now + 1) },
      { ...bound('bearer'), ...of('RefreshToken', { jkt: undefined, 'x5t#S256': 'mine' }) },
    ],
    'tbh of a refresh token': [refresh(), of('RefreshToken', { tbh: 'other' })],
    'jkt of a device code': [device(), of('DeviceCode', { jkt: 'other' })],
    'jkt of a request of the backchannel': [approved(), ofRequest({ jkt: 'other' })],
    'jkt of one that nobody has decided': [
      approved(),
      ofRequest({ ...undecidedRequest, jkt: 'other' }),
    ],
    'the key of the client of a request of the backchannel': assertedRequest('other'),
    'another key of a client with a certificate': [
      { ...refresh(), connection: named },
      { ...trusted('dpop'), ...of('RefreshToken', { jkt: 'other' }) },
    ],
    'another certificate of a client that does not authenticate by it': [
      { ...refresh(), dpop: undefined, connection: certificate() },
      {
        ...bound('mtls'),
        ...of('RefreshToken', { jkt: undefined, 'x5t#S256': 'other' }),
        overlapS: 3600,
      },
    ],
  },
  not_bound: {
    'a refresh token': [refresh(), of('RefreshToken', { jkt: undefined })],
    'a device code': [device(), of('DeviceCode', { jkt: undefined })],
    'a request of the backchannel': [approved(), ofRequest({ jkt: undefined })],
  },
  id_token_unbound: [
    code(),
    { ...of('AuthorizationCode'), client: client({ bindsIdTokens: true }) },
  ],
  code_replayed: {
    later: [code(), of('AuthorizationCode', {}, { consumedAt: now - 1 })],
    'at once': [code(), { ...of('AuthorizationCode'), outcome: 'already consumed' }],
  },
  refresh_token_replayed: {
    later: [refresh(), of('RefreshToken', {}, { consumedAt: now - 1 })],
    'at once': [refresh(), { ...of('RefreshToken'), outcome: 'already consumed' }],
    'at the same moment, where none is repeated': [
      refresh(),
      of('RefreshToken', {}, { consumedAt: now + 1 }),
    ],
    'where none is repeated': [refresh(), repeated({ reuseS: 0 })],
    'of a client of bearer tokens': [
      refresh(),
      repeated(
        { ...bound('bearer'), successor: { payload: {}, consumedAt: null } },
        { jkt: undefined },
      ),
    ],
    'with a successor for another key': [
      refresh(),
      repeated({ successor: { payload: { jkt: 'other' }, consumedAt: null } }),
    ],
    'after its time': [
      refresh(),
      { ...of('RefreshToken', {}, { consumedAt: now - 10 }), reuseS: 10 },
    ],
    'with a successor that was used': [
      refresh(),
      {
        ...of('RefreshToken', { succession: 's' }, { consumedAt: now - 1 }),
        reuseS: 10,
        outcome: 'already consumed',
        successor: { payload: { jkt: key.jkt }, consumedAt: now },
      },
    ],
  },
  device_code_replayed: {
    later: [device(), of('DeviceCode', {}, { consumedAt: now - 1 })],
    'at once': [device(), { ...of('DeviceCode'), outcome: 'already consumed' }],
  },
  auth_req_id_replayed: {
    later: [approved(), ofRequest({}, { consumedAt: now - 1 })],
    'at once': [approved(), { ...ofRequest(), outcome: 'already consumed' }],
  },
  successor_proof: [
    refresh({ successor: proof({}, makeSigningKey()) }),
    { ...of('RefreshToken'), overlapS: 3600 },
  ],
  successor_name: {
    'too short': [
      { ...refresh({ successor: 'short' }), dpop: undefined, connection: certificate() },
      {
        ...bound('mtls'),
        ...of('RefreshToken', { jkt: undefined, 'x5t#S256': 'mine' }),
        overlapS: 3600,
      },
    ],
    'of a token that is kept': [
      refresh({ successor: 'any' }),
      { client: client({ refreshTokens: 'keep' }), ...of('RefreshToken'), overlapS: 3600 },
    ],
  },

  authorization_pending: {
    'a device': [device(), of('DeviceCode', undecided)],
    'the backchannel': [approved(), ofRequest(undecidedRequest)],
    'an account that does not exist': [
      approved(),
      ofRequest({ ...undecidedRequest, accountId: undefined }, { account: undefined }),
    ],
  },
  slow_down: {
    'a device': [device(), { ...of('DeviceCode', undecided), isInTime: false }],
    'the backchannel': [approved(), { ...ofRequest(undecidedRequest), isInTime: false }],
  },
  auth_req_id_expired: {
    decided: [approved(), ofRequest({ exp: now })],
    'not decided': [approved(), ofRequest({ ...undecidedRequest, exp: now })],
  },
  approval_denied: [approved(), ofRequest({ ...undecidedRequest, error: 'access_denied' })],
  device_code_expired: [device(), of('DeviceCode', { exp: now })],
  device_denied: [device(), of('DeviceCode', { error: 'access_denied' })],

  scope_forbidden: {
    'of this server': [
      withForm({ scope: 'openid email' }),
      { client: client({ scopes: new Set(['openid']) }) },
    ],
    'none that the API has': [withForm({ scope: 'other', resource: api })],
  },
  scope_exceeds: [refresh({ scope: 'openid write' }), of('RefreshToken')],
  details_malformed: {
    'no JSON': [code({ authorization_details: '[' }), of('AuthorizationCode', { rar: [payment] })],
    'two members of one name': [
      refresh({ authorization_details: '[{"type":"payment","type":"payment"}]' }),
      of('RefreshToken', { rar: [payment] }),
    ],
  },
  details_not_granted: {
    none: [code(asking(payment)), of('AuthorizationCode')],
    others: [code(asking({ ...payment, to: 'Eve' })), of('AuthorizationCode', { rar: [payment] })],
    'a wider list': [
      refresh(asking({ ...payment, actions: ['see', 'pay'] })),
      of('RefreshToken', { rar: [{ ...payment, actions: ['see'] }] }),
    ],
    'no list in the place of one': [
      refresh(asking(payment)),
      of('RefreshToken', { rar: [{ ...payment, actions: ['see'] }] }),
    ],
    'of another API': [
      device(asking({ type: 'other' })),
      of('DeviceCode', { rar: [{ type: 'other' }] }),
    ],
    'for a token of this server': [
      refresh(asking(payment)),
      of('RefreshToken', { rar: [payment], resource: undefined }),
    ],
    'of a client in its own name': [withForm({ ...asking(payment), resource: api })],
  },
  resource_malformed: {
    'no URI': [withForm({ resource: 'api' })],
    'a fragment': [withForm({ resource: `${api}#x` })],
  },
  resource_unknown: [withForm({ resource: 'https://nobody.example' })],
  resource_unregistered: [
    withForm({ resource: api }),
    { client: client({ scopesAt: () => undefined }) },
  ],
  resource_not_granted: [code({ resource: 'https://nobody.example' }), of('AuthorizationCode')],
  resource_several: {
    'of a client': [withForm({ resource: [api, 'https://other.example'] })],
    'of a code': [code({ resource: [api, 'https://other.example'] }), of('AuthorizationCode')],
  },
}

/** Refusals that end a family, by their cases. */
const ending = new Set([
  'code_replayed: later',
  'code_replayed: at once',
  'refresh_token_replayed: later',
  'refresh_token_replayed: after its time',
  'refresh_token_replayed: at the same moment, where none is repeated',
  'refresh_token_replayed: of a client of bearer tokens',
  'device_code_replayed: later',
  'auth_req_id_replayed: later',
])

for (const [reason, given] of Object.entries(cases)) {
  const all = Array.isArray(given) ? { '': given } : given
  for (const [what, [request, environment]] of Object.entries(all)) {
    const name = `${reason}${what && ': '}${what}`
    test(`refuses ${name}`, async (t) => {
      const { outcome, units, ended } = await ask(request, environment)
      const { result } = outcome
      if (!isRefusal(result)) return t.fail(JSON.stringify(result))
      t.is(result.refused, reason as RefusalReason)
      const { error, status } = refusals[result.refused]
      if (result.error === undefined) t.is(refusalBody(result).error, error)
      t.true(status === 400 || status === 401)
      // Nothing was written, unless the database was to decide.
      if (environment?.outcome === undefined) t.deepEqual(units, [])
      t.deepEqual(
        ended,
        ending.has(name) ? [reason.startsWith('refresh') ? 'family' : familyOfCode('value')] : [],
      )
    })
  }
}

const body = (text: string, headers: object) =>
  Object.assign(Readable.from([Buffer.from(text)]), { headers }) as never

const form = 'application/x-www-form-urlencoded'

test('refuses body_type', async (t) => {
  const read = await readForm(body('{}', { 'content-type': 'application/json' }))
  t.like(read, { refused: 'body_type' })
})

test('refuses body_unreadable', async (t) => {
  const long = `a=${'x'.repeat(60_000)}`
  t.like(await readForm(body(long, { 'content-type': form })), { refused: 'body_unreadable' })
  const cut = { 'content-type': form, 'content-length': '9' }
  t.like(await readForm(body('a=b', cut)), { refused: 'body_unreadable' })
})

test('every reason has a test', (t) => {
  const tested = new Set([...Object.keys(cases), 'body_type', 'body_unreadable'])
  t.deepEqual(
    Object.keys(refusals).filter((reason) => !tested.has(reason)),
    [],
  )
})

test('the valid cases are granted', async (t) => {
  const granted: [string, Case][] = [
    ['client credentials', [service]],
    ['a secret', [secret, withSecret()]],
    ['an assertion', [assertion(), withKeys()]],
    ['an assertion of 8 seconds ahead', [assertion({ nbf: now + 8, iat: now + 8 }), withKeys()]],
    ['a proof of 8 seconds ahead', [{ ...service, dpop: proof({ iat: now + 8 }) }]],
    [
      'keys that are fetched',
      [
        assertion(),
        withKeys(
          ((): ClientKeys => {
            let keys = keysOf()
            return {
              ...keys,
              current: () => keys.current(),
              refresh: async () => {
                keys = keysOf(assertionKey)
                return 'fetched'
              },
            }
          })(),
        ),
      ],
    ],
    ['a secret that will expire', [secret, withSecret({ secretExpiresAt: now + 1 })]],
    [
      'a certificate that is registered',
      [certified, { client: { ...byRegistration.client, keys: registered } }],
    ],
    [
      'a scope of an API, whatever the client has registered',
      [
        withForm({ scope: 'openid read', resource: api }),
        { client: client({ scopes: new Set(['openid']) }) },
      ],
    ],
    ['a code', [code(), of('AuthorizationCode')]],
    [
      'a code of a client that is excused from PKCE',
      [
        code({ code_verifier: undefined }),
        {
          ...of('AuthorizationCode', { codeChallenge: undefined, codeChallengeMethod: undefined }),
          ...excused,
        },
      ],
    ],
    [
      'a code that is bound by Token Binding',
      [
        { ...code({ code_verifier: 'provided_tb' }), connection: provided(tbh) },
        of('AuthorizationCode', { codeChallenge: `TB-S256.${tbh}` }),
      ],
    ],
    [
      'a certificate in the place of another',
      [
        { ...refresh(), dpop: undefined, connection: named },
        { ...trusted('mtls'), ...of('RefreshToken', { jkt: undefined, 'x5t#S256': 'other' }) },
      ],
    ],
    ['a refresh token', [refresh(), of('RefreshToken')]],
    ['an unknown scope', [refresh({ scope: 'openid unknown' }), of('RefreshToken')]],
    ['a device code', [device(), of('DeviceCode')]],
    ['a request of the backchannel', [approved(), ofRequest()]],
    ['one that is bound to the key of its client', assertedRequest()],
    [
      'a shorter list of details',
      [
        refresh(asking({ ...payment, actions: ['see'] })),
        of('RefreshToken', { rar: [{ ...payment, actions: ['see', 'pay'] }] }),
      ],
    ],
    ['a nonce', [{ ...service, dpop: proof({ iat: 0, nonce: 'good' }) }, { nonces: 'required' }]],
    [
      'a named key',
      [
        refresh({
          successor: proof(
            { ath: 'zUtH1sm-o9wvWd4ADSg9Sm2V83Y3zOkdCmPSdPSbGBw' },
            makeSigningKey(),
          ),
        }),
        of('RefreshToken'),
      ],
    ],
    [
      'a key that takes over in time',
      [
        refresh(),
        {
          ...of('RefreshToken', {
            jkt: 'old',
            successor: { confirmation: key.jkt, until: now + 1 },
          }),
          overlapS: 3600,
        },
      ],
    ],
    ['a repeated refresh', [refresh(), repeated()]],
  ]
  for (const [name, [request, environment]] of granted) {
    const { outcome } = await ask(request, environment)
    t.false(isRefusal(outcome.result), `${name}: ${JSON.stringify(outcome.result)}`)
  }
})

test('a key whose overlap has ended takes over nothing', async (t) => {
  const successor = { confirmation: key.jkt, until: now }
  const { outcome } = await ask(refresh(), {
    ...of('RefreshToken', { jkt: 'old', successor }),
    overlapS: 3600,
  })
  t.like(outcome.result, { refused: 'key_mismatch' })
})

test('the tokens of a refresh are bound to what was shown', async (t) => {
  const { units } = await ask(refresh(), of('RefreshToken'))
  const rows = units.flatMap(({ written }) => written)
  t.deepEqual(
    rows.map(({ kind, payload }) => [kind, isBound(payload)]),
    [
      ['AccessToken', true],
      ['RefreshToken', true],
    ],
  )
})

/** What a request writes of one kind. */
async function writtenBy(request: Request, environment: Partial<Environment>, kind: string) {
  const { units, outcome } = await ask(request, environment)
  const rows = units.flatMap(({ written }) => written)
  return { outcome, payload: rows.find((row) => row.kind === kind)?.payload }
}

test('the key that was to take over is kept until it has, and only while there is an overlap', async (t) => {
  const successor = { confirmation: 'next', until: now + 1 }
  const left = async (source: object, overlapS: number | undefined) => {
    const environment = { ...of('RefreshToken', { successor, ...source }), overlapS }
    return (await writtenBy(refresh(), environment, 'RefreshToken')).payload?.successor
  }
  t.deepEqual(await left({}, 3600), successor)
  t.is(await left({}, undefined), undefined)
  const taken = { jkt: 'old', successor: { ...successor, confirmation: key.jkt } }
  t.is(await left(taken, 3600), undefined)
})

test('a client that has the next nonce is sent no other', async (t) => {
  const nonceFor = async (nonce: string) =>
    (await ask({ ...service, dpop: proof({ nonce }) })).outcome.nonce
  t.is(await nonceFor('good'), 'next')
  t.is(await nonceFor('next'), undefined)
})

test('only keys that are for signatures verify the assertions of a client', async (t) => {
  const jwk = (changes: object) => ({ ...makeSigningKey().jwk, ...changes })
  const keys = [
    jwk({ kid: 'any' }),
    jwk({ kid: 'use', use: 'sig' }),
    jwk({ kid: 'operations', key_ops: ['verify'] }),
    jwk({ kid: 'encryption', use: 'enc' }),
    jwk({ kid: 'other operations', key_ops: ['wrapKey'] }),
    { kid: 'broken', kty: 'EC' },
  ]
  const registeredClient = {
    metadata: () => ({}),
    grantTypes: [],
    binding_method: 'dpop',
    asymmetricKeyStore: keys,
  }
  const engine = { Client: { find: async () => registeredClient } }
  const find = createClientFinder(engine as never, { find: async () => undefined })
  const found = await find('app')
  const kids = found && 'keys' in found && found.keys.current().map(({ kid }) => kid)
  t.deepEqual(kids, ['any', 'use', 'operations'])
})

const kept = {
  authenticatesBy: 'client_secret_post',
  refreshTokens: 'keep',
  refreshTokensBoundTo: 'client',
} as const
const keeping = (source: object = { jkt: undefined }, changes: Partial<Environment> = {}) =>
  ask(
    { ...refresh(), form: { ...refresh().form, client_secret: 'secret' } },
    { client: client(kept), ...of('RefreshToken', source), ...changes },
  )

test('a refresh token that is kept is not consumed, and has no successor', async (t) => {
  const { outcome, units } = await keeping()
  t.like(outcome.result, { body: { token_type: 'DPoP', refresh_token: undefined } })
  t.like(units, [{ consumed: undefined, written: [{ kind: 'AccessToken' }] }])
  t.is(units[0]?.written.length, 1)
  // Bound to a key before its client kept them, it stays so.
  t.like((await keeping({ jkt: 'other' })).outcome.result, { refused: 'key_mismatch' })
  // One that was used while its client rotated them was stolen, or its client is broken.
  const used = of('RefreshToken', { jkt: undefined }, { consumedAt: now - 1 })
  t.like((await keeping({}, used)).outcome.result, { refused: 'refresh_token_replayed' })
})

test('a refresh token that is kept is bound to what its client authenticates by', async (t) => {
  const { units } = await ask(
    { ...code(), form: { ...code().form, client_secret: 'secret' } },
    { client: client(kept), ...of('AuthorizationCode') },
  )
  const written = units.flatMap((unit) => unit.written)
  const { payload } = written.find(({ kind }) => kind === 'RefreshToken') ?? {}
  t.like(payload, { jkt: undefined, exp: now + 9000, family: familyOfCode('value') })
})

test('a refresh token is random where none is repeated', async (t) => {
  const { outcome } = await ask(refresh(), of('RefreshToken', { succession: 's' }))
  t.like(outcome.result, { body: { refresh_token: 'name 1' } })
})

test('a lost race ends the family of a credential that is bound to no key, and no other', async (t) => {
  const lost = async (...[kind, request]: [Parameters<typeof credential>[0], Request]) => {
    const late = (method: string, source: object) =>
      ask(request, { ...bound(method), ...of(kind, source), outcome: 'already consumed' })
    const bearer = await late('bearer', { jkt: undefined })
    return [(await late('dpop', {})).ended.length, bearer.ended.length]
  }
  t.deepEqual(await lost('RefreshToken', refresh()), [0, 1])
  t.deepEqual(await lost('DeviceCode', device()), [0, 1])
  t.deepEqual(await lost('BackchannelAuthenticationRequest', approved()), [0, 1])
  const [request, environment] = assertedRequest()
  const asserted = await ask(request, { ...environment, outcome: 'already consumed' })
  t.deepEqual(asserted.ended, [])
  t.like(asserted.outcome.result, { refused: 'auth_req_id_replayed' })
  t.deepEqual(await lost('AuthorizationCode', code()), [1, 1])
})

test('returns no refresh token to a client that must not refresh', async (t) => {
  const environment = {
    ...of('AuthorizationCode'),
    client: client({ grantTypes: new Set(['authorization_code']) }),
  }
  t.is((await writtenBy(code(), environment, 'RefreshToken')).payload, undefined)
})

test('a certificate outside its validity binds nothing', async (t) => {
  const environment = { ...bound('bearer'), ...of('AuthorizationCode') }
  const connection = certificate('mine', now + 1)
  const { payload } = await writtenBy(
    { ...code(), dpop: undefined, connection },
    environment,
    'RefreshToken',
  )
  t.false(isBound(payload ?? {}))
})

test('the keys of a token are decided by a proof, whatever was looked at before', (t) => {
  const proofs = { dpop: undefined, certificate: undefined, tokenBinding: undefined }
  const keysFor = (method: string) => {
    const request = { client: client({ method }), params: {}, resources: [], proofs, uri, now }
    return accessTokenKeys(request, { audience: api, issuer, certified: method === 'mtls' })
  }
  t.like(keysFor('dpop'), { refused: 'dpop_missing' })
  t.like(keysFor('mtls'), { refused: 'certificate_proof_missing' })
  t.like(keysFor('token-binding'), { refused: 'token_binding_missing' })
  t.false(isRefusal(keysFor('bearer')))
})

test('returns the scopes and claims that were asked for, as far as they were granted', async (t) => {
  const answer = async (source: object, grant: object = {}, form: object = {}) => {
    const { grant: common } = credential('AuthorizationCode')
    const world = of('AuthorizationCode', source, { grant: { ...common, ...grant } as never })
    const { outcome, units } = await ask(code(form), world)
    const { body } = outcome.result as { body: Record<string, string> }
    const claims = body.id_token && JSON.parse(body.id_token)
    return { body, claims, stored: units[0]?.written[0]?.payload }
  }
  const ofApi = async (scope: string, grant: object) =>
    (await answer({ scope }, grant, { resource: api })).body.scope
  t.is(await ofApi('openid read', {}), 'read')
  const rejected = { resources: { [api]: 'write' } }
  t.is(await ofApi('openid read write', { rejected }), 'read')
  t.is((await answer({ scope: 'read' })).claims, undefined)
  t.is((await answer({ scope: undefined, resource: undefined })).body.scope, undefined)

  const asked = { email: null, note: null, acr: { essential: true }, amr: null }
  const source = { amr: ['pwd'], acr: 'urn:x', referredTbh: tbh, claims: { id_token: asked } }
  const consented = { openid: { scope: 'openid', claims: ['email', 'note'] } }
  const { claims } = await answer(source, consented)
  t.like(claims, { email: 'ada@example.com', acr: 'urn:x', amr: ['pwd'] })
  t.is(claims.cnf?.tbh, undefined)
  // No scope has it, so it is not one of the claims that clients may ask for.
  t.false('note' in claims)
  const text = { claims: { id_token: { email: 'text' } } }
  const textual = await answer(text, { openid: { scope: 'openid', claims: ['email'] } })
  t.false('email' in textual.claims)

  const opaque = { resource: undefined, scope: 'openid' }
  t.is((await answer(opaque)).stored?.extra, undefined)
  const outliving = { ...opaque, expiresWithSession: false }
  const ended = of('AuthorizationCode', outliving, { browserSession: undefined })
  const { units } = await ask(code(), ended)
  t.truthy(units[0]?.written[0]?.payload.extra)
  t.is((await answer({ ...outliving, sessionUid: undefined })).stored?.extra, undefined)
})

test('rejects the admin API for a client that does not administer, and where it is off', async (t) => {
  const registeredApi = { identifier: api, scopes: ['read'], authorizationDetailsTypes: {} }
  const table = { find: async (id: string) => (id === api ? (registeredApi as never) : undefined) }
  const find = (id: string, administration?: 'read', adminApi = true) =>
    createResourceFinder({ resourceServers: table, issuer, adminApi })(
      id,
      client({ administration }),
    )
  const admin = `${issuer}/admin`
  t.deepEqual((await find(admin, 'read'))?.scopes, new Set(['admin:read']))
  t.is(await find(admin), undefined)
  t.is(await find(admin, 'read', false), undefined)
  t.is((await find(api))?.audience, api)
  t.is(await find('https://nobody.example', 'read'), undefined)
})

test('a refused request leaves its marks, and a failed proof leaves none', async (t) => {
  const { recorded } = await ask(code())
  t.is(recorded.length, 1)
  t.deepEqual((await ask({ ...service, dpop: 'no.proof' })).recorded, [])
})

test('counts a key that is not shown, or another one, as key_mismatch', (t) => {
  for (const reason of [
    'key_mismatch',
    'not_bound',
    'certificate_proof_missing',
    'token_binding_missing',
  ] as const) {
    const { reason: event, counted = event } = refusalForOperators(refuse(reason))
    t.is(counted, 'key_mismatch', reason)
  }
})

test('puts details into the tokens of the API that understands them, and no others', async (t) => {
  const rar = [payment, { type: 'other' }]
  const answerTo = async (form: object, source: object = {}) =>
    (await ask(code(form), of('AuthorizationCode', { rar, ...source }))).outcome.result
  const { body } = (await answerTo({})) as { body: { access_token: string } }
  t.like(body, { authorization_details: [payment] })
  t.like(JSON.parse(body.access_token), { aud: api, authorization_details: [payment] })
  const opaque = (await answerTo({}, { resource: undefined })) as { body: object }
  t.like(opaque.body, { access_token: 'name 0', authorization_details: undefined })
})
