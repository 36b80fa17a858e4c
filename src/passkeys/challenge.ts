/**
 * Challenges that are remembered by nobody: each says when it ends and is signed for what it is
 * for, so that pages for strangers write no row. That one was used is recorded when it is.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'

export interface Challenges {
  /** @param purpose - what it is for: a page of one interaction, or a change in one session. */
  make(purpose: string, lifetimeS: number): string
  /** @returns when it ends, in Unix seconds; undefined for what is not for this purpose, or over. */
  endOf(purpose: string, challenge: string): number | undefined
}

const timeBytes = 6
const randomByteCount = 16
const bodyBytes = timeBytes + randomByteCount

/**
 * @param keys - the one to sign with first, of at least 32 bytes, the same on every node.
 * @param now - milliseconds since the epoch.
 */
export function createChallenges({
  keys,
  now,
}: {
  keys: () => readonly Uint8Array[]
  now: () => number
}): Challenges {
  return {
    make(purpose, lifetimeS) {
      const [key] = keys()
      if (!key) throw new TypeError('keys: at least one')
      const body = Buffer.concat([Buffer.alloc(timeBytes), randomBytes(randomByteCount)])
      body.writeUIntBE(Math.floor(now() / 1000) + lifetimeS, 0, timeBytes)
      return Buffer.concat([body, tagOf(key, purpose, body)]).toString('base64url')
    },

    endOf(purpose, challenge) {
      const bytes = Buffer.from(challenge, 'base64url')
      // One spelling only: what is used once must not come back in another.
      if (bytes.length <= bodyBytes || bytes.toString('base64url') !== challenge) return undefined
      const [body, tag] = [bytes.subarray(0, bodyBytes), bytes.subarray(bodyBytes)]
      const isOurs = keys().some((key) => {
        const expected = tagOf(key, purpose, body)
        return expected.length === tag.length && timingSafeEqual(expected, tag)
      })
      const expiresAt = body.readUIntBE(0, timeBytes)
      return isOurs && now() / 1000 < expiresAt ? expiresAt : undefined
    },
  }
}

function tagOf(key: Uint8Array, purpose: string, body: Uint8Array): Buffer {
  return createHmac('sha256', key)
    .update(`holdfast passkey challenge\0${purpose}\0`)
    .update(body)
    .digest()
}
