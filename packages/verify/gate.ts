/**
 * The assertion of a gate: what a reverse proxy says of one request, after it has verified the
 * client's token and proof and used the proof up. It is an HTTP Message Signature (RFC 9421) over
 * method, target URI, body digest (RFC 9530), audience and identity, good for seconds and once. The
 * last connection then carries no token that could be used elsewhere.
 */
import { hash, type KeyObject, randomBytes as nodeRandomBytes, sign as nodeSign } from 'node:crypto'
import type { AccessTokenClaims } from './access-token.ts'
import type { BindingMethod } from './confirmation.ts'
import { headerValues, type RequestHeaders } from './credentials.ts'
import { VerifyError } from './errors.ts'
import { fetchOf } from './issuer-keys.ts'
import { createJwks, type Jwks } from './jwks.ts'
import { decodeBase64url } from './lib/base64url.ts'
import {
  checkNames,
  checkUrl,
  duration,
  flag,
  namesOf,
  optionalFunction,
  positive,
} from './lib/check.ts'
import { deepFreeze } from './lib/deep-freeze.ts'
import type { Fetch } from './lib/fetch-json.ts'
import {
  algorithmOf,
  type Covered,
  coveredBy,
  identityField,
  jwsAlgorithms,
  longestLifetime,
  readParameters,
  readSignature,
  signatureBase,
  writeDigest,
  writeParameters,
} from './lib/gate-signature.ts'
import { isObject, parseJsonObject } from './lib/json.ts'
import { verifySignature } from './lib/signature.ts'
import { checkOutcome, type ReplayStore, replayStoreOf, storeFailed } from './replay.ts'

/** What a gate found out about the client of a request. */
export type GateIdentity = Readonly<{
  /** Claims of the access token, or of a browser's session. Never a token itself, nor its `cnf`. */
  claims: AccessTokenClaims
  /**
   * The keys that the client has proven to the gate: `dbsc` for a browser with a bound session,
   * `page-key` for one whose session is bound to a key of a page, which is less, and nothing for one
   * with a plain session.
   */
  methods: readonly (BindingMethod | 'dbsc' | 'page-key')[]
}>

/** A request as a gate sends it. */
export type GateRequest = Readonly<{
  method: string
  /** The request target as it was received (`/path?query`). */
  url: string
  /** With `Signature`, `Signature-Input`, `Holdfast-Identity` and `Content-Digest`, each once. */
  headers: RequestHeaders
  /** The bytes of the body, before anything has parsed or decompressed them. Left out: it is empty. */
  body?: Uint8Array
}>

/** What a valid assertion has shown. */
export type GateAssertion = Readonly<{
  /** Nothing for a request that the gate let through without a token: see `acceptAnonymous`. */
  identity: GateIdentity | undefined
  audience: string
  /** False for a body that the gate did not hash: see `acceptUnsignedBody`. */
  bodySigned: boolean
  keyId: string
}>

/** Options of {@link createGateVerifier}. All times are in seconds unless said otherwise. */
export type GateVerifierOptions = Readonly<{
  /** The name of this application in the configuration of the gate: `audience`, or its origin. */
  audience: string
  /** Scheme, host and port that clients use. Never taken from a request. Default: `audience`. */
  publicOrigin?: string
  /** URL of the gate's key set: `/.well-known/holdfast-gate/jwks.json` at the origin of the application. */
  jwksUri?: string
  /** The key set itself. */
  jwks?: Readonly<{ keys: readonly object[] }>
  /** Age at which the keys are fetched again. Default 600. */
  jwksMaxAge?: number
  /** For how much longer they are used while the gate cannot be asked. Default 3600. */
  jwksMaxStale?: number
  /** Least time between two fetches. Default 30. */
  jwksCooldown?: number
  /** Where used assertions are remembered. Default: in the memory of this process. */
  replay?: ReplayStore
  /** How many processes serve this application. More than one needs a shared replay store. */
  replicas?: number
  /** Accept requests of public routes, which have no identity. Default false. */
  acceptAnonymous?: boolean
  /** Accept large bodies that the gate has passed on without their digest. Default false. */
  acceptUnsignedBody?: boolean
  /** By how much the clock of the gate may be wrong. Default 5. */
  clockTolerance?: number
  /** Default: the global `fetch`. */
  fetch?: Fetch
  /** Milliseconds since the epoch. Default `Date.now`. */
  now?: () => number
}>

const verifierOptions = namesOf<GateVerifierOptions>({
  audience: true,
  publicOrigin: true,
  jwksUri: true,
  jwks: true,
  jwksMaxAge: true,
  jwksMaxStale: true,
  jwksCooldown: true,
  replay: true,
  replicas: true,
  acceptAnonymous: true,
  acceptUnsignedBody: true,
  clockTolerance: true,
  fetch: true,
  now: true,
})

/** Made by {@link createGateVerifier}. */
export type GateVerifier = Readonly<{
  /**
   * Verifies the assertion of one request and uses it up.
   *
   * @throws {@link VerifyError} with a `gate_…` code, `issuer_unavailable`, or one of the replay store.
   */
  verify(request: GateRequest): Promise<GateAssertion>
}>

/** An identity has the claims of a token, which may be long. */
const maxIdentityLength = 16_384

/**
 * Makes a verifier for the assertions of a gate, in the application behind it.
 *
 * It checks the signature with the keys of the gate, that it covers this method, URL, audience and
 * body, that it was made in the last seconds, and that it was not used before. It does NOT look at
 * header fields other than those of the body and the identity, and it does NOT ask whether the token
 * was revoked: the gate does.
 *
 * @example
 * ```ts
 * const gate = createGateVerifier({
 *   audience: 'https://app.example',
 *   jwksUri: 'https://app.example/.well-known/holdfast-gate/jwks.json',
 * })
 * const { method, url, rawHeaders: headers } = request
 * const { identity } = await gate.verify({ method, url, headers, body })
 * ```
 *
 * @throws TypeError when an option is missing, malformed or contradicts another one.
 */
export function createGateVerifier(options: GateVerifierOptions): GateVerifier {
  checkNames('options', options, verifierOptions)
  for (const name of ['now', 'fetch'] as const) optionalFunction(name, options[name])
  const milliseconds = options.now ?? Date.now
  const now = () => milliseconds() / 1000
  const { audience } = options
  if (typeof audience !== 'string' || audience === '') throw new TypeError('audience is needed')
  const origin = checkOrigin(options.publicOrigin ?? audience)
  const clockTolerance = duration('clockTolerance', options.clockTolerance, 5)
  const acceptAnonymous = flag('acceptAnonymous', options.acceptAnonymous)
  const acceptUnsignedBody = flag('acceptUnsignedBody', options.acceptUnsignedBody)
  const replay = replayStoreOf(options)
  const keys = createKeys(options, now)

  function checkTimes(created: number, expires: number): void {
    const seconds = now()
    const isShort = expires > created && expires - created <= longestLifetime
    if (!isShort || created > seconds + clockTolerance || expires < seconds - clockTolerance) {
      throw new VerifyError('gate_expired', 'Assertion of the gate is not valid now', {
        cause: { now: seconds, created, expires },
      })
    }
  }

  async function consume(keyid: string, nonce: string, expires: number): Promise<void> {
    let outcome: Awaited<ReturnType<ReplayStore['consume']>>
    try {
      outcome = await replay.consume(`gate.${keyid}.${nonce}`, expires + clockTolerance, now())
    } catch (cause) {
      throw storeFailed(cause)
    }
    checkOutcome(outcome, 'gate_replayed', 'Assertion of the gate')
  }

  return Object.freeze({
    async verify({ method, url, headers, body }: GateRequest): Promise<GateAssertion> {
      const { text, parameters, signature } = readAssertion(headers)
      const covered = url.startsWith('/') ? coveredBy(method, origin + url, headers) : undefined
      // Components that the signature does not name, or that the request has not, or has twice.
      if (covered === undefined || text !== writeParameters(covered, parameters)) {
        throw malformed('covers other parts of the request')
      }
      checkTimes(parameters.created, parameters.expires)
      const key = await findKey(keys, parameters.alg, parameters.keyid)
      const jws = jwsAlgorithms[parameters.alg] as string
      if (!verifySignature(jws, key, signatureBase(covered, text), signature)) {
        throw new VerifyError('gate_signature', 'Assertion of the gate is for another request')
      }
      const { identity, audience: named } = readIdentity(covered)
      if (named !== audience) {
        throw new VerifyError('gate_audience', 'Assertion is for another application')
      }
      const bodySigned = checkBody(covered, body, acceptUnsignedBody)
      if (identity === undefined && !acceptAnonymous) {
        throw new VerifyError('gate_anonymous', 'The gate has verified no access token')
      }
      // Last: an assertion is used up only by a request that passes everything else.
      await consume(parameters.keyid, parameters.nonce, parameters.expires)
      return Object.freeze({ identity, audience, bodySigned, keyId: parameters.keyid })
    },
  })
}

function malformed(what: string): VerifyError {
  return new VerifyError('gate_malformed', `Assertion of the gate ${what}`)
}

function readAssertion(headers: RequestHeaders) {
  const inputs = headerValues(headers, 'signature-input')
  const signatures = headerValues(headers, 'signature')
  if (inputs.length + signatures.length === 0) {
    throw new VerifyError('gate_missing', 'Request has no assertion of the gate')
  }
  const read = inputs.length === 1 ? readParameters(inputs[0] as string) : undefined
  const signature = signatures.length === 1 ? readSignature(signatures[0] as string) : undefined
  if (read === undefined || signature === undefined) throw malformed('is not one signature')
  return { ...read, signature }
}

async function findKey(keys: Jwks, alg: string, keyid: string): Promise<KeyObject> {
  const jws = Object.hasOwn(jwsAlgorithms, alg) ? jwsAlgorithms[alg] : undefined
  if (jws === undefined) throw malformed('has an algorithm that is not supported')
  try {
    return await keys.find(jws, keyid)
  } catch (cause) {
    if (!(cause instanceof VerifyError) || cause.code !== 'token_key') throw cause
    throw new VerifyError('gate_key', 'Assertion is not signed by a key of the gate', { cause })
  }
}

/** What the gate has signed; that a text of it is malformed is a mistake of the gate. */
function readIdentity(covered: Covered): { audience: string; identity: GateIdentity | undefined } {
  const text = new Map(covered).get(identityField) ?? ''
  const bytes = decodeBase64url(text)
  const content = bytes && parseJsonObject(bytes)
  const { aud, claims, methods } = content ?? {}
  if (typeof aud !== 'string') throw malformed('has no identity')
  if (claims === undefined) return { audience: aud, identity: undefined }
  if (!isObject(claims) || !Array.isArray(methods)) throw malformed('has a malformed identity')
  return { audience: aud, identity: deepFreeze({ claims, methods } as unknown as GateIdentity) }
}

function checkBody(covered: Covered, body: Uint8Array | undefined, acceptUnsigned: boolean) {
  const digest = new Map(covered).get('content-digest')
  if (digest === undefined && acceptUnsigned) return false
  const bytes = body ?? new Uint8Array()
  if (digest !== writeDigest(hash('sha256', bytes, 'buffer'))) {
    throw new VerifyError('gate_digest', 'Body is not the one that the gate has signed')
  }
  return true
}

function createKeys(options: GateVerifierOptions, now: () => number): Jwks {
  const { jwks, jwksUri } = options
  if ((jwks === undefined) === (jwksUri === undefined)) {
    throw new TypeError('give either jwks or jwksUri')
  }
  if (jwksUri !== undefined) checkUrl('jwksUri', jwksUri)
  return createJwks({
    source: () => jwks ?? Promise.resolve(jwksUri as string),
    fetch: fetchOf(options),
    now,
    maxAge: positive('jwksMaxAge', options.jwksMaxAge, 600),
    maxStale: duration('jwksMaxStale', options.jwksMaxStale, 3600),
    cooldown: duration('jwksCooldown', options.jwksCooldown, 30),
    onFailure: () => {},
  })
}

function checkOrigin(text: string): string {
  checkUrl('publicOrigin', text)
  const { origin, href } = new URL(text)
  if (href !== `${origin}/`) throw new TypeError('publicOrigin must be an origin, without a path')
  return origin
}

/** What a gate signs, and by which key. */
export type GateSigning = Readonly<{
  /** A private key: EC on P-256, or Ed25519. */
  key: KeyObject
  /** The `kid` of the public key in the gate's key set. */
  keyId: string
  audience: string
  identity: GateIdentity | undefined
  /** The SHA-256 digest of the body; `undefined` for a body that is not hashed. */
  digest: Uint8Array | undefined
  /** Seconds since the epoch. */
  now: number
  /** Seconds, at most 30. */
  lifetime: number
  randomBytes?: (size: number) => Uint8Array
}>

/**
 * Signs one request as a gate does, for gates and for tests of applications. Returns the header fields
 * to add, in the flat form of `rawHeaders`; `headers` are the others, and must have none of these.
 *
 * @throws TypeError for a key that is neither P-256 nor Ed25519, a lifetime of more than 30 seconds,
 * and an identity of more than 16 KiB.
 */
export function signGateRequest(
  { method, targetUri, headers }: { method: string; targetUri: string; headers: RequestHeaders },
  signing: GateSigning,
): string[] {
  const { key, keyId, audience, identity, digest, now, lifetime } = signing
  const alg = algorithmOf(key)
  if (alg === undefined) throw new TypeError('key must be P-256 or Ed25519')
  if (!(lifetime > 0 && lifetime <= longestLifetime)) {
    throw new TypeError(`lifetime must be at most ${longestLifetime} seconds`)
  }
  const encoded = Buffer.from(JSON.stringify({ ...identity, aud: audience })).toString('base64url')
  if (encoded.length > maxIdentityLength) throw new TypeError('identity is too large')
  const added = [
    ...(digest ? ['Content-Digest', writeDigest(digest)] : []),
    ...['Holdfast-Identity', encoded],
  ]
  const covered = coveredBy(method, targetUri, [...flat(headers), ...added])
  if (covered === undefined) throw new TypeError('headers: a field of the signature is there twice')
  const created = Math.floor(now)
  const random = Buffer.from((signing.randomBytes ?? nodeRandomBytes)(16)).toString('base64url')
  const parameters = writeParameters(covered, {
    created,
    expires: created + lifetime,
    nonce: random,
    alg,
    keyid: keyId,
  })
  const base = signatureBase(covered, parameters)
  // Node takes an object with a key for half as long again as the key itself.
  const signature =
    alg === 'ed25519'
      ? nodeSign(null, base, key)
      : nodeSign('sha256', base, { key, dsaEncoding: 'ieee-p1363' })
  return [
    ...added,
    ...['Signature-Input', `gate=${parameters}`],
    ...['Signature', `gate=:${signature.toString('base64')}:`],
  ]
}

const flat = (headers: RequestHeaders): readonly string[] => {
  if (!Array.isArray(headers)) throw new TypeError('headers must be an array, as rawHeaders is')
  return headers as readonly string[]
}
