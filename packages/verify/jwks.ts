/**
 * The signing keys of an issuer: found, kept fresh, and kept for a while when the issuer is down.
 */
import type { KeyObject } from 'node:crypto'
import { VerifyError } from './errors.ts'
import { type Fetch, fetchJson } from './lib/fetch-json.ts'
import { isObject } from './lib/json.ts'
import { hasPrivateMembers, importPublicJwk } from './lib/jwk.ts'
import { suitsAlgorithm } from './lib/signature.ts'

/** Where keys come from and how long they last; all times in seconds. */
export type JwksOptions = Readonly<{
  /** Gives the URL of the key set, or the key set itself. */
  source: () => Promise<string> | Readonly<{ keys: readonly object[] }>
  fetch: Fetch
  now: () => number
  /** Age at which the set is fetched again. */
  maxAge: number
  /** For how much longer old keys are used while the issuer cannot be reached. */
  maxStale: number
  /** Least time between two fetches, whatever key IDs strangers make up. */
  cooldown: number
  /** Told each time the issuer could not be asked. */
  onFailure: (cause: unknown) => void
}>

type SigningKey = Readonly<{
  kid: string | undefined
  alg: string | undefined
  kty: string
  crv: string | undefined
  key: KeyObject
}>

/** The keys of one issuer. */
export type Jwks = Readonly<{
  /**
   * The one key that may have signed a token of this header, now if it is known and fresh.
   *
   * @throws {@link VerifyError} `token_key`, `issuer_unavailable`
   */
  find(alg: string, kid: string | undefined): KeyObject | Promise<KeyObject>
}>

/** Makes a {@link Jwks}. Nothing is fetched before the first token comes. */
export function createJwks(options: JwksOptions): Jwks {
  const { source, fetch, now, maxAge, maxStale, cooldown, onFailure } = options
  let keys: readonly SigningKey[] | undefined
  let loadedAt = Number.NEGATIVE_INFINITY
  let triedAt = Number.NEGATIVE_INFINITY
  let loading: Promise<void> | undefined

  /** All who wait share one fetch. */
  function load(): Promise<void> {
    loading ??= (async () => {
      triedAt = now()
      try {
        const found = source()
        const set = found instanceof Promise ? await fetchJson(fetch, await found) : found
        keys = importKeySet(set)
        loadedAt = found instanceof Promise ? triedAt : Number.POSITIVE_INFINITY
      } finally {
        loading = undefined
      }
    })()
    return loading
  }

  function match(alg: string, kid: string | undefined): KeyObject | undefined {
    const matching = keys?.filter(
      (key) =>
        (kid === undefined || key.kid === kid) &&
        (key.alg === undefined || key.alg === alg) &&
        suitsAlgorithm(alg, key),
    )
    // Without a kid, two keys that fit would be a guess.
    return matching?.length === 1 ? matching[0]?.key : undefined
  }

  async function refreshAndFind(alg: string, kid: string | undefined): Promise<KeyObject> {
    const stale = now() - loadedAt > maxAge
    if (loading !== undefined || now() - triedAt >= cooldown) {
      try {
        await load()
      } catch (cause) {
        onFailure(cause)
        // The issuer is down. Its old keys do for a while.
        if (now() - loadedAt > maxAge + maxStale) throw unavailable(cause)
      }
    } else if (stale && now() - loadedAt > maxAge + maxStale) {
      throw unavailable('the last attempt failed a moment ago')
    }
    const key = match(alg, kid)
    if (key === undefined) {
      throw new VerifyError('token_key', 'Access token is signed with an unknown key')
    }
    return key
  }

  return Object.freeze({
    find(alg: string, kid: string | undefined): KeyObject | Promise<KeyObject> {
      if (now() - loadedAt <= maxAge) {
        const key = match(alg, kid)
        if (key !== undefined) return key
      }
      return refreshAndFind(alg, kid)
    },
  })
}

function unavailable(cause: unknown): VerifyError {
  return new VerifyError('issuer_unavailable', 'The issuer of the access token is not reachable', {
    cause,
  })
}

/** Each is imported, and looked at for each token. */
const maxKeys = 1000

/** Keys that cannot be used here (encryption, unknown types, too short) are left out. */
function importKeySet(set: unknown): readonly SigningKey[] {
  if (!isObject(set) || !Array.isArray(set.keys)) throw new TypeError('not a JWK Set')
  if (set.keys.length > maxKeys) throw new TypeError(`more than ${maxKeys} keys`)
  return set.keys.filter(isObject).flatMap((jwk) => {
    const { kid, alg, kty, crv, use, key_ops: operations } = jwk
    if (use !== undefined && use !== 'sig') return []
    if (Array.isArray(operations) && !operations.includes('verify')) return []
    // An issuer that publishes a private key has no secret left to sign with.
    const imported = hasPrivateMembers(jwk) ? undefined : importPublicJwk(jwk)
    if (imported === undefined) return []
    return {
      kid: typeof kid === 'string' ? kid : undefined,
      alg: typeof alg === 'string' ? alg : undefined,
      kty: kty as string,
      crv: crv as string | undefined,
      key: imported.key,
    }
  })
}
