import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { TokenBindingTlsError } from './errors.ts'

/** Token Binding Key Parameters by their registered names (RFC 8471 section 6.1). */
export type KeyParameters = 'rsa2048_pkcs1.5' | 'rsa2048_pss' | 'ecdsap256'

/** In the order of their numbers. */
export const allKeyParameters: readonly KeyParameters[] = [
  'rsa2048_pkcs1.5',
  'rsa2048_pss',
  'ecdsap256',
]

/** The functions of token-binding-tls.c, which explains them. */
interface Native {
  beginCapture(): void
  cancelCapture(): void
  endCapture(isClient: boolean, tls13: boolean, parameters: Uint8Array): number
  take(isClient: boolean, ekm: Uint8Array): number
  waiting(): number
}

const fileName = 'token-binding-tls.node'

/** Beside this file in a checkout; one folder up from the compiled file in the package. */
const folders = [new URL('./', import.meta.url), new URL('../', import.meta.url)]

/** What a prebuilt native part is for: Node-API makes it one for all versions of Node. */
export function platformName(): string {
  const { platform, arch } = process
  return platform === 'linux' && isMusl() ? `linux-musl-${arch}` : `${platform}-${arch}`
}

function isMusl(): boolean {
  const report: unknown = process.report.getReport()
  const { header = {} } = report as { header?: { glibcVersionRuntime?: string } }
  return header.glibcVersionRuntime === undefined
}

let loaded: Native | undefined

export function loadNative(): Native {
  if (loaded) return loaded
  const name = platformName()
  const files = [`build/${fileName}`, `prebuilds/${name}/${fileName}`]
  const path = folders
    .flatMap((folder) => files.map((file) => fileURLToPath(new URL(file, folder))))
    .find((candidate) => existsSync(candidate))
  if (path === undefined) {
    throw new TokenBindingTlsError(
      'not_built',
      `Token Binding over TLS is configured, but its native part is not built for ${name}. ` +
        'Run "npm run build:native" in the repository (it needs gcc and nothing else), ' +
        'or switch Token Binding off.',
    )
  }
  try {
    loaded = createRequire(import.meta.url)(path) as Native
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new TokenBindingTlsError(
      'not_loadable',
      `The native part of Token Binding over TLS cannot be loaded: ${reason}`,
      { cause },
    )
  }
  return loaded
}

/** Whether `equip` and the agent can work here; for a server that advertises what it can do. */
export function isAvailable(): boolean {
  try {
    loadNative()
    return true
  } catch (error) {
    if (error instanceof TokenBindingTlsError) return false
    throw error
  }
}

export type Role = 'server' | 'client'

export interface Negotiation {
  readonly role: Role
  /** A client's order of preference; a server follows the client's. */
  readonly keyParameters: readonly KeyParameters[]
  readonly tls13Draft: boolean
}

/** Runs `create` and gives the extension to every TLS context that it makes. */
export function equipContexts<T>(create: () => T, negotiation: Negotiation): T {
  const { role, keyParameters, tls13Draft } = negotiation
  const numbers = keyParameters.map((name) => allKeyParameters.indexOf(name))
  if (numbers.length === 0 || numbers.includes(-1)) {
    throw new TypeError(`keyParameters must be a list of ${allKeyParameters.join(', ')}`)
  }

  const native = loadNative()
  native.beginCapture()
  let created: T
  try {
    created = create()
  } catch (error) {
    native.cancelCapture()
    throw error
  }
  const equipped = native.endCapture(role === 'client', tls13Draft, Uint8Array.from(numbers))
  if (equipped === 0) {
    throw new TokenBindingTlsError('nothing_equipped', 'the function made no TLS context')
  }
  return created
}

/** What this end of the connection with this keying material has negotiated; asked once. */
export function takeNegotiated(role: Role, ekm: Uint8Array): KeyParameters | undefined {
  const number = loadNative().take(role === 'client', ekm)
  // RFC 8472 section 4 has a client end the handshake with an alert; OpenSSL tells too late.
  if (number === -2) {
    throw new TokenBindingTlsError(
      'unsafe_negotiation',
      'the server negotiated Token Binding without the extended master secret',
    )
  }
  return allKeyParameters[number]
}

/** Connections that have negotiated and that nobody has asked about: none, when all is well. */
export function waitingConnections(): number {
  return loadNative().waiting()
}
