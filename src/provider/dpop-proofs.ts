/// <reference path="./engine-internals.d.ts" />
import { errors, type KoaContextWithOIDC } from 'oidc-provider'
import type { DPoPValidationResult } from 'oidc-provider/lib/helpers/grants.js'
import { get as instance } from 'oidc-provider/lib/helpers/weak_cache.js'
import { ProofKeys, verifyDPoPProof } from '../verify/dpop.ts'
import { VerifyError } from '../verify/errors.ts'

/** Seconds by which the clock of a client may differ from ours, where no nonce says the time. */
export const proofWindow = 300

const proven = new WeakMap<KoaContextWithOIDC, DPoPValidationResult>()

/** The proof of a request that {@link validateProofs} has accepted. */
export function provenProof(ctx: KoaContextWithOIDC): DPoPValidationResult | undefined {
  return proven.get(ctx)
}

/** The key that a request has proven by {@link validateProofs}. */
export function provenKey(ctx: KoaContextWithOIDC): string | undefined {
  return proven.get(ctx)?.thumbprint
}

/**
 * The check of the DPoP proof of a request for tokens (RFC 9449 section 4.3), as resource servers
 * make it: in this thread, with the keys of known clients at hand. Of the engine's own check, which
 * stays in place at the other endpoints, it keeps the window and the nonces.
 *
 * It does NOT detect replays: the engine asks for that by `ReplayDetection`, once it knows more.
 *
 * @throws the engine's `invalid_dpop_proof` and `use_dpop_nonce`.
 */
export function validateProofs(now: () => number = () => Date.now() / 1000) {
  const keys = new ProofKeys()
  const validate = (ctx: KoaContextWithOIDC): DPoPValidationResult | undefined => {
    const known = proven.get(ctx)
    if (known) return known
    const proof = ctx.get('DPoP')
    if (!proof) return undefined

    const { DPoPNonces: nonces, configuration } = instance(ctx.oidc.provider)
    const nextNonce = nonces.nextChallenge()
    const askForNonce = (why: string): never => {
      ctx.set('DPoP-Nonce', nextNonce)
      throw new errors.UseDpopNonce(why)
    }
    const { jkt, jti, iat, nonce } = verify(ctx, proof, configuration.dPoPSigningAlgValues, keys)
    if (nonce === undefined) {
      if (configuration.features.dPoP.requireNonce(ctx)) {
        askForNonce('nonce is required in the DPoP proof')
      }
      if (Math.abs(now() - iat) > proofWindow) {
        askForNonce('DPoP proof iat is not recent enough, use a DPoP nonce instead')
      }
    } else if (!nonces.checkChallenge(nonce)) {
      askForNonce('invalid nonce in DPoP proof')
    }
    if (nonce !== nextNonce) ctx.set('DPoP-Nonce', nextNonce)

    const key = { thumbprint: jkt, jti, iat }
    proven.set(ctx, key)
    return key
  }
  return Object.assign(validate, {
    /** Keeps the key of a request that was granted: strangers make keys as fast as they can send. */
    remember(ctx: KoaContextWithOIDC): void {
      if (proven.has(ctx)) keys.remember(ctx.get('DPoP'))
    },
  })
}

function verify(
  ctx: KoaContextWithOIDC,
  proof: string,
  algorithms: readonly string[],
  keys: ProofKeys,
) {
  try {
    return verifyDPoPProof(proof, {
      method: ctx.method,
      uri: ctx.oidc.urlFor(ctx.oidc.route),
      algorithms,
      keys,
      // Whether its time counts depends on whether it has a nonce.
      now: 0,
      maxAge: Number.POSITIVE_INFINITY,
      clockTolerance: Number.POSITIVE_INFINITY,
    })
  } catch (cause) {
    if (!(cause instanceof VerifyError)) throw cause
    throw new errors.InvalidDpopProof(cause.message, { cause })
  }
}
