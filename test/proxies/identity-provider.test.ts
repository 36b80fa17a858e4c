// The identity provider behind a real proxy, used by published clients.
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import tls from 'node:tls'
import { promisify } from 'node:util'
import test, { type TestFn } from 'ava'
import { decodeJwt } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import * as oidc from 'openid-client'
import { freePort } from '../../src/net/free-port.ts'
import { certificateFetch } from '../support/certificate-fetch.ts'
import {
  createAuthority,
  type TestAuthority,
  type TestCertificate,
} from '../support/certificates.ts'
import { createPerson, newKey, post } from '../support/flow.ts'
import {
  formatOf,
  isInstalled,
  type ProxyName,
  type RunningProxy,
  startProxy,
  testWith,
} from '../support/proxies.ts'
import { api, startTestServer, type TestServer } from '../support/server.ts'

const run = promisify(execFile)
const redirect_uri = 'https://app.example/callback'
const opened = new AsyncDisposableStack()
test.after.always(() => opened.disposeAsync())

let folder: string
let authority: TestAuthority

test.serial.before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'holdfast-proxied-'))
  opened.defer(() => rm(folder, { recursive: true, force: true }))
  authority = await createAuthority()
  await writeFile(path.join(folder, 'clients.pem'), authority.cert)
})

for (const name of ['nginx', 'haproxy', 'envoy'] as const satisfies ProxyName[]) {
  const proxyTest = testWith(test as TestFn, name)
  let proxy: RunningProxy
  let server: TestServer
  let upstream: number
  let client: ClientMetadata
  let certificate: TestCertificate

  test.serial.before(async () => {
    if (!isInstalled(name)) return
    upstream = await freePort()
    const ports = { public: await freePort(), mtls: await freePort() }
    proxy = opened.use(await startProxy(name, { upstream, authority, ports }))
    tls.setDefaultCACertificates([...tls.getCACertificates('default'), proxy.ca])
    server = opened.use(
      await startTestServer({
        HOLDFAST_TLS: 'off',
        HOLDFAST_PORT: String(upstream),
        HOLDFAST_ISSUER: proxy.publicOrigin,
        HOLDFAST_TRUSTED_PROXIES: '127.0.0.1',
        HOLDFAST_CLIENT_CERT_FORMAT: formatOf[name],
        HOLDFAST_MTLS_ORIGIN: proxy.mtlsOrigin,
        HOLDFAST_CLIENT_CA_FILE: path.join(folder, 'clients.pem'),
      }),
    )
    certificate = await authority.issue({ subject: 'CN=app' })
    client = await server.addClient({
      application_type: 'web',
      redirect_uris: [redirect_uri],
      grant_types: ['authorization_code', 'refresh_token', 'client_credentials'],
      token_endpoint_auth_method: 'tls_client_auth',
      tls_client_auth_subject_dn: 'CN=app',
      binding_method: 'mtls',
    })
  })

  const fetchWith = ({ cert, key }: TestCertificate) =>
    opened.use(certificateFetch({ cert, key, ca: proxy.ca }))

  const discover = async (presented: TestCertificate) => {
    const fetch = fetchWith(presented)
    return oidc.discovery(
      new URL(proxy.publicOrigin),
      client.client_id,
      { use_mtls_endpoint_aliases: true },
      oidc.TlsClientAuth(),
      { [oidc.customFetch]: (url, init) => fetch(url, init as RequestInit) },
    )
  }

  proxyTest(`${name}: openid-client signs in, refreshes and renews its certificate`, async (t) => {
    const config = await discover(certificate)
    const pkceCodeVerifier = oidc.randomPKCECodeVerifier()
    const expectedState = oidc.randomState()
    const url = await oidc.buildAuthorizationUrlWithPAR(config, {
      redirect_uri,
      scope: 'openid read',
      resource: api,
      code_challenge: await oidc.calculatePKCECodeChallenge(pkceCodeVerifier),
      code_challenge_method: 'S256',
      state: expectedState,
    })
    t.true(url.href.startsWith(`${proxy.publicOrigin}/authorize`))
    const callback = await createPerson(server).authorize({
      redirect_uri,
      ...Object.fromEntries(url.searchParams),
    })
    const tokens = await oidc.authorizationCodeGrant(
      config,
      callback,
      { pkceCodeVerifier, expectedState },
      { resource: api },
    )
    t.deepEqual(decodeJwt(tokens.access_token).cnf, { 'x5t#S256': certificate.thumbprint })
    const refreshToken = tokens.refresh_token ?? ''
    const renewed = await discover(await authority.issue({ subject: 'CN=app' }))
    await t.throwsAsync(oidc.refreshTokenGrant(renewed, refreshToken, { resource: api }), {
      message: /error/,
    })
    const next = await oidc.refreshTokenGrant(config, refreshToken, { resource: api })
    t.truthy(next.refresh_token)
    t.truthy((await oidc.clientCredentialsGrant(renewed)).access_token)
  })

  proxyTest(`${name}: curl --cert gets a token bound to its certificate`, async (t) => {
    const file = async (base: string, text: string) => {
      await writeFile(path.join(folder, `${name}-${base}`), text)
      return path.join(folder, `${name}-${base}`)
    }
    const { stdout } = await run('curl', [
      '--silent',
      ...['--cacert', await file('ca.pem', proxy.ca)],
      ...['--cert', await file('cert.pem', certificate.cert)],
      ...['--key', await file('key.pem', certificate.key)],
      ...['--data', `grant_type=client_credentials&client_id=${client.client_id}&scope=read`],
      ...['--data-urlencode', `resource=${api}`],
      `${proxy.mtlsOrigin}/token`,
    ])
    const { access_token, token_type } = JSON.parse(stdout)
    t.is(token_type, 'Bearer')
    t.deepEqual(decodeJwt(access_token).cnf, { 'x5t#S256': certificate.thumbprint })
  })

  const credentials = () => ({ grant_type: 'client_credentials', client_id: client.client_id })
  const stolen = () => ({
    'client-cert': `:${certificate.der.toString('base64')}:`,
    'x-ssl-cert': encodeURIComponent(certificate.cert),
    'x-forwarded-client-cert': `Cert="${encodeURIComponent(certificate.cert)}"`,
  })

  proxyTest(`${name}: ignores a client's certificate header`, async (t) => {
    const thief = await authority.issue({ subject: 'CN=thief' })
    for (const options of [
      { origin: proxy.publicOrigin },
      { origin: proxy.mtlsOrigin },
      { origin: proxy.mtlsOrigin, fetch: fetchWith(thief) },
    ]) {
      const refused = await post(server, '/token', credentials(), {
        ...options,
        headers: stolen(),
      })
      t.is(refused.status, 401)
      t.is(refused.body.error, 'invalid_client')
    }
  })

  proxyTest(`${name}: rejects the headers of a proxy from any other address`, async (t) => {
    const answer = await new Promise<{ status: number | undefined; body: string }>(
      (resolve, reject) => {
        const sent = request(
          {
            host: '127.0.0.1',
            // Every address of 127.0.0.0/8 is this machine's, and the proxy has one of them.
            localAddress: '127.0.0.2',
            port: upstream,
            path: '/token',
            method: 'POST',
            headers: { ...stolen(), 'content-type': 'application/x-www-form-urlencoded' },
          },
          async (response) =>
            resolve({
              status: response.statusCode,
              body: (await response.toArray()).join(''),
            }),
        )
        sent.on('error', reject)
        sent.end(new URLSearchParams(credentials()).toString())
      },
    )
    t.is(answer.status, 400)
    t.is(JSON.parse(answer.body).error, 'invalid_request')
    t.true(server.logged.some((line) => line.includes('"reason":"untrusted_peer"')))
  })

  proxyTest(`${name}: DPoP proofs are for the public addresses`, async (t) => {
    const dpop = await server.addClient({
      redirect_uris: [],
      response_types: [],
      grant_types: ['client_credentials'],
      token_endpoint_auth_method: 'tls_client_auth',
      tls_client_auth_subject_dn: 'CN=app',
    })
    const parameters = { ...credentials(), client_id: dpop.client_id }
    const key = await newKey()
    const fetch = fetchWith(certificate)
    const { body } = await post(server, '/token', parameters, {
      origin: proxy.mtlsOrigin,
      fetch,
      key,
    })
    t.is(body.token_type, 'DPoP')
  })
}
