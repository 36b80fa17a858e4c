/**
 * FAPI 2.0 by certificates: what the modules of the plans with mTLS client authentication look for,
 * for tokens that are bound by the certificate and by DPoP.
 */
import test from 'ava'
import { decodeJwt } from 'jose'
import type { TestCertificate } from '../support/certificates.ts'
import { createPerson, newKey, type PostOptions, post, refreshing } from '../support/flow.ts'
import { useMtlsServer } from '../support/mtls.ts'
import { api } from '../support/server.ts'
import { redirect_uri } from './fapi2-client.ts'

const mtls = useMtlsServer(test, { HOLDFAST_PROFILE: 'fapi2' })

const challenge = 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM'
const verifier = 'dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk'

const presenting = (who: TestCertificate): PostOptions => ({
  fetch: mtls.fetchWith(who),
  origin: mtls.mtlsOrigin,
})

for (const [binding_method, member] of [
  ['mtls', 'x5t#S256'],
  ['dpop', 'jkt'],
] as const) {
  test(`signs people in for a client of certificates, with tokens bound by ${binding_method}`, async (t) => {
    const { server, root } = mtls
    const subject = `CN=bank of ${binding_method}`
    const { client_id } = await server.addClient({
      application_type: 'web',
      redirect_uris: [redirect_uri],
      profile: 'fapi2',
      token_endpoint_auth_method: 'tls_client_auth',
      tls_client_auth_subject_dn: subject,
      binding_method,
    })
    const certificate = presenting(await root.issue({ subject }))
    const other = presenting(await root.issue({ subject: 'CN=another' }))
    const key = binding_method === 'dpop' ? { key: await newKey() } : {}
    const request = {
      client_id,
      response_type: 'code',
      redirect_uri,
      scope: 'openid offline_access read',
      resource: api,
      prompt: 'consent',
      code_challenge: challenge,
      code_challenge_method: 'S256',
    }
    for (const [what, options] of [
      ['none', {}],
      ['another', other],
    ] as const) {
      const { body } = await post(server, '/par', request, { ...options, ...key })
      t.is(body.error, 'invalid_client', what)
    }
    const pushed = await post(server, '/par', request, { ...certificate, ...key })
    const { request_uri } = pushed.body
    const arrived = await createPerson(server).authorize({ client_id, request_uri, redirect_uri })
    t.is(arrived.searchParams.get('iss'), server.issuer)
    const code = arrived.searchParams.get('code') ?? ''
    const exchange = {
      grant_type: 'authorization_code',
      client_id,
      code,
      redirect_uri,
      code_verifier: verifier,
      resource: api,
    }
    const stolen = await post(server, '/token', exchange, { ...other, ...key })
    t.is(stolen.body.error, 'invalid_client')
    const { status, body } = await post(server, '/token', exchange, { ...certificate, ...key })
    t.is(status, 200)
    t.deepEqual(Object.keys(decodeJwt<{ cnf: object }>(body.access_token).cnf), [member])
    for (let count = 0; count < 2; count += 1) {
      const refresh = { ...refreshing({ client_id }, body.refresh_token), resource: api }
      const refreshed = await post(server, '/token', refresh, { ...certificate, ...key })
      t.is(refreshed.status, 200)
      t.is(refreshed.body.refresh_token, undefined)
    }
    if (binding_method === 'dpop') {
      const without = await post(server, '/token', exchange, certificate)
      t.is(without.body.error, 'invalid_grant')
    }
  })
}
