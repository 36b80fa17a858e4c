import { decodeBase64url } from '@holdfast/verify/authorization-server'
import type { TokenBindingProof } from '@holdfast/verify/token-binding'
import type { Binding } from './binding.ts'

/** draft-ietf-oauth-token-binding-08: the keys of the client's TLS connections. */
export const tokenBindingBinding: Binding = {
  method: 'token-binding',
  flags: [
    'client_access_token_token_binding_supported',
    'client_refresh_token_token_binding_supported',
  ],
  confirmation: 'tbh',
  hasProof: ({ connection: { tokenBinding }, namesResource }) =>
    (namesResource ? referredTbh(tokenBinding) : tokenBinding) !== undefined,
  missing:
    'the tokens of this client are bound by Token Binding, which is required: a provided Token ' +
    'Binding, and for another resource a referred one',
  // Section 2: the refresh token is for this server. Access tokens are for others.
  presented: ({ tokenBinding }) => tokenBinding?.provided.tbh,
  // The present key vouches for the next, as with certificates.
  readSuccessor: (tbh) =>
    decodeBase64url(tbh)?.length === 32
      ? { key: tbh }
      : { problem: 'successor must be the tbh of a Token Binding ID' },
}

/**
 * What an access token for another server is bound to (section 3.2). Nothing for a kind of key that
 * cannot be checked: then no bound token may be issued (RFC 8473 section 5.4).
 */
export function referredTbh(proof: TokenBindingProof | undefined): string | undefined {
  return proof?.referred === 'unsupported' ? undefined : proof?.referred?.tbh
}
