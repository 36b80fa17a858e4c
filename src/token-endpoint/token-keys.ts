/**
 * Which keys a token is bound to. This file alone makes {@link DecidedKeys}, and no token is issued
 * without: each is bound by a key that this request shows, or is a bearer token because its client
 * has asked for these by name.
 */
import { type Binding, type BoundCredential, missingKey, type Proofs } from '../bindings/binding.ts'
import { bindings } from '../bindings/bindings.ts'
import { referredTbh } from '../bindings/token-binding.ts'
import type { Witness } from './checks.ts'
import { type Refusal, type RefusalReason, refuse } from './refusal.ts'
import type { Found, StoredBackchannelRequest, StoredCode, StoredSource } from './stored.ts'
import type { TokenClient, TokenRequest } from './token-request.ts'

/** See {@link Witness}. */
declare class Decision {
  private readonly isDecided: true
}

/** The keys of a token that is to be issued, none for a bearer token. */
export type DecidedKeys = BoundCredential & Decision

const decided = (keys: BoundCredential) => keys as DecidedKeys

const missingProof: Readonly<Record<Binding['method'], RefusalReason>> = {
  dpop: 'dpop_missing',
  mtls: 'certificate_proof_missing',
  'token-binding': 'token_binding_missing',
}

/** Refuses a client that is registered for a method, and shows no key. */
export function refuseUnbound({ method, missing: description }: Binding): Refusal {
  return refuse(missingProof[method], { description })
}

/** Thumbprints of the keys that a request has proven. */
export function provenKeys({ dpop, certificate, tokenBinding }: Proofs): BoundCredential {
  return {
    ...(dpop && { jkt: dpop.jkt }),
    ...(certificate && { 'x5t#S256': certificate.thumbprint }),
    ...(tokenBinding && { tbh: tokenBinding.provided.tbh }),
  }
}

/** Whether a client's tokens are bound to its certificate. */
export function isCertified({ binding }: Pick<TokenClient, 'binding'>): boolean {
  return binding !== 'bearer' && binding.method === 'mtls'
}

/**
 * The keys that an access token is bound to. A certificate and a DPoP proof together are refused; a
 * Token Binding is that of the server which the token is for (draft-ietf-oauth-token-binding-08
 * section 3.2).
 *
 * @param certified whether a certificate binds the token.
 */
export function accessTokenKeys(
  { client: { binding }, proofs }: TokenRequest,
  {
    audience,
    issuer,
    certified,
  }: { audience: string | undefined; issuer: string; certified: boolean },
): DecidedKeys | Refusal {
  const { dpop, certificate, tokenBinding } = proofs
  if (binding !== 'bearer' && binding.presented(proofs) === undefined) return refuseUnbound(binding)
  if (certified && dpop) return refuse('two_bindings')
  const keys = {
    ...(dpop && { jkt: dpop.jkt }),
    ...(certified && { 'x5t#S256': certificate?.thumbprint }),
  }
  if (binding === 'bearer' || binding.method !== 'token-binding') return decided(keys)
  const isForThisServer = audience === undefined || audience === issuer
  const tbh = isForThisServer ? tokenBinding?.provided.tbh : referredTbh(tokenBinding)
  // The resource may be one that only the code or refresh token names.
  if (tbh === undefined) {
    const description = 'an access token for this resource needs a referred Token Binding'
    return refuse('token_binding_missing', { description })
  }
  return decided({ ...keys, tbh })
}

/**
 * The keys of the first refresh token of a grant. Those of confidential clients are bound as well
 * (docs/divergences.md); a client of bearer tokens that shows keys and has no secret is held to them.
 * Those of a client that authenticates by a key may be bound by that alone (RFC 9449 section 5).
 *
 * @param accessToken the keys of the access token beside it, for which the binding was decided.
 */
export function refreshTokenKeys(
  { client: { authenticatesBy, binding, refreshTokensBoundTo }, proofs }: TokenRequest,
  accessToken: DecidedKeys,
): DecidedKeys {
  if (refreshTokensBoundTo === 'client') return decided({})
  const { jkt, 'x5t#S256': x5t } = accessToken
  return decided({
    ...(authenticatesBy === 'none' && { jkt, 'x5t#S256': x5t }),
    ...(binding !== 'bearer' && { [binding.confirmation]: binding.presented(proofs) }),
  })
}

/**
 * Whether a credential is bound as its client's tokens are. A client whose tokens were bearer tokens
 * and are bound now must sign in again: nobody knows whose hands an unbound credential is in.
 */
export function isBoundFor<What extends BoundFound>(
  found: What,
  { binding, refreshTokensBoundTo }: TokenClient,
): found is What & Witness<'bound'> {
  if (binding === 'bearer' || refreshTokensBoundTo === 'client') return true
  return found.source[binding.confirmation] !== undefined
}

/** Whether a request shows every key that a credential is bound to. */
export function showsKeys<What extends BoundFound & Witness<'bound'>>(
  found: What,
  { proofs }: TokenRequest,
): found is What & Witness<'key'> {
  return missingKey(found.source, bindings, proofs) === undefined
}

/** Whether a request shows the key that an authorization request has named (RFC 9449 section 10). */
export function showsNamedKey<What extends Found<StoredCode> & Witness<'verifier'>>(
  found: What,
  { proofs: { dpop } }: TokenRequest,
): found is What & Witness<'key'> {
  const { dpopJkt } = found.source
  return dpopJkt === undefined || dpopJkt === dpop?.jkt
}

/**
 * Whether a request of the backchannel is bound: to the key of its tokens, or to the one by which its
 * client has authenticated. Without either nobody redeems it.
 */
export function isBoundRequest<What extends Found<StoredBackchannelRequest>>(
  found: What,
  client: TokenClient,
): found is What & Witness<'bound'> {
  return found.source.clientKey !== undefined || isBoundFor(found, client)
}

/** Whether a token request shows every key that a request of the backchannel is bound to. */
export function showsRequestKeys<What extends Found<StoredBackchannelRequest> & Witness<'bound'>>(
  found: What,
  request: TokenRequest,
): found is What & Witness<'key'> {
  const { clientKey } = found.source
  const isOfAssertion = clientKey === undefined || clientKey === request.assertionKey
  return isOfAssertion && showsKeys(found, request)
}

/**
 * The keys of the refresh token that follows another. All of them must be shown, whatever the client
 * is registered for by now.
 *
 * @param keys those that the token is bound to from now on.
 */
export function inheritedKeys<What extends BoundFound & Witness<'bound'>>(
  found: What,
  keys: BoundCredential,
  { proofs }: TokenRequest,
): { readonly found: What & Witness<'key'>; readonly keys: DecidedKeys } | Refusal {
  const { jkt, tbh, 'x5t#S256': x5t } = keys
  if (tbh !== undefined && tbh !== proofs.tokenBinding?.provided.tbh) {
    const description = 'the refresh token is bound to another Token Binding'
    return refuse('key_mismatch', { description })
  }
  if (x5t !== undefined && x5t !== proofs.certificate?.thumbprint) {
    return refuse('key_mismatch', { detail: 'failed x5t#S256 verification' })
  }
  if (jkt !== undefined && jkt !== proofs.dpop?.jkt) {
    return refuse('key_mismatch', { detail: 'failed jkt verification' })
  }
  return { found: found as What & Witness<'key'>, keys: decided(keys) }
}

type BoundFound = Found<StoredSource & BoundCredential>
