import { createHmac, createSecretKey, timingSafeEqual } from 'node:crypto'

/**
 * The hidden field of a form: only the pages of this interaction or session, of which only their
 * reader's browser holds the cookie, can know it.
 */
export interface FormTokens {
  make(uid: string): string
  accepts(uid: string, candidate: string): boolean
}

/** @param keys - the one to make tokens with first, of at least 32 bytes, the same on every node. */
export function createFormTokens(keys: () => readonly Uint8Array[]): FormTokens {
  return {
    make(uid) {
      const [key] = keys()
      if (!key) throw new TypeError('keys: at least one')
      return tokenOf(key, uid)
    },
    accepts: (uid, candidate) => keys().some((key) => isEqual(tokenOf(key, uid), candidate)),
  }
}

function tokenOf(key: Uint8Array, uid: string): string {
  const hmac = createHmac('sha256', createSecretKey(key))
  return hmac.update(`holdfast form\0${uid}`).digest('base64url')
}

function isEqual(expected: string, candidate: string): boolean {
  const [one, other] = [Buffer.from(expected), Buffer.from(candidate)]
  return one.length === other.length && timingSafeEqual(one, other)
}
