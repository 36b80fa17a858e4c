import type { Binding } from './binding.ts'

/** RFC 9449: a JWT by the client's key beside each request. */
export const dpopBinding: Binding = {
  method: 'dpop',
  flags: ['dpop_bound_access_tokens'],
  confirmation: 'jkt',
  ofRefreshToken: ({ oidc }) => oidc.entities.AccessToken?.jkt,
  hasProof: (ctx) => ctx.get('DPoP') !== '',
  missing: 'the tokens of this client are bound by DPoP: a DPoP proof is required',
}
