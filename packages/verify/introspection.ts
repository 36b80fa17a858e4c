/** Token introspection: asking the issuer (RFC 7662), in plain JSON or signed (RFC 9701). */
import type { AccessTokenClaims } from './access-token.ts'
import type { AuthenticationParts } from './client-authentication.ts'
import { VerifyError } from './errors.ts'
import type { Jwks } from './jwks.ts'
import { checkOptionalClaims, namesAudience } from './jwt-access-token.ts'
import { type Fetch, fetchBytes } from './lib/fetch-json.ts'
import { isObject, parseJsonObject } from './lib/json.ts'
import { parseJwt } from './lib/jwt.ts'
import { RecentMap } from './lib/recent-map.ts'
import { verifySignature } from './lib/signature.ts'

/** Everything an introspector needs; times in seconds. */
export type IntrospectorOptions = Readonly<{
  issuer: string
  audience: readonly string[]
  clientId: string
  endpoint: () => Promise<string>
  authenticate: () => AuthenticationParts
  /** Ask for signed answers, and take no others. */
  signed: boolean
  algorithms: readonly string[]
  jwks: Jwks
  /** How long an answer is believed: a revoked token may be accepted for this long. */
  cacheSeconds: number
  /** How long a token is known to be inactive without asking again. */
  negativeCacheSeconds: number
  cacheSize: number
  fetch: Fetch
  now: () => number
}>

/** An issuer's word that a token is active. */
export type Introspection = Readonly<{
  claims: AccessTokenClaims
  cacheSeconds: number
  /** Length of the answer. */
  bytes: number
}>

/** Asks the issuer about one token; `hash` identifies it in caches. */
export type Introspector = (token: string, hash: string) => Promise<Introspection>

/** Questions that wait for an answer: strangers can make up tokens as fast as they can send. */
const maxAsking = 1000

/** Makes an {@link Introspector}. Concurrent questions about one token are one request. */
export function createIntrospector(options: IntrospectorOptions): Introspector {
  const { cacheSeconds, negativeCacheSeconds, cacheSize, now } = options
  const asking = new Map<string, Promise<Introspection>>()
  const inactiveUntil = new RecentMap<number>(cacheSize)

  async function ask(token: string, hash: string): Promise<Introspection> {
    const { answer, bytes } = await fetchAnswer(token, options)
    // RFC 7662 section 2.2: the one member that has to be there.
    if (answer.active !== true) {
      inactiveUntil.set(hash, now() + negativeCacheSeconds)
      throw inactive()
    }
    return { claims: checkAnswer(answer, options), cacheSeconds, bytes }
  }

  return async (token, hash) => {
    // RFC 6750 section 2.1, b64token: what is not one need not be asked about.
    if (!/^[\w\-.~+/]+=*$/.test(token)) {
      throw new VerifyError('token_malformed', 'Access token is malformed')
    }
    if (now() < (inactiveUntil.get(hash) ?? 0)) throw inactive()
    const running = asking.get(hash)
    if (running !== undefined) return running
    if (asking.size >= maxAsking) {
      const message = 'The issuer is asked about too many access tokens at once'
      throw new VerifyError('issuer_unavailable', message)
    }
    const question = ask(token, hash).finally(() => asking.delete(hash))
    asking.set(hash, question)
    return question
  }
}

function inactive(): VerifyError {
  return new VerifyError('token_inactive', 'Access token is not active')
}

/** What the issuer says about an active token has to hold for this resource too. */
function checkAnswer(
  answer: Record<string, unknown>,
  { issuer, audience }: IntrospectorOptions,
): AccessTokenClaims {
  const { active: _, ...claims } = answer
  if (claims.iss !== undefined && claims.iss !== issuer) {
    throw new VerifyError('token_issuer', 'Access token is from another issuer')
  }
  if (!namesAudience(claims.aud, audience)) {
    throw new VerifyError('token_audience', 'Access token is for another audience')
  }
  checkOptionalClaims(claims)
  // RFC 9449 section 6.2. If the two disagree, a binding was lost on the way.
  const bound = isObject(claims.cnf) && claims.cnf.jkt !== undefined
  const type = typeof claims.token_type === 'string' ? claims.token_type.toLowerCase() : undefined
  if (type !== undefined && (type === 'dpop') !== bound) {
    throw new VerifyError(
      'confirmation_malformed',
      'token_type and cnf of the access token disagree',
    )
  }
  return { ...claims, iss: issuer }
}

async function fetchAnswer(
  token: string,
  options: IntrospectorOptions,
): Promise<{ answer: Record<string, unknown>; bytes: number }> {
  const { endpoint, authenticate, signed, fetch } = options
  try {
    const { headers, parameters } = authenticate()
    const { status, contentType, bytes } = await fetchBytes(fetch, await endpoint(), {
      method: 'POST',
      headers: {
        ...headers,
        accept: signed ? 'application/token-introspection+jwt' : 'application/json',
        'content-type': 'application/x-www-form-urlencoded',
      },
      body: new URLSearchParams({
        ...parameters,
        token,
        token_type_hint: 'access_token',
      }).toString(),
    })
    if (status !== 200) throw new Error(`status ${status}`)
    const type = contentType.split(';', 1)[0]?.trim().toLowerCase()
    if (signed) {
      if (type !== 'application/token-introspection+jwt') throw new Error('answer is not signed')
      const answer = await openSigned(bytes.toString('latin1'), options)
      return { answer, bytes: bytes.length }
    }
    const answer = parseJsonObject(bytes)
    if (answer === undefined) throw new Error('answer is not a JSON object')
    return { answer, bytes: bytes.length }
  } catch (cause) {
    throw new VerifyError('issuer_unavailable', 'The issuer gave no usable answer', { cause })
  }
}

/** RFC 9701 section 5. */
async function openSigned(
  text: string,
  { issuer, clientId, algorithms, jwks }: IntrospectorOptions,
): Promise<Record<string, unknown>> {
  const jwt = parseJwt(text)
  if (jwt === undefined) throw new Error('answer is not a JWT')
  const { typ, alg, kid } = jwt.header
  if (typ !== 'token-introspection+jwt') throw new Error('answer is of another typ')
  if (typeof alg !== 'string' || !algorithms.includes(alg)) throw new Error('alg is not accepted')
  const key = await jwks.find(alg, typeof kid === 'string' ? kid : undefined)
  if (!verifySignature(alg, key, jwt.input, jwt.signature)) throw new Error('wrong signature')
  const { iss, aud, token_introspection: answer } = jwt.claims
  if (iss !== issuer) throw new Error('answer is from another issuer')
  if (!namesAudience(aud, [clientId])) throw new Error('answer is for another client')
  if (!isObject(answer)) throw new Error('answer has no token_introspection')
  return answer
}
