import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import type { RequestListener } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import tls from 'node:tls'
import test, { type ExecutionContext, type TestFn } from 'ava'
import { ExtendedKeyUsage } from '../../src/certificates/x509.ts'
import { createDoctorCodes } from '../../src/doctor/codes.ts'
import { endExamination, examine } from '../../src/doctor/examination.ts'
import { doctorHeader } from '../../src/doctor/observation.ts'
import { freePort } from '../../src/net/free-port.ts'
import { createAuthority, type TestAuthority } from '../support/certificates.ts'
import { useMtlsServer } from '../support/mtls.ts'
import { formatOf, type ProxyName, startProxy, testWith } from '../support/proxies.ts'
import { startTestServer, type TestServer } from '../support/server.ts'
import { createTerminator } from '../support/token-binding-terminator.ts'
import { trust } from '../support/trust.ts'
import { certificate, listen, skipped } from '../token-binding-tls/support.ts'

const direct = useMtlsServer(test)
let authority: TestAuthority
let folder: string

test.before(async () => {
  authority = await createAuthority()
  folder = await mkdtemp(path.join(tmpdir(), 'holdfast-doctor-'))
})
test.after.always(() => rm(folder, { recursive: true, force: true }))

/** Milliseconds: the machine that runs these tests may be busy. */
const patience = 60_000

const adviceOf = async ({ storage }: TestServer, url: string) => {
  const code = await createDoctorCodes(storage.artifacts).issue()
  const findings = await examine({ url, code, patience })
  return Object.fromEntries(
    findings.flatMap(({ check, outcome, advice }) =>
      outcome === 'wrong' ? [[check, advice]] : [],
    ),
  )
}

test('a server without proxies is well', async (t) => {
  t.deepEqual(await adviceOf(direct.server, direct.server.issuer), {})
})

test('without a code there is no endpoint, and none after the examination', async (t) => {
  const { issuer, storage } = direct.server
  const ask = async (headers: Record<string, string>) =>
    (await fetch(`${issuer}/doctor`, { headers })).status
  t.is(await ask({}), 404)
  t.is(await ask({ [doctorHeader]: 'guess' }), 404)
  const code = await createDoctorCodes(storage.artifacts).issue()
  t.is(await ask({ [doctorHeader]: code }), 200)
  await endExamination({ url: issuer, code })
  t.is(await ask({ [doctorHeader]: code }), 404)
})

test('says when nobody answers', async (t) => {
  const [finding] = await examine({ url: `https://localhost:${await freePort()}`, code: 'x' })
  t.regex(finding?.advice ?? '', /ECONNREFUSED/)
})

/** A server on this machine whose certificate is trusted, and that answers like this. */
async function serveAnybody(t: ExecutionContext, listener: RequestListener): Promise<string> {
  const { serverAuth } = ExtendedKeyUsage
  const names: [{ type: 'dns'; value: string }] = [{ type: 'dns', value: 'localhost' }]
  tls.setDefaultCACertificates([...tls.getCACertificates('default'), authority.cert])
  const server = createServer(await authority.issue({ names, usage: [serverAuth] }), listener)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `https://localhost:${(server.address() as AddressInfo).port}`
}

for (const [title, listener, words] of [
  [
    'a page of a proxy',
    (_, response) => response.end('<h1>Welcome</h1>'),
    /is not a page of this server/,
  ],
  [
    'JSON of another server',
    (_, response) => response.end('{"url":"x"}'),
    /is not a page of this server/,
  ],
  ['no JSON object', (_, response) => response.end('null'), /is not a page of this server/],
  ['a connection that breaks', (request) => request.socket.destroy(), /cannot be reached \(/],
  [
    'an answer that breaks off',
    (request, response) => {
      response.writeHead(200, { 'content-length': 100 }).write('{')
      setImmediate(() => request.socket.destroy())
    },
    /cannot be reached \(/,
  ],
  ['silence', () => {}, /does not answer within 0\.2 seconds\.$/],
] as [string, RequestListener, RegExp][]) {
  test(`says that it meets ${title}`, async (t) => {
    const url = await serveAnybody(t, listener)
    const target = { url, code: 'x', patience: title === 'silence' ? 200 : 60_000 }
    const findings = await examine(target)
    t.is(findings.length, 1)
    t.regex(findings[0]?.advice ?? '', words)
    await endExamination(target)
  })
}

test("notices what becomes of a client's address", async (t) => {
  const adviceFor = async (seen: object, isPassedOn = false) => {
    const url = await serveAnybody(t, ({ headers }, response) => {
      const address = (isPassedOn && headers['x-forwarded-for']) || '10.0.0.7'
      const nothing = { fields: [], dpop: { count: 0 }, tokenBinding: { mode: 'off' } }
      response.end(JSON.stringify({ ...nothing, address, ...seen }))
    })
    const findings = await examine({ url, code: 'x', patience })
    return findings.find(({ check }) => check === "the client's address arrives")?.advice ?? ''
  }
  const proxied = { fromProxy: true, forwarded: true }
  t.is(await adviceFor(proxied), '')
  t.is(await adviceFor({ fromProxy: false, forwarded: false }), '')
  const forgotten = { fromProxy: false, forwarded: true }
  t.regex(await adviceFor(forgotten), /10\.0\.0\.7 .* name it in HOLDFAST_TRUSTED_PROXIES/)
  t.regex(await adviceFor({ ...proxied, forwarded: false }), /sends no X-Forwarded-For/)
  t.regex(await adviceFor(proxied, true), /they choose the address/)
})

test('tells of each check before it is made, and of how many there are', async (t) => {
  const { server } = direct
  const code = await createDoctorCodes(server.storage.artifacts).issue()
  const steps: [string, number, number][] = []
  const findings = await examine(
    { url: server.issuer, code, patience },
    { onStep: (...step) => steps.push(step) },
  )
  t.deepEqual(
    steps,
    findings.map(({ check }, at) => [check, at, findings.length]),
  )
})

interface Deployment {
  readonly proxy?: ProxyName
  readonly edit?: (configuration: string) => string
  readonly environment?: Record<string, string>
}

/** What the doctor says of nginx as it ships, but for the changes. */
async function deploymentAdvice(
  t: ExecutionContext,
  { proxy: name = 'nginx', edit, environment = {} }: Deployment,
) {
  await using opened = new AsyncDisposableStack()
  const upstream = await freePort()
  const proxy = opened.use(await startProxy(name, { upstream, authority, ...(edit && { edit }) }))
  tls.setDefaultCACertificates([...tls.getCACertificates('default'), proxy.ca])
  const server = opened.use(
    await startTestServer({
      HOLDFAST_TLS: 'off',
      HOLDFAST_PORT: String(upstream),
      HOLDFAST_ISSUER: proxy.publicOrigin,
      HOLDFAST_TRUSTED_PROXIES: '127.0.0.1',
      HOLDFAST_CLIENT_CERT_FORMAT: formatOf[name],
      HOLDFAST_MTLS_ORIGIN: proxy.mtlsOrigin,
      ...environment,
    }),
  )
  const advice = await adviceOf(server, proxy.publicOrigin)
  t.log(advice)
  return advice
}

for (const proxy of ['nginx', 'haproxy', 'envoy'] as const) {
  const run = testWith(test as TestFn, proxy)

  run(`${proxy} as it ships is well`, async (t) => {
    t.deepEqual(await deploymentAdvice(t, { proxy }), {})
  })
}

const withNginx = testWith(test as TestFn, 'nginx')
const shows = 'a certificate arrives'

for (const [title, deployment, check, words] of [
  [
    'a header that clients can spoof',
    { edit: (text) => text.replace('proxy_set_header X-SSL-Cert "";', '') },
    'claims of a client are removed',
    /x-ssl-cert can pass for any client/,
  ],
  [
    'a Token Binding ID that clients can spoof',
    { edit: (text) => text.replaceAll('proxy_set_header Sec-Provided-Token-Binding-ID "";', '') },
    'claims of a client are removed',
    /sec-provided-token-binding-id/,
  ],
  [
    'a certificate that nobody asks for',
    { edit: (text) => text.replace('ssl_verify_client optional_no_ca;', '') },
    shows,
    /Let the proxy ask for one/,
  ],
  [
    'a header of another format',
    { environment: { HOLDFAST_CLIENT_CERT_FORMAT: 'rfc9440' } },
    shows,
    /HOLDFAST_CLIENT_CERT_FORMAT is rfc9440/,
  ],
  [
    'a value of another format',
    { edit: (text) => text.replace('$ssl_client_escaped_cert', '$ssl_client_s_dn') },
    shows,
    /malformed_header/,
  ],
  [
    'a proxy that is not named',
    { environment: { HOLDFAST_TRUSTED_PROXIES: '192.0.2.1' } },
    shows,
    /HOLDFAST_TRUSTED_PROXIES/,
  ],
  [
    'a DPoP header that is missing',
    {
      edit: (text) =>
        text.replace('proxy_set_header Connection "";', '$& proxy_set_header DPoP "";'),
    },
    'a DPoP proof arrives as it was sent',
    /missing/,
  ],
  [
    'an issuer of another address',
    { environment: { HOLDFAST_ISSUER: 'https://id.example.com' } },
    'the public address is the configured one',
    /Set HOLDFAST_ISSUER=https:\/\/localhost/,
  ],
  [
    'a path that is rewritten',
    {
      edit: (text) => text.replace('http://holdfast$holdfast_uri;', 'http://holdfast/v1/;'),
    },
    'the deployment is reached',
    /answered 404/,
  ],
  [
    'browsers that are asked for a certificate',
    {
      edit: (text) =>
        text
          .replace(
            'proxy_set_header X-SSL-Cert "";',
            'proxy_set_header X-SSL-Cert $ssl_client_escaped_cert;',
          )
          .replace('ssl_protocols', 'ssl_verify_client optional_no_ca; ssl_protocols'),
    },
    'browsers are not asked for one',
    /browsers will ask people/,
  ],
] as [string, Deployment, string, RegExp][]) {
  withNginx(`notices ${title}`, async (t) => {
    const advice = await deploymentAdvice(t, deployment)
    t.regex(advice[check] ?? '', words)
  })
}

const bindingTest = skipped ? test.skip : test
const checksOf = async ({ storage }: TestServer, url: string, options = {}) => {
  const code = await createDoctorCodes(storage.artifacts).issue()
  const findings = await examine({ url, code, patience }, options)
  return findings.map(({ check, outcome }) => `${outcome} ${check}`)
}

for (const mode of ['tls', 'tls13-draft'] as const) {
  bindingTest(`a server that speaks Token Binding by itself is well: ${mode}`, async (t) => {
    const environment = { HOLDFAST_TLS: 'on', HOLDFAST_TOKEN_BINDING: mode }
    await using server = await startTestServer(environment)
    await trust(server)
    const checks = await checksOf(server, server.issuer)
    t.true(checks.includes('well a Token Binding arrives'))
    t.true(checks.includes('well a Token Binding does not stand beside a claim'))
    t.deepEqual(
      checks.filter((check) => !check.startsWith('well')),
      ['off certificates are announced'],
    )
    const blind = await checksOf(server, server.issuer, { tokenBindingAvailable: false })
    t.true(blind.includes('not_examined a Token Binding arrives'))
  })
}

test('Token Binding that is off is not examined', async (t) => {
  const checks = await checksOf(direct.server, direct.server.issuer)
  t.false(checks.some((check) => check.includes('a Token Binding arrives')))
})

/** A terminator that speaks Token Binding, before a server that believes it, or does not. */
async function terminatedAdvice(t: ExecutionContext, environment: Record<string, string> = {}) {
  const backend = await freePort()
  const terminator = createTerminator({
    tls: certificate,
    backend: new URL(`http://127.0.0.1:${backend}`),
  })
  const issuer = `https://localhost:${await listen(t, terminator)}`
  tls.setDefaultCACertificates([...tls.getCACertificates('default'), certificate.cert])
  await using server = await startTestServer({
    HOLDFAST_TLS: 'off',
    HOLDFAST_PORT: String(backend),
    HOLDFAST_ISSUER: issuer,
    HOLDFAST_TOKEN_BINDING: 'proxy',
    HOLDFAST_TRUSTED_PROXIES: '127.0.0.1',
    ...environment,
  })
  const advice = await adviceOf(server, issuer)
  t.log(advice)
  return advice
}

bindingTest('a proxy that speaks Token Binding is well', async (t) => {
  t.is((await terminatedAdvice(t))['a Token Binding arrives'], undefined)
  t.is((await terminatedAdvice(t))['a Token Binding does not stand beside a claim'], undefined)
})

bindingTest('notices a proxy of Token Binding that is not named', async (t) => {
  const advice = await terminatedAdvice(t, { HOLDFAST_TRUSTED_PROXIES: '192.0.2.1' })
  t.regex(advice['a Token Binding arrives'] ?? '', /name the proxy in HOLDFAST_TRUSTED_PROXIES/)
})

if (!skipped) {
  withNginx('notices a proxy that does not speak Token Binding', async (t) => {
    const environment = { HOLDFAST_TOKEN_BINDING: 'proxy' }
    const advice = await deploymentAdvice(t, { environment })
    t.regex(advice['a Token Binding arrives'] ?? '', /does not negotiate Token Binding/)
  })
}
