/**
 * Fetches documents whose URL someone else has chosen, such as the `jwks_uri` of a client: a client
 * must not make this server send requests into the network that it stands in, or hold its memory,
 * sockets and time. This file is the only way to such a URL, and imports nothing of this project.
 */
import { promises as dns } from 'node:dns'
import { isIP, type LookupFunction } from 'node:net'
import ipaddr from 'ipaddr.js'
import { Agent, buildConnector, request } from 'undici'

export type GuardedFetchErrorCode =
  /** The URL is no https URL, or has a user name. */
  | 'not_https'
  /** The host is, or resolves to, an address that is not of the public internet. */
  | 'special_address'
  | 'redirected'
  | 'too_large'
  | 'timed_out'
  /** No authority that this machine trusts stands for the host, or the certificate is for another. */
  | 'untrusted_certificate'
  /** What it should be can only the caller tell. */
  | 'bad_status'
  | 'wrong_type'
  /** This requester, or all of them, have used up their requests for now. */
  | 'too_many'
  /** The last request failed, and the time to try again has not come. */
  | 'failed_before'
  | 'unreachable'

export class GuardedFetchError extends Error {
  override name = 'GuardedFetchError'
  readonly code: GuardedFetchErrorCode

  constructor(code: GuardedFetchErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** Addresses of a host name. Each of them is checked before there is a connection to any. */
export type Resolve = (hostname: string) => Promise<readonly string[]>

export interface GuardedFetchLimits {
  /** The most bytes that the body of an answer may have. */
  readonly limitBytes: number
  /** Milliseconds for a request, from the lookup of its host to the last byte of the answer. */
  readonly patienceMs: number
  readonly concurrent: number
  readonly concurrentPerRequester: number
  readonly perMinute: number
  readonly perMinutePerRequester: number
  /** Milliseconds without a request after a failure; each failure in a row doubles it. */
  readonly firstPauseMs: number
  readonly longestPauseMs: number
}

export const defaultLimits: GuardedFetchLimits = {
  limitBytes: 64 * 1024,
  patienceMs: 2500,
  concurrent: 32,
  concurrentPerRequester: 2,
  perMinute: 600,
  perMinutePerRequester: 10,
  firstPauseMs: 5000,
  longestPauseMs: 300_000,
}

export interface GuardedFetchOptions {
  readonly limits?: Partial<GuardedFetchLimits>
  readonly resolve?: Resolve
  /** Milliseconds since the epoch. */
  readonly now?: () => number
  /**
   * The one exception, for tests and development: addresses that may be asked although they are not
   * public, over plain HTTP as well, and an authority to trust. No setting of the server sets it.
   */
  readonly development?: { readonly addresses: readonly string[]; readonly ca?: string }
}

export interface GuardedRequest {
  /** Who has chosen the URL, for the limits: a client_id. By default the origin of the URL. */
  readonly requester?: string | undefined
  readonly headers?: Readonly<Record<string, string>>
  /** A form, or an object as JSON, to post; undefined for a GET. */
  readonly form?: URLSearchParams
  readonly json?: object
}

export interface GuardedAnswer {
  readonly status: number
  readonly headers: ReadonlyMap<string, string>
  readonly body: Uint8Array<ArrayBuffer>
}

export type GuardedFetch = (url: string, request?: GuardedRequest) => Promise<GuardedAnswer>

/** The most failing URLs that are remembered; of more the oldest are forgotten. */
const failuresLimit = 10_000

/** Characters of the reason of each of them. */
const longestReason = 200

/**
 * A GET of an https URL that someone else has chosen, or a POST to it. It follows no redirect, reads
 * a bounded body in a bounded time, and connects to public addresses only, whatever the name of the
 * host resolves to.
 *
 * @throws {@link GuardedFetchError}
 */
export function createGuardedFetch({
  limits: changed = {},
  resolve = createResolver(),
  now = Date.now,
  development,
}: GuardedFetchOptions = {}): GuardedFetch {
  const limits = { ...defaultLimits, ...changed }
  const allowed = new Set(development?.addresses)
  const isAllowed = (address: string) => isPublicAddress(address) || allowed.has(address)
  const agent = createAgent({ isAllowed, resolve, limits, ca: development?.ca })
  const failures = createFailures(limits, now)
  const admit = createAdmission(limits, now)

  return async (text, { requester, headers = {}, ...posted } = {}) => {
    const body = bodyOf(posted)
    const url = checkedUrl(text, { allowHttp: development !== undefined })
    failures.check(url.href)
    const leave = admit(requester ?? url.origin)
    try {
      const answer = await ask(url, { agent, limits, headers, body })
      // What was posted may be refused, and the next be taken.
      if (answer.status < (body ? 500 : 400)) failures.clear(url.href)
      else failures.add(url.href, badStatus(answer.status))
      return answer
    } catch (error) {
      const problem = asGuardedFetchError(error)
      failures.add(url.href, problem)
      throw problem
    } finally {
      leave()
    }
  }
}

/**
 * Whether an address is one of the public internet: unicast, and in no registry of special-purpose
 * addresses (RFC 6890). Addresses that carry an IPv4 address within (IPv4-mapped, NAT64, 6to4,
 * Teredo) are not public, whatever they carry. Of IPv6 only 2000::/3 has been given out for it.
 */
export function isPublicAddress(address: string): boolean {
  if (!isIP(address)) return false
  const parsed = ipaddr.parse(address)
  if (parsed.range() !== 'unicast') return false
  return parsed.kind() === 'ipv4' || parsed.match(globalUnicast)
}

const globalUnicast = ipaddr.parseCIDR('2000::/3') as [ipaddr.IPv6, number]

/**
 * Asks the name servers directly: `dns.lookup` takes a thread of a small pool, which waits for as long
 * as the name server of an attacker likes, and passwords are hashed by that pool.
 */
function createResolver(): Resolve {
  const resolver = new dns.Resolver({ timeout: 1000, tries: 2 })
  return async (hostname) => {
    const [four, six] = await Promise.allSettled([
      resolver.resolve4(hostname),
      resolver.resolve6(hostname),
    ])
    return [four, six].flatMap((found) => (found.status === 'fulfilled' ? found.value : []))
  }
}

function createAgent({
  isAllowed,
  resolve,
  limits,
  ca,
}: {
  isAllowed: (address: string) => boolean
  resolve: Resolve
  limits: GuardedFetchLimits
  ca: string | undefined
}): Agent {
  const { patienceMs, limitBytes } = limits
  const lookup: LookupFunction = (hostname, options, callback) => {
    resolveAllowed(hostname, { resolve, isAllowed }).then(
      (found) => {
        const [first] = found
        if (options.all) callback(null, found)
        else callback(null, first.address, first.family)
      },
      (error) => callback(error, []),
    )
  }
  const connect = buildConnector({
    lookup,
    timeout: patienceMs,
    allowH2: false,
    ...(ca !== undefined && { ca }),
  })
  return new Agent({
    // A literal address is connected to without a lookup.
    connect(options, callback) {
      const host = options.hostname.replace(/^\[|\]$/g, '')
      if (isIP(host) && !isAllowed(host)) callback(specialAddress(host), null)
      else connect(options, callback)
    },
    // The next request looks the host up again.
    pipelining: 0,
    headersTimeout: patienceMs,
    bodyTimeout: patienceMs,
    maxResponseSize: limitBytes,
    maxHeaderSize: 16 * 1024,
  })
}

type Found = { address: string; family: number }

/** Of a name with a public and another address none is used: that is no mistake. */
async function resolveAllowed(
  hostname: string,
  { resolve, isAllowed }: { resolve: Resolve; isAllowed: (address: string) => boolean },
): Promise<[Found, ...Found[]]> {
  const addresses = await resolve(hostname)
  if (!addresses.every(isAllowed)) throw specialAddress(hostname)
  const [first, ...more] = addresses.map((address) => ({ address, family: isIP(address) }))
  if (!first) throw new GuardedFetchError('unreachable', `${hostname} has no address`)
  return [first, ...more]
}

function specialAddress(host: string): GuardedFetchError {
  return new GuardedFetchError('special_address', `${host} is not of the public internet`)
}

/** WHATWG URLs have one form of an address: decimal, octal and hexadecimal ones are read as such. */
function checkedUrl(text: string, { allowHttp }: { allowHttp: boolean }): URL {
  const url = URL.parse(text)
  const isHttps = url?.protocol === 'https:' || (allowHttp && url?.protocol === 'http:')
  if (!url || !isHttps || url.username || url.password) {
    throw new GuardedFetchError('not_https', 'only https URLs without a user name are fetched')
  }
  url.hash = ''
  return url
}

interface PostedBody {
  readonly type: string
  readonly text: string
}

function bodyOf({ form, json }: Pick<GuardedRequest, 'form' | 'json'>): PostedBody | undefined {
  if (form) return { type: 'application/x-www-form-urlencoded', text: form.toString() }
  return json && { type: 'application/json', text: JSON.stringify(json) }
}

async function ask(
  url: URL,
  {
    agent,
    limits,
    headers,
    body: posted,
  }: {
    agent: Agent
    limits: GuardedFetchLimits
    headers: Readonly<Record<string, string>>
    body: PostedBody | undefined
  },
): Promise<GuardedAnswer> {
  const answer = await request(url, {
    dispatcher: agent,
    ...(posted && { method: 'POST' as const, body: posted.text }),
    headers: {
      ...headers,
      ...(posted && { 'content-type': posted.type }),
      'accept-encoding': 'identity',
    },
    reset: true,
    signal: AbortSignal.timeout(limits.patienceMs),
  })
  const { statusCode: status } = answer
  // Reading continues until the end or an error: the signal and the limits of the agent bound it.
  const body = new Uint8Array(await answer.body.arrayBuffer())
  // 304 answers a condition, and leads nowhere.
  if (status >= 300 && status < 400 && status !== 304) {
    throw new GuardedFetchError('redirected', 'redirects are not followed')
  }
  const pairs = Object.entries(answer.headers).map(
    ([name, value]) => [name, Array.isArray(value) ? value.join(', ') : (value ?? '')] as const,
  )
  return { status, headers: new Map(pairs), body }
}

/** The problem of an answer that its reader expected with the status 200. */
export function badStatus(status: number): GuardedFetchError {
  return new GuardedFetchError('bad_status', `the answer has the status ${status}`)
}

/** Codes of OpenSSL and Node for a certificate that does not show who the host is. */
const certificateProblem =
  /^(?:CERT_|DEPTH_ZERO_|ERR_TLS_CERT_|HOSTNAME_MISMATCH|INVALID_(?:CA|PURPOSE)|SELF_SIGNED_|UNABLE_TO_)/

function asGuardedFetchError(error: unknown): GuardedFetchError {
  const { name, code, message, cause } = error as Error & { code?: string }
  if (error instanceof GuardedFetchError) return error
  if (cause instanceof GuardedFetchError) return cause
  if (name === 'TimeoutError' || /TIMEOUT/.test(code ?? '')) {
    return new GuardedFetchError('timed_out', 'no answer in time', { cause: error })
  }
  if (code === 'UND_ERR_RES_EXCEEDED_MAX_SIZE') {
    return new GuardedFetchError('too_large', 'the answer is too large', { cause: error })
  }
  if (certificateProblem.test(code ?? '')) {
    const problem = `the certificate of the host is not trusted (${code})`
    return new GuardedFetchError('untrusted_certificate', problem, { cause: error })
  }
  return new GuardedFetchError('unreachable', `the request failed: ${message}`, { cause: error })
}

/** Remembers URLs that failed, so that they are asked again later and later. */
function createFailures(
  { firstPauseMs, longestPauseMs }: GuardedFetchLimits,
  now: () => number,
): {
  check(url: string): void
  add(url: string, problem: GuardedFetchError): void
  clear(url: string): void
} {
  interface Failure {
    readonly until: number
    readonly pauseMs: number
    readonly code: GuardedFetchErrorCode
    readonly message: string
  }
  const failures = new Map<string, Failure>()
  return {
    check(url) {
      const before = failures.get(url)
      if (!before || now() >= before.until) return
      const cause = new GuardedFetchError(before.code, before.message)
      throw new GuardedFetchError('failed_before', 'it failed a moment ago', { cause })
    },
    add(url, { code, message }) {
      const before = failures.get(url)
      const pauseMs = before ? Math.min(before.pauseMs * 2, longestPauseMs) : firstPauseMs
      failures.delete(url)
      const kept = message.slice(0, longestReason)
      failures.set(url, { until: now() + pauseMs, pauseMs, code, message: kept })
      const [oldest] = failures.keys()
      if (failures.size > failuresLimit && oldest !== undefined) failures.delete(oldest)
    },
    clear: (url) => failures.delete(url),
  }
}

/**
 * Counts requests, of each requester and of all: those of this minute, and those that are on their
 * way. What is counted of a minute is bounded by what all of them may ask in it.
 */
function createAdmission(
  limits: GuardedFetchLimits,
  now: () => number,
): (requester: string) => () => void {
  let minute = 0
  let inMinute = 0
  let active = 0
  const ofMinute = new Map<string, number>()
  const activeOf = new Map<string, number>()
  return (requester) => {
    const current = Math.floor(now() / 60_000)
    if (current !== minute) {
      minute = current
      inMinute = 0
      ofMinute.clear()
    }
    const before = { asked: ofMinute.get(requester) ?? 0, active: activeOf.get(requester) ?? 0 }
    if (
      inMinute >= limits.perMinute ||
      active >= limits.concurrent ||
      before.asked >= limits.perMinutePerRequester ||
      before.active >= limits.concurrentPerRequester
    ) {
      throw new GuardedFetchError('too_many', 'too many requests for now')
    }
    inMinute += 1
    active += 1
    ofMinute.set(requester, before.asked + 1)
    activeOf.set(requester, before.active + 1)
    return () => {
      active -= 1
      const left = (activeOf.get(requester) ?? 1) - 1
      if (left === 0) activeOf.delete(requester)
      else activeOf.set(requester, left)
    }
  }
}
