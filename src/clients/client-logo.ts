import { hash } from 'node:crypto'
import { RegistrationError } from './client-registration.ts'

declare module 'oidc-provider' {
  interface ClientMetadata {
    /** The digest of a logo that an administrator has uploaded. */
    logo?: string | undefined
  }
}

export const logoLimitBytes = 32 * 1024

export interface Logo {
  /** Names it in its address, which changes with it. */
  readonly digest: string
  /** Its media type. */
  readonly type: string
  readonly bytes: Uint8Array
}

/** What the first bytes of an image say. SVG is not among them: it can have scripts and links. */
function typeOf(start: string): string | undefined {
  if (start.startsWith('\x89PNG\r\n\x1a\n')) return 'image/png'
  if (start.startsWith('\xff\xd8\xff')) return 'image/jpeg'
  if (start.startsWith('GIF87a') || start.startsWith('GIF89a')) return 'image/gif'
  return start.startsWith('RIFF') && start.startsWith('WEBP', 8) ? 'image/webp' : undefined
}

/**
 * Reads a logo by its own bytes, whatever its sender calls it. It is not decoded.
 *
 * @throws {@link RegistrationError}
 */
export function readLogo(bytes: Uint8Array): Logo {
  const type = typeOf(Buffer.from(bytes.subarray(0, 16)).toString('latin1'))
  if (type === undefined || bytes.length > logoLimitBytes) {
    throw new RegistrationError(
      'invalid_client_metadata',
      `The logo must be a PNG, JPEG, GIF or WebP image of at most ${logoLimitBytes / 1024} KiB.`,
    )
  }
  return { digest: hash('sha256', bytes, 'base64url'), type, bytes }
}
