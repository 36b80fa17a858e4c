import { createHash, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import tls from 'node:tls'

export const chromiumPath = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
].find((path) => existsSync(path))

/** `hosts` maps names such as "rp.example" to a loopback address and port. */
export function chromiumArguments(hosts: Record<string, string>): string[] {
  const rules = Object.entries(hosts).map(([name, address]) => `MAP ${name} ${address}`)
  return [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    `--host-resolver-rules=${rules.join(',')}`,
  ]
}

/**
 * Device Bound Session Credentials on software keys, as Linux has no others, and without a limit of
 * signatures. Over a certificate that Chromium is told to overlook it binds nothing and says
 * nothing: those of `certificates` are valid to it instead.
 */
export function boundArguments(certificates: readonly string[], { bound = true } = {}): string[] {
  const features = [
    'DeviceBoundSessions:RefreshQuota/false',
    'EnableBoundSessionCredentialsSoftwareKeysForManualTesting',
  ]
  return [
    `--ignore-certificate-errors-spki-list=${certificates.join(',')}`,
    ...(bound ? [`--enable-features=${features.join(',')}`] : []),
  ]
}

/** The base64 SHA-256 of the public key that a server on loopback shows. */
export async function certificateOf(port: number, servername: string): Promise<string> {
  const socket = tls.connect({ port, host: '127.0.0.1', servername, rejectUnauthorized: false })
  await once(socket, 'secureConnect')
  const { publicKey } = new X509Certificate(socket.getPeerCertificate().raw)
  socket.destroy()
  return createHash('sha256')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest('base64')
}
