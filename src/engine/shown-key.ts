import { readDPoPHeader } from '@holdfast/verify/authorization-server'
import { errors, type KoaContextWithOIDC } from 'oidc-provider'
import type { Confirmation } from '../bindings/binding.ts'
import { longestProofWindowS, type ProofCheck } from '../bindings/dpop.ts'
import { clientBinding } from '../clients/binding-method.ts'
import type { Edge } from '../http/edge.ts'
import { refusedFor } from './refusal-reason.ts'

export interface ShownKeyOptions {
  readonly edge: Pick<Edge, 'proofsOf'>
  readonly proofs: ProofCheck
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

/**
 * The key that a request shows which tokens will be redeemed for: of a device, or of the
 * backchannel. Its proof is used up by that.
 *
 * @throws an error of the engine.
 */
export async function shownKey(
  ctx: KoaContextWithOIDC,
  { edge, proofs, now: clock }: ShownKeyOptions,
): Promise<{ [Name in Confirmation]?: string | undefined }> {
  const connection = edge.proofsOf(ctx)
  const now = Math.floor(clock() / 1000)
  const binding = clientBinding(ctx)
  const text = readDPoPHeader(ctx.req.rawHeaders)
  const dpop = text ? await useProof(ctx, text, proofs, now) : undefined
  const namesResource = ctx.oidc.params?.resource !== undefined
  if (
    binding !== 'bearer' &&
    !binding.hasProof({ connection, hasDPoP: text !== undefined, namesResource, now })
  ) {
    const reason = binding.method === 'dpop' ? 'dpop_missing' : 'key_mismatch'
    throw refusedFor(reason, new errors.InvalidRequest(binding.missing))
  }
  if (binding !== 'bearer') {
    return { [binding.confirmation]: binding.presented({ ...connection, dpop }) }
  }
  return dpop ? { jkt: dpop.jkt } : {}
}

async function useProof(ctx: KoaContextWithOIDC, text: string, proofs: ProofCheck, now: number) {
  const uri = ctx.oidc.urlFor(ctx.oidc.route)
  const checked = proofs.check(text, { method: ctx.method, uri, now })
  if (checked.nonce !== undefined) ctx.set('DPoP-Nonce', checked.nonce)
  if ('problem' in checked) {
    const { problem, detail } = checked
    const asksForNonce = problem === 'dpop_nonce' || problem === 'dpop_not_recent'
    const Refusal = asksForNonce ? errors.UseDpopNonce : errors.InvalidDpopProof
    throw refusedFor(problem, new Refusal(detail))
  }
  const { ReplayDetection } = ctx.oidc.provider
  const { jti } = checked.proof
  if (
    !(await ReplayDetection.unique(
      String(ctx.oidc.client?.clientId),
      jti,
      now + longestProofWindowS,
    ))
  ) {
    throw refusedFor('dpop_replayed', new errors.InvalidRequest('DPoP proof JWT Replay detected'))
  }
  return checked.proof
}
