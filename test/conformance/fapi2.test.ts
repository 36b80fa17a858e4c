/**
 * What modules of the OpenID Foundation's plans for FAPI 2.0 look for, written from the
 * specifications. docs/conformance.md has the list of modules.
 */
import test from 'ava'
import { deviceGrant } from '../support/device-flow.ts'
import { useTestServer } from '../support/server.ts'
import { Fapi2Client, nowS } from './fapi2-client.ts'

const server = useTestServer(test, { HOLDFAST_DEVICE_FLOW: 'on' })
const lenient = useTestServer(test, {
  HOLDFAST_DANGEROUSLY_ACCEPT_ENDPOINTS_AS_AUDIENCE: 'on',
  HOLDFAST_CLOCK_TOLERANCE_SECONDS: '60',
})
let client: Fapi2Client

const grant_types = ['authorization_code', 'refresh_token', 'client_credentials', deviceGrant]

test.before(async () => {
  client = await new Fapi2Client(server).register({ grant_types })
})

/** Every endpoint at which clients authenticate, with parameters that are good there. */
const authenticated: Record<string, (by: Fapi2Client) => Record<string, string>> = {
  '/par': (by) => by.request(),
  '/token': () => ({ grant_type: 'client_credentials' }),
  '/introspect': () => ({ token: 'none' }),
  '/revoke': () => ({ token: 'none' }),
  '/device_authorization': (by) => ({ client_id: by.id, scope: 'openid' }),
}

test('accepts the issuer alone as audience of a client assertion, at every endpoint', async (t) => {
  const { issuer } = server
  for (const [path, parameters] of Object.entries(authenticated)) {
    const ask = (aud: unknown) =>
      client.post(path, { ...parameters(client), ...client.assertion({ aud }) })
    t.true((await ask(issuer)).status < 300, path)
    const wrong = [`${issuer}/token`, issuer + path, [issuer], [issuer + path, issuer], undefined]
    for (const aud of wrong) {
      const { status, body } = await ask(aud)
      t.is(body.error, 'invalid_client', `${path} ${aud}`)
      t.is(status, 401)
    }
  }
})

test('accepts JWTs of 8 seconds ahead, and none of over 60, at every endpoint', async (t) => {
  for (const [path, parameters] of Object.entries(authenticated)) {
    const assert = (claims: object) =>
      client.post(path, { ...parameters(client), ...client.assertion({ ...claims }) })
    const soon = nowS() + 8
    t.true((await assert({ iat: soon, nbf: soon })).status < 300, path)
    for (const claims of [{ iat: nowS() + 90 }, { nbf: nowS() + 90 }, { exp: nowS() - 300 }]) {
      t.is((await assert(claims)).body.error, 'invalid_client', path)
    }
    if (path === '/introspect' || path === '/revoke') continue
    const prove = (iat: number) =>
      client.post(path, parameters(client), client.proof(path, { iat }))
    t.true((await prove(nowS() + 8)).status < 300, path)
    t.is((await prove(nowS() + 90)).body.error, 'use_dpop_nonce', path)
  }
})

test('accepts endpoints as audience, and 50 seconds, where an operator allows them', async (t) => {
  const old = await new Fapi2Client(lenient).register({ grant_types: grant_types.slice(0, 3) })
  for (const path of ['/par', '/token'] as const) {
    const ask = (aud: unknown, iat = nowS() + 50) =>
      old.post(path, { ...authenticated[path]?.(old), ...old.assertion({ aud, iat }) })
    t.true((await ask(`${lenient.issuer}/token`)).status < 300)
    t.is((await ask([lenient.issuer])).body.error, 'invalid_client')
    t.is((await ask('https://other.example')).body.error, 'invalid_client')
    t.is((await ask(lenient.issuer, nowS() + 90)).body.error, 'invalid_client')
  }
})

test('takes request objects that end within an hour', async (t) => {
  const now = nowS()
  const error = async (claims: object) => {
    const { status, body } = await client.push(client.requestObject({ ...claims }))
    return status === 201 ? undefined : body.error
  }
  for (const claims of [{}, { nbf: now + 8 }, { nbf: now - 3590 }, { aud: [server.issuer, 'b'] }]) {
    t.is(await error({ exp: now + 5, ...claims }), undefined, JSON.stringify(claims))
  }
  const wrong = {
    'without exp': { exp: undefined },
    'without nbf': { nbf: undefined },
    'of the past': { exp: now - 300 },
    'good for more than an hour': { nbf: now, exp: now + 3700 },
    'of more than an hour ago': { nbf: now - 3700, exp: now - 60 },
    'with nbf more than an hour ago': { nbf: now - 3700, exp: now - 100 + 60 },
    'of the future': { nbf: now + 90, exp: now + 300 },
    'for another server': { aud: 'https://other.example' },
  }
  for (const [what, claims] of Object.entries(wrong)) {
    t.is(await error(claims), 'invalid_request_object', what)
  }
})
