// An issuer with a path, behind real proxies that strip the path or keep it.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import tls from 'node:tls'
import test, { type TestFn } from 'ava'
import { decodeJwt } from 'jose'
import * as oidc from 'openid-client'
import { CookieJar } from 'tough-cookie'
import { createDoctorCodes } from '../../src/doctor/codes.ts'
import { examine } from '../../src/doctor/examination.ts'
import { makeProof } from '../../src/doctor/proof.ts'
import { freePort } from '../../src/net/free-port.ts'
import { certificateFetch } from '../support/certificate-fetch.ts'
import { createAuthority, type TestAuthority } from '../support/certificates.ts'
import { basic, createPerson, newKey, post } from '../support/flow.ts'
import {
  formatOf,
  isInstalled,
  type ProxyName,
  type RunningProxy,
  startProxy,
  testWith,
} from '../support/proxies.ts'
import { api, email, password, startTestServer, type TestServer } from '../support/server.ts'

const redirect_uri = 'https://app.example/callback'
const publicPath = '/tenants/auth'
const opened = new AsyncDisposableStack()
test.after.always(() => opened.disposeAsync())

let authority: TestAuthority
let folder: string

test.serial.before(async () => {
  authority = await createAuthority()
  folder = await mkdtemp(path.join(tmpdir(), 'holdfast-path-'))
  opened.defer(() => rm(folder, { recursive: true, force: true }))
  await writeFile(path.join(folder, 'clients.pem'), authority.cert)
})

for (const [name, upstreamPath] of [
  ['nginx', ''],
  ['nginx', publicPath],
  ['haproxy', ''],
  ['haproxy', publicPath],
  ['envoy', ''],
  ['envoy', publicPath],
] as const satisfies [ProxyName, string][]) {
  const proxyTest = testWith(test as TestFn, name)
  const title = `${name} that ${upstreamPath ? 'keeps' : 'strips'} the path`
  let proxy: RunningProxy
  let server: TestServer
  let issuer: string
  let origin: string

  test.serial.before(async () => {
    if (!isInstalled(name)) return
    const upstream = await freePort()
    const paths = { public: publicPath, upstream: upstreamPath }
    proxy = opened.use(await startProxy(name, { upstream, authority, paths }))
    tls.setDefaultCACertificates([...tls.getCACertificates('default'), proxy.ca])
    origin = proxy.publicOrigin
    issuer = origin + publicPath
    server = opened.use(
      await startTestServer({
        HOLDFAST_TLS: 'off',
        HOLDFAST_PORT: String(upstream),
        HOLDFAST_ISSUER: issuer,
        ...(upstreamPath === '' && { HOLDFAST_PATH: '/' }),
        HOLDFAST_ADMIN_API: 'on',
        HOLDFAST_REGISTRATION: 'on',
        HOLDFAST_TRUSTED_PROXIES: '127.0.0.1',
        HOLDFAST_CLIENT_CERT_FORMAT: formatOf[name],
        HOLDFAST_MTLS_ORIGIN: proxy.mtlsOrigin,
        HOLDFAST_CLIENT_CA_FILE: path.join(folder, 'clients.pem'),
      }),
    )
  })

  proxyTest(`${title}: metadata by both rules is the same`, async (t) => {
    const [first, ...others] = await Promise.all(
      [
        `${issuer}/.well-known/openid-configuration`,
        `${origin}/.well-known/oauth-authorization-server${publicPath}`,
        `${origin}/.well-known/openid-configuration${publicPath}`,
        `${issuer}/.well-known/oauth-authorization-server`,
      ].map(async (address) => (await (await fetch(address)).json()) as Record<string, unknown>),
    )
    for (const other of others) t.deepEqual(other, first)
    const { mtls_endpoint_aliases: aliases, issuer: named, ...metadata } = first ?? {}
    t.is(named, issuer)
    const addresses = Object.entries(metadata).filter(([key]) => /_(endpoint|uri)$/.test(key))
    t.true(addresses.length >= 7)
    for (const [key, value] of addresses) t.true(String(value).startsWith(`${issuer}/`), key)
    for (const value of Object.values(aliases as object)) {
      t.true(String(value).startsWith(`${proxy.mtlsOrigin}${publicPath}/`), String(value))
    }
    t.is((await fetch(String(metadata.jwks_uri))).status, 200)
    const registering = await fetch(String(metadata.registration_endpoint), {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{}',
    })
    t.is(registering.status, 401)
  })

  proxyTest(`${title}: openid-client signs in with DPoP, refreshes and signs out`, async (t) => {
    const { client_id } = await server.addClient({
      application_type: 'web',
      redirect_uris: [redirect_uri],
      post_logout_redirect_uris: ['https://app.example/bye'],
    })
    for (const algorithm of ['oidc', 'oauth2'] as const) {
      const options = { algorithm }
      const config = await oidc.discovery(
        new URL(issuer),
        client_id,
        undefined,
        oidc.None(),
        options,
      )
      const DPoP = oidc.getDPoPHandle(config, await oidc.randomDPoPKeyPair())
      const pkceCodeVerifier = oidc.randomPKCECodeVerifier()
      const expectedState = oidc.randomState()
      const url = await oidc.buildAuthorizationUrlWithPAR(
        config,
        {
          redirect_uri,
          scope: 'openid email offline_access',
          prompt: 'consent',
          code_challenge: await oidc.calculatePKCECodeChallenge(pkceCodeVerifier),
          code_challenge_method: 'S256',
          state: expectedState,
        },
        { DPoP },
      )
      t.true(url.href.startsWith(`${issuer}/authorize?`))
      const jar = new CookieJar()
      const person = createPerson(server, { jar })
      const parameters = { redirect_uri, ...Object.fromEntries(url.searchParams) }
      const callback = await person.authorize(parameters)
      const tokens = await oidc.authorizationCodeGrant(
        config,
        callback,
        { pkceCodeVerifier, expectedState },
        undefined,
        { DPoP },
      )
      t.is(tokens.claims()?.iss, issuer)
      const info = await oidc.fetchUserInfo(
        config,
        tokens.access_token,
        tokens.claims()?.sub ?? '',
        { DPoP },
      )
      t.is(info.email, email)
      const next = await oidc.refreshTokenGrant(config, tokens.refresh_token ?? '', undefined, {
        DPoP,
      })
      t.truthy(next.refresh_token)

      // What else lives at the origin is shown the secret of the browser, which opens nothing.
      for (const path of ['/other', `${publicPath}else`]) {
        const shown = await jar.getCookieString(origin + path)
        t.regex(shown, /^__Host-holdfast_browser\.[^;]*$/)
      }
      t.regex(await jar.getCookieString(`${issuer}/authorize`), /__Secure-holdfast_session=/)

      const security = await person.browser.visit(`${issuer}/security/applications`)
      t.true(security.html.includes(email))
      const after = await person.browser.submit(security, 'End its access')
      t.is(after.url.href, `${issuer}/security/applications`)
      t.false(after.html.includes('End its access'))

      const sheet = /<link rel="stylesheet" href="([^"]+)"/.exec(security.html)?.[1] ?? ''
      const { status, headers } = await fetch(new URL(sheet, issuer))
      t.is(status, 200)
      t.regex(headers.get('content-type') ?? '', /css/)

      const leaving = await person.browser.visit(`${issuer}/session/end?client_id=${client_id}`)
      const left = await person.browser.submit(leaving, 'Sign out everywhere in this browser', {
        logout: 'yes',
      })
      t.true(left.url.href.startsWith(`${issuer}/session/end/success`))
      t.true(left.html.includes('You are signed out'))
      const kept = await jar.getCookieString(`${issuer}/authorize`)
      t.regex(kept, /^__Host-holdfast_browser\.[^;]*$/)
    }
  })

  proxyTest(`${title}: My security leads to a sign-in and back`, async (t) => {
    const person = createPerson(server)
    const login = await person.browser.visit(`${issuer}/security`)
    t.true(login.url.href.startsWith(`${issuer}/interaction/`), login.url.href)
    const page = await person.browser.submit(login, 'Sign in', { email, password })
    t.is(page.url.href, `${issuer}/security/sign-in`)
    t.true(page.html.includes(email))
  })

  proxyTest(`${title}: a request by POST comes back to the same place`, async (t) => {
    const { status, headers } = await fetch(`${issuer}/authorize`, {
      method: 'POST',
      redirect: 'manual',
      body: new URLSearchParams({ client_id: 'x' }),
    })
    t.is(status, 303)
    t.is(new URL(headers.get('location') ?? '', issuer).href, `${issuer}/authorize?client_id=x`)
  })

  proxyTest(`${title}: tokens bound to a certificate`, async (t) => {
    const certificate = await authority.issue({ subject: 'CN=app' })
    const { client_id } = await server.addClient({
      redirect_uris: [],
      response_types: [],
      grant_types: ['client_credentials'],
      token_endpoint_auth_method: 'tls_client_auth',
      tls_client_auth_subject_dn: 'CN=app',
      binding_method: 'mtls',
    })
    const { body } = await post(
      server,
      '/token',
      { grant_type: 'client_credentials', client_id, scope: 'read', resource: api },
      {
        origin: proxy.mtlsOrigin + publicPath,
        fetch: opened.use(certificateFetch({ ...certificate, ca: proxy.ca })),
      },
    )
    const { cnf, iss } = decodeJwt(body.access_token)
    t.deepEqual(cnf, { 'x5t#S256': certificate.thumbprint })
    t.is(iss, issuer)
  })

  proxyTest(`${title}: proofs are for the public address and no other`, async (t) => {
    const client = await server.addClient({
      redirect_uris: [],
      response_types: [],
      grant_types: ['client_credentials'],
      token_endpoint_auth_method: 'client_secret_basic',
    })
    const key = await newKey()
    const ask = async (url: string) => {
      const proof = await makeProof(key, { method: 'POST', url })
      const parameters = { grant_type: 'client_credentials', scope: 'read', resource: api }
      return post(server, '/token', parameters, { proof, headers: basic(client) })
    }
    t.is((await ask(`${issuer}/token`)).status, 200)
    for (const url of [`${origin}/token`, `${issuer}${publicPath}/token`]) {
      t.is((await ask(url)).body.error, 'invalid_dpop_proof', url)
    }
  })

  proxyTest(`${title}: the admin API, an escaped address of a resource included`, async (t) => {
    const client = await server.addClient({
      redirect_uris: [],
      response_types: [],
      grant_types: ['client_credentials'],
      token_endpoint_auth_method: 'client_secret_basic',
      administration: 'write',
    } as never)
    const key = await newKey()
    const { body } = await post(
      server,
      '/token',
      {
        grant_type: 'client_credentials',
        resource: `${issuer}/admin`,
        scope: 'admin:read admin:write',
      },
      { key, headers: basic(client) },
    )
    const call = async (method: string, place: string) => {
      const url = `${issuer}/admin${place}`
      const dpop = await makeProof(key, { method, url, accessToken: body.access_token })
      return fetch(url, { method, headers: { authorization: `DPoP ${body.access_token}`, dpop } })
    }
    t.is((await call('GET', '/resources')).status, 200)
    const identifier = 'https://gone.example/a'
    await server.storage.resourceServers.insert({ identifier, name: null, scopes: ['read'] })
    t.is((await call('DELETE', `/resources/${encodeURIComponent(identifier)}`)).status, 204)
  })

  proxyTest(`${title}: nothing is served beside the path`, async (t) => {
    for (const address of [`${origin}/token`, `${origin}/security`, `${origin}/readyz`]) {
      t.is((await fetch(address)).status, 404, address)
    }
    t.is((await fetch(`${issuer}/livez`)).status, 200)
  })

  proxyTest(`${title}: the doctor finds nothing`, async (t) => {
    const code = await createDoctorCodes(server.storage.artifacts).issue()
    const findings = await examine({ url: issuer, code })
    t.deepEqual(
      findings.filter(({ outcome }) => outcome !== 'well'),
      [],
    )
  })
}
