import { decodeJwt } from 'jose'

/**
 * Seconds that the clock of a DPoP proof's maker is ahead. Nothing is verified here: ask only of
 * proofs that were.
 */
export function clockSkewOf(
  proof: string | undefined,
  nowMilliseconds: number,
): number | undefined {
  if (!proof) return undefined
  try {
    const { iat } = decodeJwt(proof)
    return typeof iat === 'number' ? iat - nowMilliseconds / 1000 : undefined
  } catch {
    return undefined
  }
}
