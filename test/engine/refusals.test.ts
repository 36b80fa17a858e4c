/*
 * What the extensions of the engine refuse, by functions that need no server: one valid case each,
 * and one thing that is broken.
 */
import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import { EventEmitter } from 'node:events'
import test from 'ava'
import Provider, {
  errors,
  interactionPolicy,
  type JWK,
  type KoaContextWithOIDC,
} from 'oidc-provider'
import { AbortedError, NotFoundError } from 'oidc-provider/lib/helpers/re_render_errors.js'
import { get as internalsOf } from 'oidc-provider/lib/helpers/weak_cache.js'
import { boundSessionAcr, passkeyAcr, passwordAcr } from '../../src/accounts/acr.ts'
import { requireRegisteredClaims } from '../../src/engine/account-claims.ts'
import { adminResource, adminScopesOf } from '../../src/engine/admin-resource.ts'
import { missingAcr } from '../../src/engine/authentication-context.ts'
import {
  checkDetails,
  grantedDetails,
  requestedDetails,
  withDetailsConsent,
} from '../../src/engine/authorization-details.ts'
import { checkSignedRequest, cibaFeature } from '../../src/engine/backchannel-requests.ts'
import { activeAccount, browserRequest } from '../../src/engine/browser-request.ts'
import { isKeyOf, mtlsFeature } from '../../src/engine/client-certificates.ts'
import {
  createDefaultResource,
  createResourceOfScopes,
  fillScope,
  requireRegisteredScopes,
  requireScope,
} from '../../src/engine/client-defaults.ts'
import { checkAlgorithm, checkAssertion, checkRequestTimes } from '../../src/engine/client-jwts.ts'
import { fetchKeySet, withoutUnusableKeys } from '../../src/engine/client-keys.ts'
import { needsChallenge } from '../../src/engine/client-pkce.ts'
import { bindDeviceCodes } from '../../src/engine/device-codes.ts'
import { createDevicePages } from '../../src/engine/device-pages.ts'
import { createNonces } from '../../src/engine/dpop-nonces.ts'
import { observeEngine } from '../../src/engine/engine-events.ts'
import { useKeyRing } from '../../src/engine/engine-keys.ts'
import { explainFailedFetches } from '../../src/engine/fetch-problems.ts'
import { grantSkippedConsent, skipsConsent } from '../../src/engine/first-party.ts'
import { takeConsent } from '../../src/engine/given-consent.ts'
import { createInteractionPolicy } from '../../src/engine/interaction-policy.ts'
import { checkJsonParameters } from '../../src/engine/json-parameters.ts'
import { isCurrentJwt, isRecentProof, isShortRequest } from '../../src/engine/jwt-times.ts'
import { createKnownBrowsers } from '../../src/engine/known-browsers.ts'
import { combineAdditions } from '../../src/engine/model-additions.ts'
import { honourOfflineAccess } from '../../src/engine/offline-access.ts'
import { openRedirects } from '../../src/engine/open-redirects.ts'
import { mayCallFrom } from '../../src/engine/provider.ts'
import { boundParameters } from '../../src/engine/request-bounds.ts'
import { createSealedState } from '../../src/engine/sealed-state.ts'
import { openClientView, rememberShown, wasShown } from '../../src/engine/shown-client.ts'
import { shownKey } from '../../src/engine/shown-key.ts'
import { keepReferredTokenBinding } from '../../src/engine/token-binding/referred.ts'
import {
  bindInteractionPages,
  bindSessionsByTokenBinding,
} from '../../src/engine/token-binding/sessions.ts'
import { GuardedFetchError } from '../../src/net/guarded-fetch.ts'
import { AlreadyConsumedError } from '../../src/storage/already-consumed.ts'
import { DatabaseUnavailableError } from '../../src/storage/database-unavailable.ts'
import { selfSigned } from '../support/certificates.ts'
import { makeSigningKey } from '../support/jws.ts'

const now = 1_800_000_000
const nowMs = now * 1000
const hour = 3600
const around = { notBefore: new Date(nowMs - 60_000), notAfter: new Date(nowMs + 60_000) }
const [ours, others] = await Promise.all([selfSigned(around), selfSigned(around)])
const certificateOf = ({ cert }: typeof ours) => {
  const certificate = new X509Certificate(cert)
  const jwk = certificate.publicKey.export({ format: 'jwk' })
  return { certificate, jwk, x5c: certificate.raw.toString('base64') }
}
const [own, other] = [certificateOf(ours), certificateOf(others)]
const weak = { kty: 'RSA', n: Buffer.alloc(64, 0xff).toString('base64url'), e: 'AQAB' }

/** Whether a function throws an error of the engine, by its code. */
function errorOf(call: () => unknown): string | undefined {
  try {
    call()
    return undefined
  } catch (error) {
    return (error as { error?: string }).error ?? (error as Error).name
  }
}

test('returns the scopes of a client that administers, and none for others', (t) => {
  t.is(adminResource('https://id.example'), 'https://id.example/admin')
  t.deepEqual(adminScopesOf('read'), ['admin:read'])
  t.deepEqual(adminScopesOf('write'), ['admin:read', 'admin:write'])
  t.is(adminScopesOf(undefined), undefined)
})

test('compares a certificate with the key that it stands with', (t) => {
  t.true(isKeyOf(own.x5c, own.jwk))
  t.false(isKeyOf(own.x5c, other.jwk))
  t.false(isKeyOf('not a certificate', own.jwk))
})

function fetched(set: object, status = 200): Promise<Response> {
  const body = Buffer.from(JSON.stringify(set))
  return fetchKeySet(async () => ({ status, headers: new Headers(), body }) as never, '', 'app')
}

test('leaves out keys that nobody should go by', async (t) => {
  const good = [own.jwk, { ...own.jwk, x5c: [own.x5c] }, 'no key']
  const bad = [
    weak,
    { ...own.jwk, x5c: [other.x5c] },
    { ...own.jwk, x5c: own.x5c },
    { ...own.jwk, x5c: [] },
  ]
  const find = async (keys: unknown) =>
    withoutUnusableKeys({ find: async () => ({ jwks: { keys } }) as never }).find('app')
  for (const each of bad) {
    const found = await find([...good, each])
    t.deepEqual(found?.jwks?.keys, good as never)
    const response = await fetched({ keys: [...good, each] })
    t.deepEqual(((await response.json()) as { keys: unknown }).keys, good)
  }
  t.deepEqual((await find(good))?.jwks?.keys, good as never)
  await t.throwsAsync(fetched({ keys: 1 }), { code: 'wrong_type' })
  await t.throwsAsync(fetched({ keys: [] }, 203), { code: 'bad_status' })
})

test('needs a challenge unless an administrator has excused the client', (t) => {
  const needs = (require_pkce: unknown, nonce?: string) =>
    needsChallenge({ oidc: { client: { require_pkce }, params: { nonce } } } as never)
  t.true(needs(undefined, 'n'))
  t.true(needs(true, 'n'))
  t.true(needs(false))
  t.false(needs(false, 'n'))
})

test('judges the times of a JWT by a clock that is handed in', (t) => {
  const isCurrent = (times: object) => isCurrentJwt(times, nowMs, 10)
  t.true(isCurrent({}))
  t.true(isCurrent({ exp: now - 9, nbf: now + 10, iat: now + 10 }))
  t.false(isCurrent({ exp: now - 10 }))
  t.false(isCurrent({ nbf: now + 11 }))
  t.false(isCurrent({ iat: now + 11 }))
  const isShort = (times: object) => isShortRequest(times, nowMs)
  t.true(isShort({ nbf: now, exp: now + hour }))
  t.true(isShort({ nbf: now - hour, exp: now }))
  t.false(isShort({ nbf: now, exp: now + hour + 1 }))
  t.false(isShort({ nbf: now - hour - 1, exp: now }))
  t.false(isShort({ nbf: now - hour - 1, exp: now - 1 }))
  t.false(isShort({ exp: now }))
  t.false(isShort({ nbf: now }))
})

test('rejects JWTs of a client that are not for this server, not of this moment, or too long', (t) => {
  const issuer = 'https://id.example'
  const options = { issuer, now: nowMs, acceptsEndpointAudiences: false, clockToleranceS: 10 }
  const assert = (claims: object, changes: object = {}) =>
    errorOf(() =>
      checkAssertion({ aud: issuer, exp: now + 600, ...claims }, { ...options, ...changes }),
    )
  const endpoint = `${issuer}/token`
  t.is(assert({}), undefined)
  t.is(assert({ aud: endpoint }, { acceptsEndpointAudiences: true }), undefined)
  t.is(assert({ aud: endpoint }), 'invalid_client')
  t.is(assert({ aud: [issuer] }, { acceptsEndpointAudiences: true }), 'invalid_client')
  t.is(assert({ aud: undefined }), 'invalid_client')
  t.is(assert({ exp: now - 10 }), 'invalid_client')
  t.is(assert({ nbf: now + 11 }), 'invalid_client')
  t.is(assert({ exp: now + 601 }), 'invalid_client')
  t.is(assert({ exp: undefined }), 'invalid_client')

  const request = (claims: object) =>
    errorOf(() => checkRequestTimes({ nbf: now, exp: now + 60, ...claims }, options))
  t.is(request({}), undefined)
  t.is(request({ nbf: now - 60, exp: now - 10 }), 'invalid_request_object')
  t.is(request({ exp: now + hour + 1 }), 'invalid_request_object')

  const profiled = (alg: string, profile?: string) =>
    errorOf(() => checkAlgorithm(alg, { clientId: 'app', profile }, errors.InvalidClientAuth))
  t.is(profiled('RS256'), undefined)
  t.is(profiled('PS256', 'fapi2'), undefined)
  t.is(profiled('RS256', 'fapi2'), 'invalid_client')
})

test('asks for a nonce when a proof is not of this moment', (t) => {
  const key = makeSigningKey()
  const isRecent = (iat: number | undefined) => {
    const text = key.sign({ typ: 'dpop+jwt' }, { iat })
    return isRecentProof(text, nowMs, { pastS: 300, aheadS: 10 })
  }
  t.true(isRecentProof(undefined, nowMs, { pastS: 300, aheadS: 10 }))
  t.true(isRecent(undefined))
  t.true(isRecent(now - 299))
  t.true(isRecent(now + 10))
  t.false(isRecent(now - 301))
  t.false(isRecent(now + 11))
})

test('accepts the nonces around this moment and no others', (t) => {
  const clock = { now: nowMs }
  const nonces = createNonces(Buffer.alloc(32, 1), () => clock.now)
  const nonce = String(nonces.nextChallenge())
  t.true(nonces.checkChallenge(nonce))
  t.false(nonces.checkChallenge(`${nonce}x`))
  t.false(nonces.checkChallenge(`${nonce.slice(0, -1)}${nonce.endsWith('A') ? 'E' : 'A'}`))
  clock.now += 3 * 60_000
  t.true(nonces.checkChallenge(nonce))
  clock.now += 60_000
  t.false(nonces.checkChallenge(nonce))
})

test('opens a sealed state for its owner, until its end', (t) => {
  const clock = { now: nowMs }
  const options = { keys: () => [Buffer.alloc(32, 1)], now: () => clock.now }
  const states = createSealedState('session', options)
  const sealed = states.seal('owner', { uid: 'u' }, now + 60)
  t.deepEqual(states.open('owner', sealed), { uid: 'u' })
  t.is(states.open('another', sealed), undefined)
  t.is(createSealedState('interaction', options).open('owner', sealed), undefined)
  t.is(states.open('owner', ''), undefined)
  t.is(states.open('owner', sealed.slice(0, 42)), undefined)
  clock.now += 60_000
  t.is(states.open('owner', sealed), undefined)
})

test('knows what was shown when consent was given', (t) => {
  const grant = { shown: undefined as string[] | undefined }
  t.false(wasShown(grant, 'digest'))
  rememberShown(grant as never, 'digest')
  t.true(wasShown(grant, 'digest'))
  t.false(wasShown(grant, 'another'))
  t.false(wasShown({ shown: 'digest' }, 'digest'))
})

const jwt = (header: string, payload: string) =>
  [header, payload]
    .map((part) => Buffer.from(part).toString('base64url'))
    .concat('s')
    .join('.')

test('rejects JSON that two readers would understand differently', (t) => {
  const twice = '{"iss":"a","iss":"b"}'
  const check = (params: Record<string, unknown>) => errorOf(() => checkJsonParameters(params))
  t.is(check({ claims: '{}', request: jwt('{}', '{}'), id_token_hint: 'a.b' }), undefined)
  t.is(check({ claims: twice }), 'invalid_request')
  t.is(check({ request: jwt('{}', twice) }), 'invalid_request_object')
  t.is(check({ request: jwt(twice, '{}') }), 'invalid_request_object')
  t.is(check({ client_assertion: jwt(twice, '{}') }), 'invalid_client')
  t.is(check({ id_token_hint: jwt('{}', twice) }), 'invalid_request')
  t.is(check({ request: jwt('{}', JSON.stringify({ claims: twice })) }), 'invalid_request')
  // No JWT of three parts: the engine says so.
  t.is(check({ request: `${jwt('{}', twice)}.x` }), undefined)
})

test('bounds each parameter, and all of them together', async (t) => {
  const bound = async (params: Record<string, unknown>, route = 'authorization', body?: object) => {
    try {
      await boundParameters({ oidc: { params, route, body }, query: params } as never)
      return undefined
    } catch (error) {
      return (error as { error?: string }).error
    }
  }
  const [longest, tooLong] = ['x'.repeat(2048), 'x'.repeat(2049)]
  t.is(await bound({ state: longest }), undefined)
  t.is(await bound({ state: tooLong }), 'invalid_request')
  t.is(await bound({ resource: [longest, 'x'] }), 'invalid_request')
  t.is(await bound({ request: tooLong }), undefined)
  t.is(await bound({ request: 'x'.repeat(8192) }), undefined)
  t.is(await bound({ request: 'x'.repeat(8193) }), 'invalid_request')
  const pushed = 'pushed_authorization_request'
  t.is(await bound({}, pushed, { request: 'x'.repeat(16384) }), undefined)
  t.is(await bound({}, pushed, { request: 'x'.repeat(16385) }), 'invalid_request')
})

test('continues unless an acr is essential that the session does not meet', (t) => {
  const ask = (acr: object | undefined, session: object = {}, wished?: string) => {
    const signIn = { amr: ['pwd'], ...session }
    const oidc = { claims: { id_token: { acr } }, session: signIn, params: { acr_values: wished } }
    return missingAcr({ oidc } as unknown as KoaContextWithOIDC, () => [])
  }
  const essential = (...values: unknown[]) => ({ essential: true, values })
  t.is(ask(undefined, {}, boundSessionAcr), undefined)
  t.is(ask({ value: boundSessionAcr }), undefined)
  t.is(ask(essential(boundSessionAcr), { tbh: 'key' }), undefined)
  t.is(ask(essential(passwordAcr)), undefined)
  t.is(ask(essential(boundSessionAcr)), 'bound session')
  t.is(ask(essential('other', boundSessionAcr)), 'bound session')
  t.is(ask(essential(passkeyAcr)), 'sign-in')
  t.is(
    errorOf(() => ask(essential('other'))),
    'unmet_authentication_requirements',
  )
  for (const acr of [{ values: [1] }, { values: 'text' }, { value: 1 }]) {
    t.is(
      errorOf(() => ask({ essential: true, ...acr })),
      'invalid_request',
    )
  }
})

test('asks each extension whether it opens a session', async (t) => {
  const opens = (...answers: (boolean | undefined)[]) =>
    combineAdditions(
      answers.map((answer) => (answer === undefined ? {} : { opensSession: async () => answer })),
    ).opensSession({} as never, {} as never)
  t.true(await opens(undefined, true))
  t.false(await opens(true, false, true))
})

test('lets scripts of public clients call from where their redirects go', (t) => {
  const call = (origin: string, redirectUri: string, clientAuthMethod = 'none') =>
    mayCallFrom({}, origin, { clientAuthMethod, redirectUris: [redirectUri] })
  t.true(call('https://app.example', 'https://app.example/callback'))
  t.false(call('https://app.example', 'https://app.example/callback', 'client_secret_basic'))
  t.false(call('https://other.example', 'https://app.example/callback'))
  t.false(call('null', 'com.example.app:/callback'))
})

test('lets the authorities that are configured decide about a certificate', (t) => {
  const shown = { certificate: own.certificate, thumbprint: 'x', chain: [] }
  const feature = (reason: string | undefined, certificate: unknown = shown) => {
    const untrusted: unknown[] = []
    const made = mtlsFeature({
      edge: { proofsOf: () => ({ certificate }) as never },
      authorities: { check: () => reason } as never,
      now: () => nowMs,
      onUntrusted: (_ctx, why) => untrusted.push(why),
    })
    return { ...made, untrusted }
  }
  t.true(feature(undefined).certificateAuthorized({} as never))
  const refused = feature('revoked')
  t.false(refused.certificateAuthorized({} as never))
  t.deepEqual(refused.untrusted, ['revoked'])
  const matches = (made: ReturnType<typeof feature>, name: string) =>
    made.certificateSubjectMatches({} as never, 'tls_client_auth_subject_dn', name)
  t.true(matches(feature(undefined), 'CN=self-signed client'))
  t.false(matches(feature(undefined), 'CN=another'))
  const none = feature(undefined, null)
  t.false(none.certificateAuthorized({} as never))
})

test('lets a browser with a session ask for a number of pages, and others for none', (t) => {
  const clock = { now: 0 }
  const isKnown = createKnownBrowsers({ cookieName: () => 'session' }, { now: () => clock.now })
  const ask = (session: string | undefined) => isKnown({ cookies: { get: () => session } } as never)
  t.false(ask(undefined))
  t.false(ask('s.sealed'))
  for (let page = 0; page < 60; page += 1) t.true(ask('session'))
  t.false(ask('session'))
  t.true(ask('another'))
})

test('tells outages and hang-ups from failures', (t) => {
  const engine = new EventEmitter()
  const seen: string[] = []
  const names = ['failed', 'hungUp', 'databaseUnavailable', 'refused']
  const events = Object.fromEntries(names.map((name) => [name, () => seen.push(name)]))
  observeEngine(engine as never, events as never, { now: () => nowMs })
  const away = new DatabaseUnavailableError(new Error('away'))
  engine.emit('error', Object.assign(new Error(), { code: 'ECONNRESET' }))
  engine.emit('error', Object.assign(new Error(), { code: 'EACCES' }))
  engine.emit('error', away)
  const ctx = { req: { rawHeaders: [], headers: {} }, state: {}, get: () => '', oidc: undefined }
  engine.emit('userinfo.error', ctx, away)
  engine.emit('userinfo.error', ctx, Object.assign(new Error('no'), { error: 'invalid_token' }))
  const outages = ['databaseUnavailable', 'databaseUnavailable']
  t.deepEqual(seen, ['hungUp', 'failed', ...outages, 'refused'])
})

test('asks for consent again when the client is not what consent was given for', (t) => {
  const checks = createInteractionPolicy().get('consent')?.checks
  const changed = checks?.get('client_changed') as interactionPolicy.Check
  const digests: string[] = []
  const client = { clientId: 'app', redirectUris: ['https://app.example/'] }
  const ask = (grant: object | undefined, oidc: object = {}) => {
    const params = { redirect_uri: 'https://app.example/' }
    return changed.check({ oidc: { grant, client, params, ...oidc } } as never)
  }
  t.false(ask(undefined))
  t.false(ask({ shown: digests }))
  t.false(ask({ jti: undefined }))
  const grant = { jti: 'stored', shown: digests }
  t.true(ask(grant))
  const details = createInteractionPolicy().get('consent')?.details as (
    ctx: KoaContextWithOIDC,
  ) => { shown: string }
  const shownAt = (oidc: object) => {
    const params = { redirect_uri: 'https://app.example/' }
    return details({ oidc: { client, params, ...oidc } } as never).shown
  }
  digests.push(shownAt({}))
  t.false(ask(grant))
  t.true(ask(grant, { deviceCode: {} }))
})

const bindings = (provided?: string, referred?: string) => ({
  provided: { tbh: provided },
  referred: { tbh: referred },
})

test('opens what is bound to a Token Binding by that one alone', async (t) => {
  const recorded: string[] = []
  const edge = {
    proofsOf: ({ state }: { state: { tbh?: string } }) => ({ tokenBinding: bindings(state.tbh) }),
    inspect: (request: { tbh?: string }) => ({ tokenBinding: bindings(request.tbh) }),
  }
  const events = { record: async (event: string) => recorded.push(event) }
  const { opensSession, opensInteraction } = bindSessionsByTokenBinding(
    edge as never,
    events as never,
  )
  const by = (tbh?: string) =>
    ({ state: { tbh, address: '' }, get: () => '', req: { headers: {} } }) as never
  for (const [provided, bound, expected] of [
    ['mine', 'mine', true],
    ['mine', undefined, true],
    ['other', 'mine', false],
    [undefined, 'mine', false],
  ] as const) {
    t.is(opensInteraction(by(provided), { tbh: bound } as never), expected)
    t.is(await opensSession(by(provided), { tbh: bound } as never), expected)
  }
  t.deepEqual(recorded, ['session_unproven', 'session_unproven'])
  const engine = { interactionDetails: async () => ({ tbh: 'mine' }) }
  bindInteractionPages(engine as never, edge as never)
  const details = engine.interactionDetails as unknown as (request: object) => Promise<object>
  t.deepEqual(await details({ tbh: 'mine' }), { tbh: 'mine' })
  await t.throwsAsync(details({ tbh: 'other' }))
})

test('issues nothing unbound that needs a referred Token Binding', (t) => {
  const additions = keepReferredTokenBinding((ctx) => (ctx as never as { shown: never }).shown)
  const ask = (
    { cnf, challenge }: { cnf?: string; challenge?: string },
    { shown, entities = {} }: { shown?: object; entities?: object } = {},
  ) => {
    const client = { id_token_token_binding_cnf: cnf }
    const ctx = { shown, oidc: { client, entities, params: { code_challenge: challenge } } }
    return [
      errorOf(() => additions.keepInCode(ctx as never)) ?? additions.keepInCode(ctx as never),
      errorOf(() => additions.confirmIdToken(ctx as never)) ??
        additions.confirmIdToken(ctx as never),
    ]
  }
  const challenge = 'referred_tb.referred_tb'.padEnd(43, '.')
  const shown = bindings('provided', 'referred')
  const entities = { AuthorizationCode: { referredTbh: 'referred' } }
  t.deepEqual(ask({}), [{ referredTbh: undefined }, {}])
  t.deepEqual(ask({ cnf: 'tbh' }, { shown, entities }), [
    { referredTbh: 'referred' },
    { tbh: 'referred' },
  ])
  t.deepEqual(ask({ cnf: 'tbh' }), ['invalid_request', 'invalid_request'])
  t.deepEqual(ask({ challenge }, { shown }), [{ referredTbh: 'referred' }, {}])
  t.deepEqual(ask({ challenge }), ['invalid_request', {}])
  const unsupported = { ...shown, referred: 'unsupported' }
  t.deepEqual(ask({ challenge }, { shown: unsupported }), ['invalid_request', {}])
})

test('finds no account that is disabled', async (t) => {
  const ctx = { state: {} }
  const accounts = { findActive: async (id: string) => ({ id, from: 'table' }) as never }
  const found = { id: 'ada', disabled: false }
  t.like(await activeAccount(ctx, 'ada', accounts), { from: 'table' })
  browserRequest(ctx).found = { account: found } as never
  t.is((await activeAccount(ctx, 'ada', accounts)) as unknown, found)
  t.like(await activeAccount(ctx, 'bob', accounts), { from: 'table' })
  browserRequest(ctx).found = { account: { ...found, disabled: true } } as never
  t.is(await activeAccount(ctx, 'ada', accounts), undefined)
})

const api = 'https://api.example'
const payment = { type: 'payment', to: 'Bob' }
const definition = { label: 'Make a payment', members: { to: { kind: 'string', label: 'To' } } }
const detailsTypes = {
  find: async (type: string) =>
    type === 'payment' || type === 'remembered'
      ? ({
          type,
          resource: api,
          definition: { ...definition, remember: type === 'remembered' },
        } as never)
      : undefined,
}
const details = (...each: object[]) => ({ authorization_details: JSON.stringify(each) })

test('rejects details that their type, the client or the request does not allow', async (t) => {
  const check = async (params: object, client: object = {}) => {
    try {
      return await checkDetails({ oidc: { params, client } } as never, detailsTypes)
    } catch (error) {
      return (error as { error?: string }).error
    }
  }
  const invalidDetails = 'invalid_authorization_details'
  t.deepEqual(await check({}), [])
  t.like(await check(details(payment)), [{ detail: payment }])
  t.like(await check({ ...details(payment), resource: [api] }), [{ detail: payment }])
  t.like(await check(details(payment), { allowed_details_types: ['payment'] }), [
    { detail: payment },
  ])
  t.is(await check({ authorization_details: '[' }), invalidDetails)
  t.is(await check(details({ type: 'unknown' })), invalidDetails)
  t.is(await check(details(payment), { allowed_details_types: ['other'] }), invalidDetails)
  t.is(await check(details({ ...payment, amount: '1' })), invalidDetails)
  t.is(await check({ ...details(payment), resource: 'https://other.example' }), invalidDetails)
})

test('rejects a code for details that nobody has granted', (t) => {
  const granted = (params: object, ...rar: object[]) =>
    errorOf(() => grantedDetails({ oidc: { params, entities: { Grant: { rar } } } } as never))
  t.is(requestedDetails({}), undefined)
  t.is(granted({}), undefined)
  t.is(granted(details(payment), payment), undefined)
  t.is(granted(details(payment), { ...payment, to: 'Eve' }), 'invalid_authorization_details')
  t.is(granted(details(payment)), 'invalid_authorization_details')
})

test('asks for consent to details unless it was given, and may be remembered', async (t) => {
  const policy = withDetailsConsent(interactionPolicy.base(), detailsTypes)
  const check = policy.get('consent')?.checks.get('authorization_details')
  const ask = (params: object, rar: object[], result?: object) =>
    check?.check({ oidc: { params, result, entities: { Grant: { rar } } } } as never)
  const remembered = { ...payment, type: 'remembered' }
  const consent = { consent: {} }
  t.false(await ask({}, []))
  t.true(await ask(details(payment), []))
  t.true(await ask(details(payment), [], consent))
  t.true(await ask(details(remembered), []))
  t.true(await ask(details(payment), [payment]))
  t.false(await ask(details(payment), [payment], consent))
  t.false(await ask(details(remembered), [remembered]))
})

test('rejects a request of the backchannel that is not signed for this moment and once', async (t) => {
  const claims = { iat: now, jti: 'once', exp: now + 60 }
  const check = async (
    changes: object,
    { isNew = true, route = 'backchannel_authentication' } = {},
  ) => {
    const provider = { ReplayDetection: { unique: async () => isNew } }
    const oidc = { route, provider, client: { clientId: 'app' } }
    try {
      await checkSignedRequest({ oidc } as never, { ...claims, ...changes })
      return undefined
    } catch (error) {
      return (error as { error?: string }).error
    }
  }
  const invalidObject = 'invalid_request_object'
  t.is(await check({}), undefined)
  t.is(await check({ iat: undefined, jti: undefined }, { route: 'authorization' }), undefined)
  t.is(await check({ iat: undefined }), invalidObject)
  t.is(await check({ iat: '1' }), invalidObject)
  t.is(await check({ jti: undefined }), invalidObject)
  t.is(await check({ jti: '' }), invalidObject)
  t.is(await check({}, { isNew: false }), invalidObject)
})

test('rejects a binding message that people cannot compare', async (t) => {
  const { validateBindingMessage } = cibaFeature(async () => undefined)
  const check = (message?: string) => validateBindingMessage({} as never, message)
  await t.notThrowsAsync(check('Bob, 45 EUR'))
  await t.throwsAsync(check(undefined), { message: 'invalid_request' })
  await t.throwsAsync(check('x'.repeat(61)), { message: 'invalid_binding_message' })
})

test('returns the one API that scopes can be meant for', async (t) => {
  const first = { identifier: api, scopes: ['read', 'write'] }
  const second = { identifier: 'https://other.example', scopes: ['write', 'audit'] }
  const standard = new Set(['openid'])
  const find = (apis: object[] | undefined, ...scopes: string[]) => {
    const listRemembered = async () => {
      if (!apis) throw new Error('asked')
      return apis as never
    }
    return createResourceOfScopes({ listRemembered }, standard)(scopes)
  }
  t.is(await find([first, second], 'openid', 'read', 'unknown'), api)
  t.is(await find([first, second], 'write'), undefined)
  t.is(await find([first], 'unknown'), undefined)
  t.is(await find(undefined, 'openid'), undefined)

  const ask = (client: object, ...scopes: string[]) => {
    const oidc = { params: {}, requestParamScopes: new Set(scopes) }
    const implied = async () => (scopes.includes('read') ? api : undefined)
    return createDefaultResource(implied)({ oidc } as never, client)
  }
  t.is(await ask({}, 'read'), api)
  t.is(await ask({ default_resource: 'https://other.example' }, 'read'), 'https://other.example')
  t.is(await ask({ default_resource: api }, 'openid'), undefined)
  t.is(await ask({}), undefined)

  const needs = (params: object) =>
    errorOf(() => {
      const resourceServers = { [api]: { scopes: new Set(['read']) } }
      requireScope({ oidc: { params, resourceServers } } as never, standard)
    })
  t.is(needs({ scope: 'unknown openid' }), undefined)
  t.is(needs({ scope: 'read' }), undefined)
  t.is(needs(details(payment)), undefined)
  t.is(needs({}), 'invalid_scope')
  t.is(needs({ scope: 'unknown' }), 'invalid_scope')

  const registered = (scope: string, client: object) =>
    errorOf(() =>
      requireRegisteredScopes({ oidc: { client, params: { scope } } } as never, standard),
    )
  t.is(registered('openid', {}), undefined)
  t.is(registered('openid read', { scope: 'openid' }), undefined)
  t.is(registered('openid', { scope: 'email' }), 'invalid_scope')
})

test('rejects single claims of a scope that the client must not ask for', (t) => {
  const ask = (claims: object, client: object = { scope: 'openid email' }) =>
    errorOf(() =>
      requireRegisteredClaims(claims, client as never, {
        email: ['email'],
        phone: ['phone_number'],
      }),
    )
  t.is(ask({ userinfo: { email: null }, id_token: { other: null } }), undefined)
  t.is(ask({ userinfo: { phone_number: null } }, {}), undefined)
  t.is(ask({ userinfo: { phone_number: null } }), 'invalid_scope')
  t.is(ask({ id_token: { phone_number: null } }), 'invalid_scope')
})

test('shows a page about a form that is old, about a code, and about a failure', (t) => {
  const views = { deviceDone: Object, deviceCode: Object, error: () => 'failure' }
  const { userCodeInputSource } = createDevicePages(views as never)
  const show = (error: Error, out?: object) => {
    const ctx = { state: {}, req: {}, oidc: { session: {} }, body: {}, status: 200 }
    userCodeInputSource?.(ctx as never, '', out as never, error as never)
    return ctx
  }
  const failed = { error: 'server_error' }
  t.deepEqual(show(new AbortedError()).body, { allowed: false })
  t.like(show(new NotFoundError('CODE')), {
    body: { problem: 'device_code.not_found' },
    status: 400,
  })
  const old = new errors.InvalidRequest('xsrf token invalid')
  t.like(show(old, failed), { body: { problem: 'device_code.old_page' }, status: 400 })
  t.is(show(new errors.InvalidRequest('other'), failed).body as unknown, 'failure')
})

test('rejects a device code that was used meanwhile, and no other failure', async (t) => {
  const failing = (error: Error) => {
    class DeviceCode {
      static adapter = { findByUid: async () => undefined }
      static IN_PAYLOAD = []
      async save() {
        throw error
      }
    }
    const engine = { DeviceCode }
    bindDeviceCodes(engine as never, {} as never)
    return engine.DeviceCode as unknown as { find(uid: string): unknown; new (): DeviceCode }
  }
  const [Used, Failed] = [
    failing(new AlreadyConsumedError('DeviceCode')),
    failing(new Error('away')),
  ]
  await t.throwsAsync(new Used().save(), { message: 'code has already been used' })
  await t.throwsAsync(new Failed().save(), { message: 'away' })
  t.is(await Used.find('unknown'), undefined)
})

test('rejects an engine that keeps its keys elsewhere', (t) => {
  for (const name of ['keystore', 'jwks', 'DPoPNonces'] as const) {
    const engine = new Provider('https://id.example', {
      jwks: {
        keys: [
          generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({
            format: 'jwk',
          }) as JWK,
        ],
      },
      adapter: class {} as never,
      features: {
        devInteractions: { enabled: false },
        dPoP: { enabled: true, nonceSecret: Buffer.alloc(32) },
      },
    })
    Object.assign(internalsOf(engine), { [name]: undefined })
    t.throws(() => useKeyRing(engine, {} as never), { message: /keeps its keys elsewhere/ })
  }
})

test('says in the answer why the keys of a client could not be fetched', (t) => {
  const engine = new EventEmitter()
  explainFailedFetches(engine as never)
  const bodyAfter = (body: unknown, error: Error) => {
    const ctx = { body }
    engine.emit('device_authorization.error', ctx, error)
    return ctx.body
  }
  const failed = new GuardedFetchError('timed_out', 'slow')
  const { error, error_description: why } = bodyAfter(
    { error: 'invalid_client' },
    failed,
  ) as Record<string, string>
  t.is(error, 'invalid_client')
  t.regex(why ?? '', /in time/)
  t.is(bodyAfter('a page', failed), 'a page')
  t.is(bodyAfter(null, failed), null)
  t.deepEqual(bodyAfter({}, new Error('other')), {})
})

test('skips consent for the client that may, at the browser that asks, and writes what is new', async (t) => {
  const skips = (skip_consent: unknown, DeviceCode?: object) =>
    skipsConsent({ oidc: { client: { skip_consent }, entities: { DeviceCode } } } as never)
  t.true(skips(true))
  t.false(skips(true, {}))
  t.false(skips(undefined))
  let saved = 0
  const grant = {
    getOIDCScopeEncountered: () => 'openid',
    getOIDCClaimsEncountered: () => [],
    addOIDCScope: () => {},
    save: async () => {
      saved += 1
    },
  }
  const skip = (...scopes: string[]) => {
    const oidc = {
      client: { clientId: 'app', skip_consent: true },
      account: { accountId: 'ada' },
      entities: {},
      promptPending: () => false,
      requestParamOIDCScopes: new Set(scopes),
      requestParamClaims: new Set(),
    }
    const events = { consentSkipped: () => {} }
    return grantSkippedConsent({ oidc, state: {} } as never, grant as never, { events } as never)
  }
  await skip('openid')
  t.is(saved, 0)
  await skip('openid', 'email')
  t.is(saved, 1)
})

test('takes a request for offline access as one that asks for consent, until its grant is found', (t) => {
  class OIDCContext {
    entities: { Grant?: object } = {}
    get prompts() {
      return new Set(['login'])
    }
  }
  honourOfflineAccess({ OIDCContext } as never)
  const context = new OIDCContext()
  const has = () => ['consent', 'login', 'none'].map((prompt) => context.prompts.has(prompt))
  t.deepEqual(has(), [true, true, false])
  context.entities.Grant = {}
  t.deepEqual(has(), [false, true, false])
})

test('rejects a proof that a device or the backchannel has shown before', async (t) => {
  const show = (isNew: boolean) => {
    const oidc = {
      route: 'device_authorization',
      params: {},
      client: { clientId: 'app', binding_method: 'dpop' },
      urlFor: () => 'https://id.example/device/auth',
      provider: { ReplayDetection: { unique: async () => isNew } },
    }
    const proofs = { check: () => ({ proof: { jti: 'once', jkt: 'key' }, nonce: undefined }) }
    const ctx = { method: 'POST', req: { rawHeaders: ['DPoP', 'proof'] }, oidc }
    const options = { edge: { proofsOf: () => ({}) }, proofs, now: () => nowMs }
    return shownKey(ctx as never, options as never)
  }
  t.deepEqual(await show(true), { jkt: 'key' })
  await t.throwsAsync(show(false), { message: 'invalid_request' })
})

test('writes no consent of an interaction that was used, or that holds none', async (t) => {
  const saved: unknown[] = []
  class Grant {
    readonly given: unknown
    constructor(given: unknown) {
      this.given = given
    }
    async save() {
      saved.push(this.given)
    }
  }
  const resume = (Interaction: object | undefined, given: object | undefined) =>
    takeConsent({
      oidc: {
        result: { consent: { grantId: 'g', given } },
        entities: { Interaction },
        provider: { Grant },
      },
    } as never)
  t.is(await resume({ consumed: 1 }, { clientId: 'c' }), undefined)
  t.is(await resume(undefined, { clientId: 'c' }), undefined)
  t.is(await resume({}, undefined), undefined)
  t.deepEqual(saved, [])
  await resume({}, { clientId: 'c' })
  t.deepEqual(saved, [{ clientId: 'c', jti: 'g' }])
})

test('fills in a scope only where a request names none', (t) => {
  const filled = (scope: string | undefined, client: object) => {
    const params = { scope }
    fillScope({ oidc: { params } } as never, client, ['read', 'write'])
    return params.scope
  }
  t.is(filled('openid', { open_client: 'document' }), 'openid')
  t.is(filled(undefined, { open_client: 'document' }), 'read write')
  t.is(filled(undefined, { default_scope: 'read' }), 'read')
  t.is(filled(undefined, {}), undefined)
})

test('shows where a client came from only for one that nobody has let in', (t) => {
  const clientId = 'https://agent.example/client.json'
  const redirectUris = ['http://127.0.0.1/callback']
  const view = (open_client?: string, id = clientId) =>
    openClientView({ clientId: id, redirectUris, open_client } as never)
  const hosts = { redirectHosts: ['127.0.0.1'], isLocalOnly: true }
  t.is(view(), undefined)
  t.deepEqual(view('document'), { documentHost: 'agent.example', ...hosts })
  t.deepEqual(view('registration', 'c'), { documentHost: undefined, ...hosts })
})

test('redirects errors only to known clients', (t) => {
  const engine = new EventEmitter()
  openRedirects.extend?.(engine as never, {} as never)
  const staysHere = (client: object, signedIn = false) => {
    const session = signedIn ? { accountId: 'ada', grantIdFor: () => 'g' } : undefined
    const error: { allow_redirect?: boolean } = {}
    const ctx = { status: 303, oidc: { route: 'authorization', client, session } }
    engine.emit('authorization.error', ctx, error)
    t.is(ctx.status, error.allow_redirect === false ? 400 : 303)
    return error.allow_redirect === false
  }
  t.true(staysHere({ self_registered: true }))
  t.true(staysHere({ self_registered: true, redirect_errors: false }))
  t.false(staysHere({ self_registered: true, redirect_errors: true }))
  t.false(staysHere({ self_registered: true }, true))
  t.false(staysHere({}))
})
