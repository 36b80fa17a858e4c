/**
 * Who asks (RFC 6749 section 2.3, RFC 7523 section 3, RFC 8705 section 2): the credentials of a
 * request in, a client or a refusal out. One way each; the client's registration says which.
 */

import { type ParsedJwt, parseJwt } from '@holdfast/verify/authorization-server'
import type { ConnectionProofs } from '../bindings/binding.ts'
import { longestProofWindowS } from '../bindings/dpop.ts'
import { currentCertificate } from '../bindings/mtls.ts'
import type { ClientAuthorities, UntrustedReason } from '../certificates/client-authorities.ts'
import { subjectMatches } from '../certificates/subject.ts'
import { type ClientKey, findSigner } from '../clients/client-keys.ts'
import type { FetchProblem } from '../net/fetch-problem.ts'
import { replayEntry } from '../storage/replay-table.ts'
import { isRefusal, type Refusal, refuse } from './refusal.ts'
import type { ClientAuthenticationMethod, TokenClient, UsedJti } from './token-request.ts'

/** The longest a client assertion may live, in seconds: its replay entry is kept for as long. */
const longestAssertionS = 10 * 60

const assertionType = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'

/** The parameters by which clients name themselves and authenticate. */
export const authenticationParameters = [
  'client_id',
  'client_secret',
  'client_assertion',
  'client_assertion_type',
] as const

/** What a request shows of its client. */
export interface ShownCredentials {
  readonly params: Readonly<
    Partial<Record<(typeof authenticationParameters)[number], string | undefined>>
  >
  /** The header field, if there is one. */
  readonly authorization: string | undefined
  readonly connection: ConnectionProofs
  /** What an assertion may say that it is for: the issuer. */
  readonly audiences: readonly string[]
  /** Those of a client that may name endpoints (`endpoint_audience`). */
  readonly endpoints: readonly string[]
  /** Seconds since the epoch. */
  readonly now: number
}

/** What is needed to authenticate clients. */
export interface ClientAuthenticationOptions {
  readonly findClient: (clientId: string) => Promise<TokenClient | Refusal | undefined>
  /** Seconds by which the clock of a client may be wrong in an assertion. */
  readonly clockToleranceS: number
  /** Undefined where no authority of clients is configured. */
  readonly authorities: Pick<ClientAuthorities, 'check'> | undefined
}

export interface AuthenticatedClient {
  readonly client: TokenClient
  /** Its assertion, which is good once; undefined where it has authenticated in another way. */
  readonly entry: UsedJti | undefined
  /** Thumbprint (RFC 7638) of the key of its assertion. */
  readonly assertionKey?: string
}

/** A refusal, with the client that it is about if that is known. */
export interface FailedAuthentication {
  readonly refusal: Refusal
  readonly client?: TokenClient
  readonly untrusted?: UntrustedReason
}

/** What a request claims before anyone has looked who it is. */
interface Claim {
  readonly clientId: string
  readonly methods: readonly ClientAuthenticationMethod[]
  readonly secret?: string
  readonly assertion?: ParsedJwt
}

/** Authenticates the client of a request. */
export async function authenticateClient(
  shown: ShownCredentials,
  options: ClientAuthenticationOptions,
): Promise<AuthenticatedClient | FailedAuthentication> {
  const claim = readClaim(shown)
  if (isRefusal(claim)) return { refusal: claim }
  const client = await options.findClient(claim.clientId)
  if (!client) return { refusal: refuse('client_unknown') }
  if (isRefusal(client)) return { refusal: client }
  if (!mayAuthenticateBy(client, claim.methods)) {
    const description = `this client must authenticate by ${methodsOf(client).join(' or ')}`
    return { refusal: refuse('client_method', { description }), client }
  }
  const failed = (refusal: Refusal) => ({ refusal, client })
  switch (client.authenticatesBy) {
    case 'none':
      return { client, entry: undefined }
    case 'client_secret_basic':
    case 'client_secret_post':
      return secretProblem(client, claim.secret ?? '', shown.now) ?? { client, entry: undefined }
    case 'private_key_jwt': {
      const checked = await checkAssertion(claim.assertion, client, shown, options)
      return isRefusal(checked) ? failed(checked) : { client, ...checked }
    }
    case 'tls_client_auth':
      return byCertificateName(client, shown, options)
    case 'self_signed_tls_client_auth':
      return byRegisteredCertificate(client, shown)
  }
}

function methodsOf(client: TokenClient): readonly ClientAuthenticationMethod[] {
  return client.sendsSecretEitherWay
    ? ['client_secret_basic', 'client_secret_post']
    : [client.authenticatesBy]
}

function mayAuthenticateBy(
  client: TokenClient,
  shown: readonly ClientAuthenticationMethod[],
): boolean {
  return methodsOf(client).some((method) => shown.includes(method))
}

function readClaim({ params, authorization }: ShownCredentials): Claim | Refusal {
  const { client_id: named, client_secret: secret, client_assertion: assertion } = params
  const ways = [authorization, secret, assertion].filter((way) => way !== undefined)
  if (ways.length > 1) return refuse('client_authenticates_twice')
  const claim = claimOf(params, authorization)
  if (isRefusal(claim)) return claim
  if (claim.clientId === undefined) return refuse('client_unnamed')
  if (named !== undefined && named !== claim.clientId) return refuse('client_named_twice')
  return { ...claim, clientId: claim.clientId }
}

function claimOf(
  {
    client_id: clientId,
    client_secret: secret,
    client_assertion: assertion,
    client_assertion_type: type,
  }: ShownCredentials['params'],
  authorization: string | undefined,
): (Omit<Claim, 'clientId'> & { clientId: string | undefined }) | Refusal {
  if (secret !== undefined) return { clientId, methods: ['client_secret_post'], secret }
  if (authorization !== undefined) return readBasic(authorization)
  if (assertion === undefined) {
    return { clientId, methods: ['none', 'tls_client_auth', 'self_signed_tls_client_auth'] }
  }
  if (type !== assertionType) return refuse('assertion_type')
  const jwt = parseJwt(assertion)
  if (!jwt) return refuse('assertion_malformed')
  const { sub } = jwt.claims
  if (typeof sub !== 'string' || sub === '') return refuse('assertion_subject')
  return { clientId: sub, methods: ['private_key_jwt'], assertion: jwt }
}

/** RFC 6749 section 2.3.1: both form-encoded before they are joined by a colon. */
function readBasic(authorization: string): Claim | Refusal {
  const [, encoded] = /^basic ([A-Za-z0-9+/]+={0,2})$/i.exec(authorization) ?? []
  if (encoded === undefined) return refuse('authorization_malformed')
  const text = Buffer.from(encoded, 'base64').toString('utf8')
  const colon = text.indexOf(':')
  if (colon === -1) return refuse('authorization_malformed')
  const clientId = formDecode(text.slice(0, colon))
  const secret = formDecode(text.slice(colon + 1))
  if (clientId === undefined || !secret) return refuse('authorization_malformed')
  return { clientId, methods: ['client_secret_basic'], secret }
}

/** Undefined for what is not encoded so, and for what no identifier or secret may have. */
function formDecode(text: string): string | undefined {
  try {
    const decoded = decodeURIComponent(text.replaceAll('+', '%20'))
    return /^[\x20-\x7e]*$/.test(decoded) ? decoded : undefined
  } catch {
    return undefined
  }
}

function secretProblem(
  client: TokenClient,
  secret: string,
  now: number,
): FailedAuthentication | undefined {
  if (!client.hasSecret(secret)) return { refusal: refuse('secret_wrong'), client }
  const { secretExpiresAt: end } = client
  return end !== undefined && end <= now ? { refusal: refuse('secret_expired'), client } : undefined
}

/** RFC 7523 section 3, in the order in which it costs more and more. */
async function checkAssertion(
  jwt: ParsedJwt | undefined,
  client: TokenClient,
  { audiences, endpoints, now }: ShownCredentials,
  { clockToleranceS }: ClientAuthenticationOptions,
): Promise<Required<Pick<AuthenticatedClient, 'entry' | 'assertionKey'>> | Refusal> {
  if (!jwt) return refuse('assertion_malformed')
  const { alg, crit } = jwt.header
  const accepted = client.assertionAlgorithm
    ? alg === client.assertionAlgorithm
    : client.algorithms.includes(String(alg))
  // RFC 7515 section 4.1.11: an extension that must be understood, and is not.
  if (!accepted || crit !== undefined) return refuse('assertion_algorithm')
  const { iss, aud, exp, nbf, iat, jti } = jwt.claims
  if (typeof exp !== 'number' || typeof jti !== 'string' || jti === '') {
    return refuse('assertion_claims')
  }
  const begins = [nbf, iat].filter((time) => time !== undefined)
  if (!begins.every((time) => typeof time === 'number')) return refuse('assertion_claims')
  if (iss !== client.clientId) return refuse('assertion_issuer')
  // The issuer as a string (FAPI 2.0 section 5.3.2.1): one that is for several servers could be used
  // at all of them, and metadata of another server may name our endpoints as its own.
  const accepts = client.mayNameEndpoints ? [...audiences, ...endpoints] : audiences
  if (typeof aud !== 'string' || !accepts.includes(aud)) return refuse('assertion_audience')
  const signer = await signerOf(jwt, client)
  if (isRefusal(signer)) return signer
  if (exp <= now - clockToleranceS || begins.some((time) => time > now + clockToleranceS)) {
    return refuse('assertion_time')
  }
  if (!(exp <= now + longestAssertionS)) return refuse('assertion_long')
  const until = exp + clockToleranceS + longestProofWindowS
  return {
    entry: { entry: replayEntry(client.clientId, jti, until), replayed: 'assertion_replayed' },
    assertionKey: signer.thumbprint,
  }
}

/** Keys at a URL are fetched again, once, when none of the known ones does. */
async function signerOf(jwt: ParsedJwt, { keys }: TokenClient): Promise<ClientKey | Refusal> {
  const signer = findSigner(keys.current(), jwt)
  if (signer) return signer
  const refreshed = await keys.refresh()
  if (typeof refreshed === 'object') return withoutKeys(refreshed)
  const found = refreshed === 'fetched' ? findSigner(keys.current(), jwt) : undefined
  return found ?? refuse('assertion_signature')
}

function withoutKeys({ forClient, forOperator }: FetchProblem): Refusal {
  return refuse('assertion_keys', { description: forClient, detail: forOperator })
}

/** RFC 8705 section 2.1: a certificate of a known authority, by the name that was registered. */
function byCertificateName(
  client: TokenClient,
  { connection, now }: ShownCredentials,
  { authorities }: ClientAuthenticationOptions,
): AuthenticatedClient | FailedAuthentication {
  const { certificate } = connection
  if (!certificate || !currentCertificate(connection, now * 1000)) {
    return { refusal: refuse('certificate_missing'), client }
  }
  if (!authorities) return { refusal: refuse('certificate_untrusted'), client }
  const reason = authorities.check(certificate, now * 1000)
  if (reason) return { refusal: refuse('certificate_untrusted'), client, untrusted: reason }
  const { certificateSubject: subject } = client
  if (!subject || !subjectMatches(certificate.certificate, subject.property, subject.value)) {
    return { refusal: refuse('certificate_subject'), client }
  }
  return { client, entry: undefined }
}

/** RFC 8705 section 2.2: the very certificate that was registered. */
async function byRegisteredCertificate(
  client: TokenClient,
  { connection, now }: ShownCredentials,
): Promise<AuthenticatedClient | FailedAuthentication> {
  const { certificate } = connection
  if (!certificate || !currentCertificate(connection, now * 1000)) {
    return { refusal: refuse('certificate_missing'), client }
  }
  // Registered means now: a certificate that was taken off the list is not registered.
  const refreshed = await client.keys.refresh()
  if (typeof refreshed === 'object') return { refusal: withoutKeys(refreshed), client }
  const isRegistered = client.keys.certificates().includes(certificate.thumbprint)
  return isRegistered
    ? { client, entry: undefined }
    : { refusal: refuse('certificate_unregistered'), client }
}
