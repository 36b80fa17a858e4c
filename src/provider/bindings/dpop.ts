import { hash } from 'node:crypto'
import { errors } from 'oidc-provider'
import { verifyDPoPProof } from '../../verify/dpop.ts'
import { VerifyError } from '../../verify/errors.ts'
import { provenKey } from '../dpop-proofs.ts'
import type { Binding } from './binding.ts'

/** RFC 9449: a JWT by the client's key beside each request. */
export const dpopBinding: Binding = {
  method: 'dpop',
  flags: ['dpop_bound_access_tokens'],
  confirmation: 'jkt',
  hasProof: (ctx) => ctx.get('DPoP') !== '',
  missing: 'the tokens of this client are bound by DPoP: a DPoP proof is required',
  presented: async (ctx) => provenKey(ctx),
  // A proof by the next key, which with `ath` is about this one refresh token.
  readSuccessor(proof, ctx) {
    try {
      return verifyDPoPProof(proof, {
        method: 'POST',
        uri: ctx.oidc.urlFor('token'),
        now: Date.now() / 1000,
        ath: hash('sha256', String(ctx.oidc.params?.refresh_token), 'base64url'),
      }).jkt
    } catch (cause) {
      if (!(cause instanceof VerifyError)) throw cause
      throw new errors.InvalidDpopProof(`successor: ${cause.message}`)
    }
  },
}
