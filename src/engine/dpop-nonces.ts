/// <reference path="./engine-internals.d.ts" />
import { hkdfSync, timingSafeEqual } from 'node:crypto'
import type { ServerChallenge } from 'oidc-provider/lib/helpers/weak_cache.js'

/** Seconds between two nonces. */
const stepS = 60

/** Steps that are accepted, from the present one: the clocks of two nodes differ a little. */
const accepted = [-2, -1, 0, 1, 2]

/**
 * The nonces that the engine itself would make from a secret, by a clock that is handed in: the
 * engine has only that of its node, and nonces say what time it is on all nodes.
 *
 * @param now milliseconds since the epoch.
 */
export function createNonces(secret: Uint8Array, now: () => number): ServerChallenge {
  let known: { step: number; values: readonly Buffer[]; next: string } | undefined

  function present() {
    const step = Math.floor(now() / 1000 / stepS)
    if (known?.step !== step) {
      const values = accepted.map((each) => nonceOf(secret, step + each))
      // The one that is accepted for longest.
      known = { step, values, next: String(values[accepted.indexOf(1)]) }
    }
    return known
  }

  return {
    nextChallenge: () => present().next,
    checkChallenge(nonce) {
      const shown = Buffer.from(nonce)
      const matching = present().values.filter(
        (value) => value.length === shown.length && timingSafeEqual(value, shown),
      )
      return matching.length > 0
    },
  }
}

function nonceOf(secret: Uint8Array, step: number): Buffer {
  const salt = Buffer.alloc(8)
  salt.writeBigUInt64BE(BigInt(step))
  return Buffer.from(
    Buffer.from(hkdfSync('sha256', secret, salt, 'DPoP', 32)).toString('base64url'),
  )
}
