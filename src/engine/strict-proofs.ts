import type { IncomingMessage } from 'node:http'
import { readDPoPHeader } from '@holdfast/verify/authorization-server'
import type { Middleware } from 'koa'
import type { ProofCheck } from '../bindings/dpop.ts'

/** What the engine refuses as malformed, in the form of each of its endpoints. */
const noProof = 'malformed'

/**
 * Holds the DPoP proofs that the engine itself checks to the rules of all others: JSON that repeats
 * no member and is not nested too deep, and keys with which not everyone can sign. Whether a proof
 * is of this request and of this moment is left to the engine, whose answers name nonces.
 */
export function strictProofs({
  proofs,
  originOf,
  now,
}: {
  proofs: ProofCheck
  originOf: (request: IncomingMessage) => URL
  /** Milliseconds since the epoch. */
  now: () => number
}): Middleware {
  return (ctx, next) => {
    const text = readDPoPHeader(ctx.req.rawHeaders)
    if (text) {
      const uri = originOf(ctx.req).origin + ctx.originalUrl.split('?', 1)[0]
      const checked = proofs.check(text, { method: ctx.method, uri, now: now() / 1000 })
      if ('problem' in checked && checked.problem === 'dpop_invalid') {
        ctx.req.headers.dpop = noProof
      }
    }
    return next()
  }
}
