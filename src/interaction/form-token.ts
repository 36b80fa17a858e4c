import { createHmac, timingSafeEqual } from 'node:crypto'

/**
 * The hidden field of a form: only the pages of this interaction, of which only their reader's
 * browser holds the cookie, can know it.
 */
export function formToken(key: Uint8Array, uid: string): string {
  return createHmac('sha256', key).update(`holdfast form\0${uid}`).digest('base64url')
}

export function isFormToken(key: Uint8Array, uid: string, candidate: string): boolean {
  const expected = Buffer.from(formToken(key, uid))
  const given = Buffer.from(candidate)
  return given.length === expected.length && timingSafeEqual(given, expected)
}
