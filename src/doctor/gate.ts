/** Examines a gate (docs/gate.md) from outside, as a stranger would: with no token that is good. */
import { hash, randomUUID } from 'node:crypto'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { connect } from 'node:http2'
import { request } from 'node:https'
import type { TLSSocket } from 'node:tls'
import { generateKeyPair, SignJWT } from 'jose'
import { type Finding, finding } from './finding.ts'
import { makeProof } from './proof.ts'
import { defaultPatience, unreachable } from './request.ts'

/** Where a gate is, and the addresses behind it that must be out of reach. */
export interface GateTarget {
  /** The origin that clients call, with a path that is not public. */
  readonly url: string
  /** Where proxies ask the gate. */
  readonly forwardAuth?: string | undefined
  /** The application itself. */
  readonly upstream?: string | undefined
  /** Milliseconds after which an answer is no longer waited for. */
  readonly patience?: number
}

/** Told of each check that begins: how many of how many are done before it. */
type OnStep = (check: string, done: number, total: number) => void

interface Answer {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly text: string
  /** Milliseconds since the epoch at which the server's certificate expires. */
  readonly expiresMs: number | undefined
}

const keySetPath = '/.well-known/holdfast-gate/jwks.json'
const total = 11
const day = 86_400_000

/** Sends requests that a gate must refuse, and says what is wrong where one of them is answered. */
export async function examineGate(
  target: GateTarget,
  { onStep = () => {}, now = Date.now }: { onStep?: OnStep; now?: () => number } = {},
): Promise<Finding[]> {
  const { origin, pathname } = new URL(target.url)
  const ask = (path: string, headers: readonly string[] = []) =>
    send(target, origin + path, headers)
  const findings: Finding[] = []
  async function look(check: string, advise: () => Promise<Finding | string | undefined>) {
    onStep(check, findings.length, total)
    const advice = await advise()
    findings.push(typeof advice === 'object' ? advice : finding(check, advice))
  }

  onStep(reached, 0, total)
  const keys = await ask(keySetPath)
  if (typeof keys === 'string') return [finding(reached, keys)]
  findings.push(finding(reached, undefined))
  await look('its certificate is valid for another week', async () => expiryAdvice(keys, now()))
  await look('its clock agrees with the one here', async () => clockAdvice(keys, now()))
  await look(published, async () => keysFinding(keys))

  await look('a request without a token is refused', async () =>
    challengeAdvice(await ask(pathname), origin + pathname),
  )
  const stolen = await makeToken(origin)
  await look('a token without a proof of its key is refused', async () =>
    openAdvice(await ask(pathname, ['Authorization', `Bearer ${stolen}`]), 'a token of no issuer'),
  )
  const key = await generateKeyPair('ES256', { extractable: true })
  const url = origin + pathname
  const dpop = await makeProof(key, { method: 'GET', url, accessToken: stolen })
  await look('a token of another issuer is refused, with its proof', async () =>
    openAdvice(
      await ask(pathname, ['Authorization', `DPoP ${stolen}`, 'DPoP', dpop]),
      'a token of no issuer and a proof',
    ),
  )
  await look('forged headers open nothing', async () => forgedAdvice(ask, pathname))
  await look('a path that can be read in two ways is refused', async () =>
    openAdvice(
      await ask(`${keySetPath}/%2e%2e/%2e%2e/%2e%2e${pathname}`),
      'dot segments in a path',
    ),
  )
  await look(asked, async () => forwardAuthFinding(target))
  await look(alone, async () => upstreamFinding(target))
  return findings
}

const reached = 'the gate is reached'
const published = 'the keys of the gate are published'
const asked = 'the address at which proxies ask is out of reach'
const alone = 'the application is out of reach beside the gate'

/** A token that looks like one, by a key of nobody. */
async function makeToken(audience: string): Promise<string> {
  const { privateKey } = await generateKeyPair('ES256')
  return new SignJWT({
    scope: 'openid',
    jti: randomUUID(),
    cnf: { jkt: hash('sha256', 'x', 'base64url') },
  })
    .setProtectedHeader({ typ: 'at+jwt', alg: 'ES256', kid: 'doctor' })
    .setIssuer('https://doctor.invalid')
    .setSubject('doctor')
    .setAudience(audience)
    .setIssuedAt()
    .setExpirationTime('5m')
    .sign(privateKey)
}

/** What was answered, or a sentence for when nothing was. A redirect is an answer. */
async function send(
  { patience = defaultPatience }: GateTarget,
  address: string,
  headers: readonly string[],
): Promise<Answer | string> {
  const url = new URL(address)
  const signal = AbortSignal.timeout(patience)
  const connect = url.protocol === 'https:' ? request : httpRequest
  const options = {
    // As it was written: a URL has no dot segments any more.
    path: address.slice(url.origin.length),
    agent: false as const,
    signal,
    headers: ['Host', url.host, 'Accept', 'application/json', ...headers],
  }
  try {
    return await new Promise<Answer>((resolve, reject) => {
      const sent = connect(url, options)
      sent.on('error', reject)
      sent.on('response', (response) => {
        const validTo = (response.socket as Partial<TLSSocket>).getPeerCertificate?.().valid_to
        const { statusCode: status = 0, headers } = response
        const expiresMs = validTo === undefined ? undefined : Date.parse(validTo)
        response
          .toArray()
          .then((parts) => resolve({ status, headers, text: parts.join(''), expiresMs }), reject)
      })
      sent.end()
    })
  } catch (error) {
    if (signal.aborted) return `${url.origin} does not answer within ${patience / 1000} seconds.`
    return unreachable(url.origin, error as NodeJS.ErrnoException)
  }
}

function expiryAdvice({ expiresMs }: Answer, nowMs: number): string | undefined {
  if (expiresMs === undefined || expiresMs > nowMs + 7 * day) return undefined
  return `The certificate expires on ${new Date(expiresMs).toISOString()}. Renew it; the gate takes a new file without a restart.`
}

/** RFC 9110 section 6.6.1: `Date` has whole seconds. */
function clockAdvice({ headers }: Answer, nowMs: number): string | undefined {
  const there = Date.parse(headers.date ?? '')
  if (Number.isNaN(there) || Math.abs(there - nowMs) <= 10_000) return undefined
  const seconds = Math.round((there - nowMs) / 1000)
  return (
    `The clock there is ${Math.abs(seconds)} seconds ${seconds > 0 ? 'ahead of' : 'behind'} the one ` +
    'here: one of the two is wrong, and good proofs may be refused. Use NTP on both.'
  )
}

function keysFinding({ status, text }: Answer): Finding {
  if (status !== 200) {
    return {
      check: published,
      outcome: 'not_examined',
      advice:
        `${keySetPath} answered ${status}. Behind a proxy that asks the gate the keys are at its ` +
        'operations listener; in front of anything else this is no gate.',
    }
  }
  const keys = keysOf(text)
  if (keys === undefined) return finding(published, `${keySetPath} is not a JSON Web Key Set.`)
  if (keys.some((key) => 'd' in key)) {
    return finding(published, `${keySetPath} shows a private key. Replace that key now.`)
  }
  return keys.length > 0
    ? finding(published, undefined)
    : {
        check: published,
        outcome: 'off',
        advice: 'The gate signs nothing: no application has mode sign.',
      }
}

function keysOf(text: string): readonly object[] | undefined {
  try {
    const { keys } = JSON.parse(text) as { keys?: unknown }
    return Array.isArray(keys) && keys.every((key) => typeof key === 'object') ? keys : undefined
  } catch {
    return undefined
  }
}

function challengeAdvice(answer: Answer | string, url: string): string | undefined {
  if (typeof answer === 'string') return answer
  const { status, headers } = answer
  const challenge = headers['www-authenticate'] ?? ''
  if (status === 401 && /DPoP|Bearer/i.test(challenge)) return undefined
  if (status === 401)
    return 'The answer is 401 without WWW-Authenticate: let the proxy pass that header on.'
  return (
    `${url} answered ${status} without a token. Either this route is public (give a URL with a path ` +
    'that is not), or requests reach the application beside the gate.'
  )
}

function openAdvice(answer: Answer | string, what: string): string | undefined {
  if (typeof answer === 'string') return answer
  const { status } = answer
  if (status >= 400 && status < 500) return undefined
  return `A request with ${what} was answered with ${status}: it is not the gate that decides, or nobody asks it.`
}

/** Fields by which a client may try to be someone else, or to be asked about another request. */
const forged: readonly (readonly [string, readonly string[]])[] = [
  ['Holdfast-Identity', ['Holdfast-Identity', 'e30']],
  ['X-Holdfast-Subject', ['X-Holdfast-Subject', 'doctor']],
  ['X_Holdfast_Subject', ['X_Holdfast_Subject', 'doctor']],
  ['X-Forwarded-User', ['X-Forwarded-User', 'doctor', 'Remote-User', 'doctor']],
  ['Client-Cert', ['Client-Cert', ':AAAA:']],
  ['X-SSL-Cert', ['X-SSL-Cert', 'AAAA']],
  ['Sec-Provided-Token-Binding-ID', ['Sec-Provided-Token-Binding-ID', 'AAAA']],
  ['X-Original-URI', ['X-Original-Method', 'GET', 'X-Original-URI', keySetPath]],
  ['X-Forwarded-Uri', ['X-Forwarded-Method', 'GET', 'X-Forwarded-Uri', keySetPath]],
  ['X-Original-URL', ['X-Original-URL', keySetPath, 'X-Rewrite-URL', keySetPath]],
  ['X-HTTP-Method-Override', ['X-HTTP-Method-Override', 'OPTIONS']],
  ['X-Forwarded-For', ['X-Forwarded-For', '127.0.0.1', 'Forwarded', 'for=127.0.0.1']],
]

async function forgedAdvice(
  ask: (path: string, headers: readonly string[]) => Promise<Answer | string>,
  path: string,
): Promise<string | undefined> {
  const opened: string[] = []
  for (const [name, headers] of forged) {
    const answer = await ask(path, headers)
    if (typeof answer === 'string') return answer
    if (answer.status < 400 || answer.status >= 500) opened.push(`${name} (${answer.status})`)
  }
  if (opened.length === 0) return undefined
  return (
    `A client without a token gets an answer by writing ${opened.join(', ')}. Let the proxy remove ` +
    'these headers, as the configurations in docker/gate/ do.'
  )
}

async function forwardAuthFinding(target: GateTarget): Promise<Finding> {
  const { forwardAuth } = target
  if (forwardAuth === undefined) return unnamed(asked, '--forward-auth')
  const fields = ['X-Original-Method', 'GET', 'X-Original-Host', 'x', 'X-Original-URI', '/']
  const answer = await send(target, `${new URL(forwardAuth).origin}/authorize`, fields)
  // nginx gets 403 for every refusal: the gate's own says whether it was for the peer.
  const isRefused = (each: Answer) => each.status === 403 && !/"error":"(?!peer")/.test(each.text)
  const isOpen = typeof answer === 'object' && !isRefused(answer)
  const called = isOpen ? undefined : await callStatus(target, forwardAuth)
  const status = isOpen ? answer.status : called
  if (status === undefined || called === 403) return finding(asked, undefined)
  return finding(
    asked,
    `${forwardAuth} answered ${status} to a request from here. Let trustedProxies name the ` +
      'proxy and nobody else, and let it listen where only the proxy is.',
  )
}

/** The HTTP status of a call of Envoy's ext_authz by gRPC; `undefined` where none is spoken. */
async function callStatus(
  { patience = defaultPatience }: GateTarget,
  address: string,
): Promise<number | undefined> {
  const session = connect(new URL(address).origin)
  const signal = AbortSignal.timeout(patience)
  try {
    return await new Promise<number | undefined>((resolve, reject) => {
      session.on('error', reject)
      const call = session.request(
        {
          ':method': 'POST',
          ':path': '/envoy.service.auth.v3.Authorization/Check',
          'content-type': 'application/grpc',
          te: 'trailers',
        },
        { signal },
      )
      call.on('error', reject)
      call.on('response', (headers) => resolve(headers[':status']))
      // An empty message.
      call.end(Buffer.alloc(5))
    })
  } catch {
    return undefined
  } finally {
    session.destroy()
  }
}

async function upstreamFinding(target: GateTarget): Promise<Finding> {
  const { upstream } = target
  if (upstream === undefined) return unnamed(alone, '--upstream')
  const answer = await send(target, `${new URL(upstream).origin}/`, [
    'X-Holdfast-Subject',
    'doctor',
  ])
  if (typeof answer === 'string' || (answer.status >= 401 && answer.status <= 403)) {
    return finding(alone, undefined)
  }
  return finding(
    alone,
    `${upstream} answered ${answer.status} to a request from here. In mode plain anyone who reaches it ` +
      'is who they say: let it listen on loopback, or ask for the certificate of the gate.',
  )
}

const unnamed = (check: string, option: string): Finding => ({
  check,
  outcome: 'not_examined',
  advice: `Give ${option} with that address, on a machine that is neither the proxy nor the gate.`,
})
