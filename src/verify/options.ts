/** Options of a verifier, checked once, with defaults filled in. */
import type { IssuerPolicy } from './access-token.ts'
import type { BindingMethod } from './confirmation.ts'
import { harmlessMembers } from './confirmation.ts'
import { discover } from './discovery.ts'
import { defaultClockTolerance, defaultMaxAge } from './dpop.ts'
import { createJwks } from './jwks.ts'
import type { Fetch } from './lib/fetch-json.ts'
import { supportedAlgorithms } from './lib/signature.ts'
import { createMemoryReplayStore, type ReplayStore } from './replay.ts'

/** An issuer of access tokens, and how its tokens are checked. */
export type IssuerOptions = Readonly<{
  /** The issuer identifier, compared exactly with `iss`; `https`, or `http` on loopback. */
  issuer: string
  /** URL of the key set. Default: found in the issuer's metadata (RFC 8414). */
  jwksUri?: string
  /** The key set itself, for issuers that publish none. */
  jwks?: Readonly<{ keys: readonly object[] }>
  /** JWS algorithms of access tokens. Default: every asymmetric one this library knows. */
  algorithms?: readonly string[]
}>

/** Options of `createVerifier`. All times are in seconds unless said otherwise. */
export type VerifierOptions = Partial<IssuerOptions> &
  Readonly<{
    /** Several issuers, each with its own policy, instead of `issuer`. */
    issuers?: readonly IssuerOptions[]
    /** Identifiers of this resource; a token has to name one of them in `aud`. */
    audience: string | readonly string[]
    /**
     * Scheme, host and port that clients use, for `htu`. Never taken from a request. Default: the
     * origin of `audience`, if that is one URL.
     */
    publicOrigin?: string
    /** Binding methods accepted. Default: all. */
    methods?: readonly BindingMethod[]
    /** Accept tokens that are bound to nothing. Whoever steals one can use it. Default false. */
    allowBearer?: boolean
    /** Members of `cnf` beside the known ones that may be ignored. Default `kc-jkt-type`. */
    harmlessConfirmationMembers?: readonly string[]
    /** DPoP policy. */
    dpop?: Readonly<{
      /** JWS algorithms of proofs. Default: every asymmetric one this library knows. */
      algorithms?: readonly string[]
      /** Age up to which a proof is accepted. Default 60. */
      maxAge?: number
    }>
    /** Where proofs that were used are remembered. Default: in the memory of this process. */
    replay?: ReplayStore
    /** How many processes serve this resource. More than one needs a shared replay store. */
    replicas?: number
    /** By how much other clocks may be wrong. Default 10. */
    clockTolerance?: number
    /** How long a verified token is trusted without checking its signature again. Default 300. */
    tokenCacheSeconds?: number
    /** How many verified tokens are remembered. Default 10,000. */
    tokenCacheSize?: number
    /** Age at which an issuer's keys are fetched again. Default 600. */
    jwksMaxAge?: number
    /** For how much longer they are used while the issuer is down. Default 3600. */
    jwksMaxStale?: number
    /** Least time between two fetches of an issuer's keys. Default 30. */
    jwksCooldown?: number
    /** RFC 9110 protection space shown in challenges. */
    realm?: string
    /** Default: the global `fetch`. */
    fetch?: Fetch
    /** Milliseconds since the epoch. Default `Date.now`. */
    now?: () => number
  }>

/** Options with nothing left open. */
export type Settings = Readonly<{
  issuers: readonly IssuerPolicy[]
  publicOrigin: string
  methods: readonly BindingMethod[]
  allowBearer: boolean
  dpop: Readonly<{ algorithms: readonly string[]; maxAge: number }>
  replay: ReplayStore
  clockTolerance: number
  tokenCacheSeconds: number
  tokenCacheSize: number
  realm: string | undefined
  /** Seconds since the epoch. */
  now: () => number
}>

const bindingMethods: readonly BindingMethod[] = ['dpop', 'mtls', 'token-binding']

/** @throws TypeError that names the option. */
export function checkOptions(options: VerifierOptions): Settings {
  const audience = typeof options.audience === 'string' ? [options.audience] : options.audience
  if (!Array.isArray(audience) || audience.length === 0 || !audience.every(isNonEmpty)) {
    throw new TypeError('audience must be a non-empty string or an array of them')
  }
  const methods = options.methods ?? bindingMethods
  for (const method of methods) {
    if (!bindingMethods.includes(method)) {
      throw new TypeError(`methods: unknown binding method ${JSON.stringify(method)}`)
    }
  }
  if (methods.length === 0 && options.allowBearer !== true) {
    throw new TypeError('methods is empty and allowBearer is not set: no token could be accepted')
  }
  const replicas = positive('replicas', options.replicas, 1)
  const replay = options.replay ?? createMemoryReplayStore()
  if (replicas > 1 && !replay.shared && methods.includes('dpop')) {
    throw new TypeError(
      `replicas is ${replicas}, but the replay store is not shared: a proof could be used once on each`,
    )
  }
  const milliseconds = options.now ?? Date.now
  return Object.freeze({
    issuers: checkIssuers(options, audience, () => milliseconds() / 1000),
    publicOrigin: checkOrigin(options.publicOrigin, audience),
    methods,
    allowBearer: options.allowBearer === true,
    dpop: Object.freeze({
      algorithms: checkAlgorithms('dpop.algorithms', options.dpop?.algorithms),
      maxAge: positive('dpop.maxAge', options.dpop?.maxAge, defaultMaxAge),
    }),
    replay,
    clockTolerance: duration('clockTolerance', options.clockTolerance, defaultClockTolerance),
    tokenCacheSeconds: duration('tokenCacheSeconds', options.tokenCacheSeconds, 300),
    tokenCacheSize: positive('tokenCacheSize', options.tokenCacheSize, 10_000),
    realm: options.realm,
    now: () => milliseconds() / 1000,
  })
}

function checkIssuers(
  options: VerifierOptions,
  audience: readonly string[],
  now: () => number,
): readonly IssuerPolicy[] {
  const { issuer, issuers } = options
  if ((issuer === undefined) === (issuers === undefined)) {
    throw new TypeError('give either issuer or issuers')
  }
  const list = issuers ?? [options as IssuerOptions]
  if (list.length === 0) throw new TypeError('issuers must not be empty')
  if (new Set(list.map((each) => each.issuer)).size !== list.length) {
    throw new TypeError('issuers: the same issuer is there twice')
  }
  const fetch = options.fetch ?? ((url, init) => globalThis.fetch(url, init))
  return list.map((each): IssuerPolicy => {
    checkUrl('issuer', each.issuer)
    if (each.jwks !== undefined && each.jwksUri !== undefined) {
      throw new TypeError('give either jwks or jwksUri')
    }
    if (each.jwksUri !== undefined) checkUrl('jwksUri', each.jwksUri)
    const { jwks, jwksUri } = each
    return Object.freeze({
      issuer: each.issuer,
      audience,
      algorithms: checkAlgorithms('algorithms', each.algorithms),
      harmlessMembers: options.harmlessConfirmationMembers ?? harmlessMembers,
      jwks: createJwks({
        source: () =>
          jwks ?? (jwksUri === undefined ? findJwks(fetch, each.issuer) : later(jwksUri)),
        fetch,
        now,
        maxAge: positive('jwksMaxAge', options.jwksMaxAge, 600),
        maxStale: duration('jwksMaxStale', options.jwksMaxStale, 3600),
        cooldown: duration('jwksCooldown', options.jwksCooldown, 30),
      }),
    })
  })
}

async function later(url: string): Promise<string> {
  return url
}

async function findJwks(fetch: Fetch, issuer: string): Promise<string> {
  const { jwks_uri: uri } = await discover(fetch, issuer)
  if (typeof uri !== 'string') throw new Error('issuer metadata has no jwks_uri')
  checkUrl('jwks_uri', uri)
  return uri
}

function checkOrigin(publicOrigin: string | undefined, audience: readonly string[]): string {
  const text = publicOrigin ?? (audience.length === 1 ? audience[0] : undefined)
  const url = text !== undefined && URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw new TypeError('publicOrigin is needed, for audience is not one HTTP URL')
  }
  if (publicOrigin !== undefined && url.origin !== publicOrigin.replace(/\/$/, '')) {
    throw new TypeError('publicOrigin must be scheme, host and port alone, as clients write them')
  }
  return url.origin
}

function checkAlgorithms(name: string, algorithms: readonly string[] | undefined) {
  if (algorithms === undefined) return supportedAlgorithms
  for (const algorithm of algorithms) {
    if (!supportedAlgorithms.includes(algorithm)) {
      throw new TypeError(`${name}: ${JSON.stringify(algorithm)} is not supported`)
    }
  }
  if (algorithms.length === 0) throw new TypeError(`${name} must not be empty`)
  return Object.freeze([...algorithms])
}

/** Keys and metadata over plain HTTP could be anyone's; loopback is for development and tests. */
function checkUrl(name: string, text: unknown): void {
  const url = typeof text === 'string' && URL.canParse(text) ? new URL(text) : undefined
  const loopback = url && /^(?:localhost|127(?:\.\d+){3}|\[::1\])$/.test(url.hostname)
  if (url?.protocol !== 'https:' && !(loopback && url?.protocol === 'http:')) {
    throw new TypeError(`${name} must be an https URL`)
  }
}

function isNonEmpty(value: unknown): boolean {
  return typeof value === 'string' && value !== ''
}

function positive(name: string, value: number | undefined, fallback: number): number {
  const number = duration(name, value, fallback)
  if (number === 0) throw new TypeError(`${name} must be greater than zero`)
  return number
}

function duration(name: string, value: number | undefined, fallback: number): number {
  const number = value ?? fallback
  if (typeof number !== 'number' || !Number.isFinite(number) || number < 0) {
    throw new TypeError(`${name} must be a number that is not negative`)
  }
  return number
}
