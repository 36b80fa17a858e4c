/**
 * Decodes base64url without padding, or returns `undefined`.
 *
 * Node's own decoder skips what it does not know and ignores spare bits, so that one value has
 * many spellings. Here a text has to be the one canonical spelling of its bytes: encoding it again
 * must give the same text.
 */
export function decodeBase64url(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64url')
  return bytes.toString('base64url') === text ? bytes : undefined
}
