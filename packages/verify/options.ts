/** Options of a verifier, checked once, with defaults filled in. */
import type { AccessToken, IssuerPolicy } from './access-token.ts'
import { type ClientAuthentication, createClientAuthentication } from './client-authentication.ts'
import { type BindingMethod, harmlessMembers } from './confirmation.ts'
import type { TokenLocation } from './credentials.ts'
import { createDecrypter, type Decrypter, type DecryptionOptions } from './decryption.ts'
import { defaultClockTolerance, defaultMaxAge } from './dpop.ts'
import type { DPoPNonces } from './dpop-nonce.ts'
import type { EventListener } from './events.ts'
import { createIntrospector } from './introspection.ts'
import { createIssuerJwks, fetchOf, type IssuerKeyOptions, locate } from './issuer-keys.ts'
import {
  checkAlgorithms,
  checkNames,
  checkUrl,
  duration,
  flag,
  namesOf,
  optionalFunction,
  optionalMethods,
  positive,
  textList,
} from './lib/check.ts'
import { createPublicUri } from './lib/public-uri.ts'
import { checkMetadataOptions, type MetadataOptions } from './metadata.ts'
import { createMemoryReplayStore, type ReplayStore } from './replay.ts'

/** Ask the issuer about each token instead of verifying it here. Times in seconds. */
export type IntrospectionOptions = Readonly<{
  /** Default: found in the issuer's metadata. */
  endpoint?: string
  authentication: ClientAuthentication
  /** Ask for signed answers (RFC 9701) and take no others. Default false. */
  signed?: boolean
  /** How long an answer is believed, and a revocation may go unnoticed. Default 15. */
  cacheSeconds?: number
  /** How long a token is known to be inactive without asking again. Default 15. */
  negativeCacheSeconds?: number
}>

/** Rules that may differ between issuers. */
export type PolicyOptions = Readonly<{
  /** Identifiers of this resource; a token has to name one of them in `aud`. */
  audience?: string | readonly string[]
  /** JWS algorithms of access tokens. Default: every asymmetric one this library knows. */
  algorithms?: readonly string[]
  /** Binding methods accepted. Default: all. */
  methods?: readonly BindingMethod[]
  /** Accept tokens that are bound to nothing. Anyone who steals one can use it. Default false. */
  allowBearer?: boolean
  /** Refuse JWTs that are not encrypted. Needs `decryption`. Default false. */
  requireEncryption?: boolean
  /** Members of `cnf` beside the known ones that may be ignored. Default `kc-jkt-type`. */
  harmlessConfirmationMembers?: readonly string[]
}>

/** An issuer of access tokens, and how its tokens are checked. */
export type IssuerOptions = PolicyOptions &
  Omit<IssuerKeyOptions, 'now'> &
  Readonly<{ introspection?: IntrospectionOptions }>

/** Policy for DPoP proofs. */
export type DPoPOptions = Readonly<{
  /** JWS algorithms of proofs. Default: every asymmetric one this library knows. */
  algorithms?: readonly string[]
  /** Age in seconds up to which a proof is accepted. Default 60. */
  maxAge?: number
  /** Seconds by which a proof may be from the future, or older than `maxAge`. Default: the verifier's. */
  clockTolerance?: number
  /** Ask for nonces (RFC 9449 section 9). Default: none are asked for, or looked at. */
  nonces?: DPoPNonces
}>

/** Options of `createVerifier`. All times are in seconds unless said otherwise. */
export type VerifierOptions = Partial<IssuerOptions> &
  Readonly<{
    /** Several issuers instead of `issuer`. Their rules default to the ones given beside. */
    issuers?: readonly IssuerOptions[]
    /**
     * Identifier of this resource (RFC 9728) and base of the default `publicOrigin`. Default:
     * `audience`, if that is one URL.
     */
    resource?: string
    /**
     * Scheme, host and port that clients use, for `htu`. Never taken from a request. Default: the
     * origin of `resource`.
     */
    publicOrigin?: string
    /**
     * For proxies that rewrite paths: prefixes as this server sees them, and as clients do, such
     * as `{ '/': '/api' }` for a proxy that strips `/api`.
     */
    publicPaths?: Readonly<Record<string, string>>
    /** Places an access token may come in. Default `['header']`. */
    tokenLocations?: readonly TokenLocation[]
    /**
     * Accept tokens that are bound to nothing in the query, too, where they end up in logs and
     * histories. Needs `allowBearer` and `query` in `tokenLocations`. Default false.
     */
    allowUnboundTokenInQuery?: boolean
    dpop?: DPoPOptions
    /** Private keys for encrypted tokens. */
    decryption?: DecryptionOptions
    /** Where proofs that were used are remembered. Default: in the memory of this process. */
    replay?: ReplayStore
    /** How many processes serve this resource. More than one needs a shared replay store. */
    replicas?: number
    /** Asked for each token that is genuine; `true` refuses it. */
    isRevoked?: (token: AccessToken) => boolean | Promise<boolean>
    /**
     * `observe` lets middleware pass every request on and only report what would have been
     * refused; `verify` itself throws in both modes. Default `enforce`.
     */
    mode?: 'enforce' | 'observe'
    onEvent?: EventListener
    /** Publish RFC 9728 metadata, with this beside what the verifier knows, and point to it. */
    metadata?: MetadataOptions
    /** By how much other clocks may be wrong. Default 10. */
    clockTolerance?: number
    /** How long a verified token is trusted without checking its signature again. Default 300. */
    tokenCacheSeconds?: number
    /** How many verified tokens are remembered. Default 10,000. */
    tokenCacheSize?: number
    /** RFC 9110 protection space shown in challenges. */
    realm?: string
    /** Scopes that a client should ask for first, shown in challenges (RFC 6750 section 3). */
    challengeScopes?: readonly string[]
    /** Milliseconds since the epoch. Default `Date.now`. */
    now?: () => number
  }>

/** Options with nothing left open. */
export type Settings = Readonly<{
  issuers: readonly IssuerPolicy[]
  decrypter: Decrypter | undefined
  resource: string | undefined
  publicUri: (target: string) => string
  locations: readonly TokenLocation[]
  allowUnboundTokenInQuery: boolean
  dpop: Readonly<{
    algorithms: readonly string[]
    maxAge: number
    clockTolerance: number
    nonces: DPoPNonces | undefined
  }>
  replay: ReplayStore
  isRevoked: VerifierOptions['isRevoked']
  mode: 'enforce' | 'observe'
  /** Absent when nobody listens: then events need not even be made. */
  emit: EventListener | undefined
  metadata: MetadataOptions | undefined
  clockTolerance: number
  tokenCacheSeconds: number
  tokenCacheSize: number
  realm: string | undefined
  challengeScopes: readonly string[]
  /** Seconds since the epoch. */
  now: () => number
}>

const policyNames = {
  audience: true,
  algorithms: true,
  methods: true,
  allowBearer: true,
  requireEncryption: true,
  harmlessConfirmationMembers: true,
  issuer: true,
  jwksUri: true,
  jwks: true,
  jwksMaxAge: true,
  jwksMaxStale: true,
  jwksCooldown: true,
  fetch: true,
  introspection: true,
} as const

const issuerOptions = namesOf<IssuerOptions>(policyNames)

const verifierOptions = namesOf<VerifierOptions>({
  ...policyNames,
  issuers: true,
  resource: true,
  publicOrigin: true,
  publicPaths: true,
  tokenLocations: true,
  allowUnboundTokenInQuery: true,
  dpop: true,
  decryption: true,
  replay: true,
  replicas: true,
  isRevoked: true,
  mode: true,
  onEvent: true,
  metadata: true,
  clockTolerance: true,
  tokenCacheSeconds: true,
  tokenCacheSize: true,
  realm: true,
  challengeScopes: true,
  now: true,
})

const introspectionOptions = namesOf<IntrospectionOptions>({
  endpoint: true,
  authentication: true,
  signed: true,
  cacheSeconds: true,
  negativeCacheSeconds: true,
})

const dpopOptions = namesOf<DPoPOptions>({
  algorithms: true,
  maxAge: true,
  clockTolerance: true,
  nonces: true,
})

const bindingMethods: readonly BindingMethod[] = ['dpop', 'mtls', 'token-binding']
const tokenLocations: readonly TokenLocation[] = ['header', 'body', 'query']

/** @throws TypeError that names the option. */
export function checkOptions(options: VerifierOptions): Settings {
  checkShape(options)
  const milliseconds = options.now ?? Date.now
  const now = () => milliseconds() / 1000
  const emit = quietly(options.onEvent)
  const resource = checkResource(options)
  const issuers = checkIssuers(options, now, emit)
  const locations = oneOf('tokenLocations', options.tokenLocations, tokenLocations)
  const allowUnboundTokenInQuery = flag(
    'allowUnboundTokenInQuery',
    options.allowUnboundTokenInQuery,
  )
  if (allowUnboundTokenInQuery) {
    if (!locations.includes('query')) {
      throw new TypeError('allowUnboundTokenInQuery needs query in tokenLocations')
    }
    if (!issuers.some(({ allowBearer }) => allowBearer)) {
      throw new TypeError('allowUnboundTokenInQuery needs allowBearer')
    }
  }
  if (options.mode !== undefined && options.mode !== 'enforce' && options.mode !== 'observe') {
    throw new TypeError('mode must be enforce or observe')
  }
  if (options.metadata !== undefined && resource === undefined) {
    throw new TypeError('metadata needs resource, for audience is not one HTTP URL')
  }
  if (options.decryption === undefined && issuers.some((each) => each.requireEncryption)) {
    throw new TypeError('requireEncryption needs decryption')
  }
  const clockTolerance = duration('clockTolerance', options.clockTolerance, defaultClockTolerance)
  return Object.freeze({
    issuers,
    decrypter: options.decryption && createDecrypter(options.decryption),
    resource,
    publicUri: createPublicUri(
      checkOrigin(options.publicOrigin, resource),
      checkPaths(options.publicPaths ?? {}),
    ),
    locations,
    allowUnboundTokenInQuery,
    dpop: Object.freeze({
      algorithms: checkAlgorithms('dpop.algorithms', options.dpop?.algorithms),
      maxAge: duration('dpop.maxAge', options.dpop?.maxAge, defaultMaxAge),
      clockTolerance: duration('dpop.clockTolerance', options.dpop?.clockTolerance, clockTolerance),
      nonces: options.dpop?.nonces,
    }),
    replay: checkReplay(options, issuers),
    isRevoked: options.isRevoked,
    mode: options.mode ?? 'enforce',
    emit,
    metadata: options.metadata,
    clockTolerance,
    tokenCacheSeconds: duration('tokenCacheSeconds', options.tokenCacheSeconds, 300),
    tokenCacheSize: positive('tokenCacheSize', options.tokenCacheSize, 10_000),
    realm: options.realm,
    challengeScopes:
      options.challengeScopes === undefined
        ? []
        : textList('challengeScopes', options.challengeScopes),
    now,
  })
}

/** What a type would have refused, for those who write JavaScript. */
function checkShape(options: VerifierOptions): void {
  checkNames('options', options, verifierOptions)
  for (const name of ['now', 'onEvent', 'isRevoked', 'fetch'] as const) {
    optionalFunction(name, options[name])
  }
  if (options.dpop !== undefined) {
    checkNames('dpop', options.dpop, dpopOptions)
    optionalMethods('dpop.nonces', options.dpop.nonces, ['current', 'accepts'])
  }
  optionalMethods('replay', options.replay, ['consume'])
  if (options.metadata !== undefined) checkMetadataOptions(options.metadata)
  if (options.realm !== undefined) textList('realm', options.realm)
}

function checkIssuers(
  options: VerifierOptions,
  now: () => number,
  emit: Settings['emit'],
): readonly IssuerPolicy[] {
  if ((options.issuer === undefined) === (options.issuers === undefined)) {
    throw new TypeError('give either issuer or issuers')
  }
  const list = options.issuers ?? [options as IssuerOptions]
  if (!Array.isArray(list) || list.length === 0) {
    throw new TypeError('issuers must be an array that is not empty')
  }
  for (const each of options.issuers ?? []) checkNames('issuers', each, issuerOptions)
  if (new Set(list.map(({ issuer }) => issuer)).size !== list.length) {
    throw new TypeError('issuers: the same issuer is there twice')
  }
  const policies = list.map((each) => checkIssuer({ ...options, ...each }, now, emit))
  // A token that is no JWT does not say who issued it.
  if (policies.filter(({ introspector }) => introspector !== undefined).length > 1) {
    throw new TypeError('issuers: only one may have introspection')
  }
  return Object.freeze(policies)
}

/** `options` are the issuer's own, with those of the verifier where it has none. */
function checkIssuer(
  options: Omit<VerifierOptions, 'issuer'> & IssuerOptions,
  now: () => number,
  emit: Settings['emit'],
): IssuerPolicy {
  const { issuer, introspection } = options
  const allowBearer = flag('allowBearer', options.allowBearer)
  const audience = textList('audience', options.audience)
  const methods = oneOf('methods', options.methods, bindingMethods, bindingMethods)
  if (methods.length === 0 && !allowBearer) {
    throw new TypeError('methods is empty and allowBearer is not set: no token could be accepted')
  }
  const algorithms = checkAlgorithms('algorithms', options.algorithms)
  const jwks = createIssuerJwks(options, now, (cause) =>
    emit?.(Object.freeze({ type: 'keys_stale', issuer, cause })),
  )
  return Object.freeze({
    issuer,
    audience,
    algorithms,
    methods,
    allowBearer,
    requireEncryption: flag('requireEncryption', options.requireEncryption),
    harmlessMembers: checkHarmless(options.harmlessConfirmationMembers),
    jwks,
    introspector: introspection && makeIntrospector(introspection),
  })

  function makeIntrospector(asking: IntrospectionOptions) {
    checkNames('introspection', asking, introspectionOptions)
    if (asking.endpoint !== undefined) checkUrl('introspection.endpoint', asking.endpoint)
    return createIntrospector({
      issuer,
      audience,
      clientId: asking.authentication.clientId,
      endpoint: remember(() => locate(options, 'introspection_endpoint', asking.endpoint)),
      authenticate: createClientAuthentication(asking.authentication, issuer, now),
      signed: flag('introspection.signed', asking.signed),
      algorithms,
      jwks,
      cacheSeconds: duration('introspection.cacheSeconds', asking.cacheSeconds, 15),
      negativeCacheSeconds: duration(
        'introspection.negativeCacheSeconds',
        asking.negativeCacheSeconds,
        15,
      ),
      cacheSize: positive('tokenCacheSize', options.tokenCacheSize, 10_000),
      fetch: fetchOf(options),
      now,
    })
  }
}

/** An empty list allows none: then any member beside the known ones refuses a token. */
function checkHarmless(members: readonly string[] | undefined): readonly string[] {
  if (members === undefined) return harmlessMembers
  if (!Array.isArray(members)) throw new TypeError('harmlessConfirmationMembers must be an array')
  return members.length === 0 ? [] : textList('harmlessConfirmationMembers', members)
}

/** Keeps the first success. */
function remember(find: () => Promise<string>): () => Promise<string> {
  let found: string | undefined
  return async () => {
    found ??= await find()
    return found
  }
}

/** A listener's own mistakes must not decide who is let in. */
function quietly(listener: EventListener | undefined): EventListener | undefined {
  if (listener === undefined) return undefined
  return (event) => {
    try {
      listener(event)
    } catch {}
  }
}

function checkReplay(options: VerifierOptions, issuers: readonly IssuerPolicy[]): ReplayStore {
  const replicas = positive('replicas', options.replicas, 1)
  const replay = options.replay ?? createMemoryReplayStore()
  const dpop = issuers.some(({ methods }) => methods.includes('dpop'))
  if (replicas > 1 && !replay.shared && dpop) {
    throw new TypeError(
      `replicas is ${replicas}, but the replay store is not shared: a proof could be used once on each`,
    )
  }
  return replay
}

function checkResource({ resource, audience }: VerifierOptions): string | undefined {
  const candidate = resource ?? (typeof audience === 'string' ? audience : audience?.[0])
  const single = resource !== undefined || typeof audience === 'string' || audience?.length === 1
  const url = candidate && URL.canParse(candidate) ? new URL(candidate) : undefined
  const usable = single && url !== undefined && /^https?:$/.test(url.protocol) && url.hash === ''
  if (resource !== undefined && !usable) {
    throw new TypeError('resource must be an HTTP URL without fragment')
  }
  return usable ? candidate : undefined
}

function checkOrigin(publicOrigin: string | undefined, resource: string | undefined): string {
  if (publicOrigin === undefined) {
    if (resource !== undefined) return new URL(resource).origin
    throw new TypeError('publicOrigin is needed, for audience is not one HTTP URL')
  }
  const url = URL.canParse(publicOrigin) ? new URL(publicOrigin) : undefined
  if (url?.origin !== publicOrigin.replace(/\/$/, '') || !/^https?:$/.test(url.protocol)) {
    throw new TypeError('publicOrigin must be scheme, host and port alone, as clients write them')
  }
  return url.origin
}

function checkPaths(paths: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  for (const path of Object.entries(paths).flat()) {
    if (typeof path !== 'string' || !/^\/[^?#]*$/.test(path)) {
      throw new TypeError('publicPaths: each prefix must be a path that starts with /')
    }
  }
  return paths
}

function oneOf<T extends string>(
  name: string,
  values: readonly T[] | undefined,
  known: readonly T[],
  fallback: readonly T[] = known.slice(0, 1),
): readonly T[] {
  const list = values ?? fallback
  if (!Array.isArray(list)) throw new TypeError(`${name} must be an array`)
  for (const value of list) {
    if (!known.includes(value)) {
      throw new TypeError(`${name}: ${JSON.stringify(value)} is not one of ${known.join(', ')}`)
    }
  }
  return Object.freeze([...list])
}
