/** oauth2-proxy in front of an application, with sessions of people who signed in at a provider here. */
import { execFile, spawn } from 'node:child_process'
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { promisify } from 'node:util'
import { exportJWK, SignJWT } from 'jose'
import { freePort } from '../../../src/net/free-port.ts'
import { until } from '../../support/until.ts'

const version = 'v7.15.6'
const module = `github.com/oauth2-proxy/oauth2-proxy/v7@${version}`
const cache = path.resolve('node_modules/.cache/oauth2-proxy')

/** The program: that of `OAUTH2_PROXY`, or built by Go, once. */
async function program(): Promise<string> {
  const given = process.env.OAUTH2_PROXY
  if (given) return given
  const built = path.join(cache, 'oauth2-proxy')
  if (!existsSync(built)) {
    const env = { ...process.env, GOBIN: cache, GOFLAGS: '-buildvcs=false' }
    await promisify(execFile)('go', ['install', module], { env })
  }
  return built
}

export interface Oauth2Proxy extends AsyncDisposable {
  readonly pid: number
  readonly port: number
  /** A `Cookie` field for each session. */
  readonly cookies: readonly string[]
}

const clientId = 'bench'

/** Answers the token endpoint and the keys; the code is the nonce of the ID token. */
async function startProvider() {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const server = createServer(async (request, response) => {
    response.setHeader('content-type', 'application/json')
    if (request.url === '/jwks') {
      const jwk = { ...(await exportJWK(publicKey)), kid: 'k1', alg: 'RS256', use: 'sig' }
      response.end(JSON.stringify({ keys: [jwk] }))
      return
    }
    const form = new URLSearchParams((await request.toArray()).join(''))
    const idToken = await new SignJWT({
      ...{ nonce: form.get('code'), email: 'ada@example.com', email_verified: true },
    })
      .setProtectedHeader({ alg: 'RS256', kid: 'k1' })
      .setIssuer(origin)
      .setAudience(clientId)
      .setSubject('ada')
      .setIssuedAt()
      .setExpirationTime('1h')
      .sign(privateKey)
    const tokens = { access_token: randomBytes(300).toString('base64url'), id_token: idToken }
    response.end(JSON.stringify({ ...tokens, token_type: 'Bearer', expires_in: 3600 }))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { origin, [Symbol.dispose]: () => void server.close() }
}

/** Starts it, and signs in as often as there are to be sessions. */
export async function startOauth2Proxy(upstream: string, sessions: number): Promise<Oauth2Proxy> {
  const provider = await startProvider()
  const port = await freePort()
  const origin = `http://127.0.0.1:${port}`
  const child = spawn(
    await program(),
    Object.entries({
      'http-address': `127.0.0.1:${port}`,
      ...{ upstream, provider: 'oidc', 'oidc-issuer-url': provider.origin },
      'skip-oidc-discovery': 'true',
      'login-url': `${provider.origin}/authorize`,
      'redeem-url': `${provider.origin}/token`,
      'oidc-jwks-url': `${provider.origin}/jwks`,
      ...{ 'client-id': clientId, 'client-secret': 'bench', 'email-domain': '*' },
      'cookie-secret': randomBytes(16).toString('hex'),
      'cookie-secure': 'false',
      'redirect-url': `${origin}/oauth2/callback`,
      ...{ 'request-logging': 'false', 'auth-logging': 'false', 'standard-logging': 'false' },
      ...{
        'reverse-proxy': 'true',
        'trusted-proxy-ip': '127.0.0.1',
        'skip-provider-button': 'true',
      },
    }).map(([name, value]) => `--${name}=${value}`),
    { stdio: ['ignore', 'ignore', 'inherit'] },
  )
  await until(async () => {
    if (child.exitCode !== null) throw new Error('oauth2-proxy did not start')
    return (await fetch(`${origin}/ping`).catch(() => undefined))?.ok === true
  })
  const cookies: string[] = []
  while (cookies.length < sessions) cookies.push(await signIn(origin))
  return {
    ...{ pid: child.pid ?? 0, port, cookies },
    async [Symbol.asyncDispose]() {
      provider[Symbol.dispose]()
      child.kill()
      await once(child, 'exit')
    },
  }
}

const cookiesOf = (response: Response) =>
  response.headers.getSetCookie().flatMap((each) => each.split(';')[0] ?? [])

async function signIn(origin: string): Promise<string> {
  const begun = await fetch(`${origin}/oauth2/start?rd=/`, { redirect: 'manual' })
  const { searchParams } = new URL(begun.headers.get('location') ?? '')
  const code = searchParams.get('nonce') ?? 'none'
  const query = new URLSearchParams({ code, state: searchParams.get('state') ?? '' })
  const ended = await fetch(`${origin}/oauth2/callback?${query}`, {
    redirect: 'manual',
    headers: { cookie: cookiesOf(begun).join('; ') },
  })
  const own = cookiesOf(ended).filter((each) => /^_oauth2_proxy(?:_\d+)?=./.test(each))
  if (own.length === 0) throw new Error(`no session: ${ended.status} ${await ended.text()}`)
  return own.join('; ')
}
