/// <reference path="./engine-internals.d.ts" />
import type { Middleware } from 'koa'
import type Provider from 'oidc-provider'
import type { Configuration, JWK } from 'oidc-provider'
import { get as internalsOf, type ServerChallenge } from 'oidc-provider/lib/helpers/weak_cache.js'
import { signingAlgorithms } from '../config/signing-algorithms.ts'
import { createCatchUp } from '../keys/catch-up.ts'
import type { KeyMaterial } from '../keys/key-purpose.ts'
import type { KeyRing, KeyView } from '../keys/key-ring.ts'
import { createCookieSignatures } from './cookie-signatures.ts'
import { createNonces } from './dpop-nonces.ts'
import { LocalSigningKey } from './local-signing-key.ts'

/** Seconds for which a cache between us and an API may answer with the key set. */
const jwksMaxAge = 300

type Ring = Pick<KeyRing, 'view' | 'now'>

/** What the engine is constructed with. It looks at the algorithms of the keys then, and only then. */
export function initialKeys({ view }: Pick<Ring, 'view'>) {
  const keys = view()
  return {
    jwks: { keys: signingKeysOf(keys) } as unknown as NonNullable<Configuration['jwks']>,
    cookieKeys: cookieKeysOf(keys),
    nonceSecret: secretsOf(keys, 'dpop-nonce')[0] as Buffer,
  }
}

/**
 * Lets a running engine use the keys of the moment. Cookie keys are koa's, which reads them for each
 * request. Key store, key set and nonces are made in the engine's constructor, once, and there is no
 * public way to them: here, and nowhere else, its private state is changed (docs/divergences.md).
 *
 * @throws TypeError when this release of the engine keeps them in another way.
 */
export function useKeyRing(engine: Provider, ring: Ring): void {
  const internals = internalsOf(engine)
  const { keystore, jwks, DPoPNonces } = internals
  if (!keystore || !jwks || !DPoPNonces) {
    throw new TypeError('this release of oidc-provider keeps its keys elsewhere')
  }
  const KeyStore = keystore.constructor as new (keys: LocalSigningKey[]) => object
  const nonces = perKey((key) => createNonces(bytesOf(key), ring.now))
  const noncesPerView = perView((view) => view['dpop-nonce'].map(nonces))
  const noncesOf = () => noncesPerView(ring.view())

  const keyStoreOf = perView((view) => new KeyStore(signingKeysOf(view)))
  const jwksOf = perView((view) => ({ keys: publicKeysOf(view) }))
  const signaturesOf = perView((view) => createCookieSignatures(cookieKeysOf(view)))
  Object.defineProperties(internals, {
    keystore: { get: () => keyStoreOf(ring.view()) },
    jwks: { get: () => jwksOf(ring.view()) },
    DPoPNonces: {
      value: {
        nextChallenge: () => noncesOf()[0]?.nextChallenge(),
        // All of them, so that the time it takes does not tell which one it is.
        checkChallenge: (challenge: string) =>
          noncesOf().filter((each) => each.checkChallenge(challenge)).length > 0,
      } satisfies { [Member in keyof ServerChallenge]: unknown },
    },
  })
  Object.defineProperty(engine, 'keys', { get: () => signaturesOf(ring.view()) })
}

/** Answers with the keys of the moment, and lets caches keep the answer. */
export function currentKeySet(keys: Pick<KeyRing, 'refresh'>): Middleware {
  const catchUp = createCatchUp(keys)
  return async (ctx, next) => {
    await catchUp()
    await next()
    ctx.set('Cache-Control', `public, max-age=${jwksMaxAge}`)
  }
}

/** The public keys of tokens, of every key that is published or in use (RFC 7517). */
export function publicKeysOf(view: KeyView): JWK[] {
  return signingKeysOf(view).map(({ publicJwk }) => publicJwk)
}

/** Secrets that nodes share, the one to make things with first. */
export function secretsOf(
  view: KeyView,
  purpose: 'dpop-nonce' | 'form-token' | 'session-binding',
): Buffer[] {
  return view[purpose].map(bytesOf)
}

const localKeyOf = perKey((key) => new LocalSigningKey(key as JWK))

/** The keys of tokens of every algorithm, the one to sign with first. */
export function signingKeysOf(view: KeyView): LocalSigningKey[] {
  return keysPerView(view)
}

const keysPerView = perView((view) => signingAlgorithms.flatMap((alg) => view[alg].map(localKeyOf)))

const cookieKeysOf = (view: KeyView) => view.cookie.map(({ k }) => k as string)

const bytesOf = ({ k }: KeyMaterial) => Buffer.from(k as string, 'base64url')

/** Makes something of each key once. */
function perKey<T>(make: (key: KeyMaterial) => T): (key: KeyMaterial) => T {
  const made = new WeakMap<KeyMaterial, T>()
  return (key) => {
    const known = made.get(key)
    if (known !== undefined) return known
    const fresh = make(key)
    made.set(key, fresh)
    return fresh
  }
}

/** Makes something of the last view once. */
export function perView<T>(make: (view: KeyView) => T): (view: KeyView) => T {
  let last: { view: KeyView; made: T } | undefined
  return (view) => {
    if (last?.view !== view) last = { view, made: make(view) }
    return last.made
  }
}
