import type { ClientMetadata } from 'oidc-provider'
import type { Installation, StoredGrant } from '../storage/artifact-table.ts'
import type { BrowserSession } from '../storage/browser-session-table.ts'
import type { FailedSignIns } from '../storage/failed-sign-in-table.ts'
import type { StoredSecurityEvent } from '../storage/security-event-table.ts'
import type { PasskeyLine } from './account-pages.ts'
import { type BindingLabels, bindingLabels } from './binding-labels.ts'
import { browserLabel } from './browser-labels.ts'
import { type EventLabel, eventLabel } from './event-labels.ts'
import type { Message } from './messages.ts'
import type { MessageLabel } from './views.ts'

export interface SecurityPage {
  email: string
  token: string
  sessions: SessionLine[]
  /** Whether an application may ask for approvals. */
  hasApprovals: boolean
  /** Undefined where browsers make no passkeys for this server. */
  passkeys: { lines: PasskeyLine[]; signals: PasskeySignals } | undefined
  /** Undefined where people set no password. */
  hasPassword: boolean | undefined
  /** Undefined where people set no password. */
  codeApp: { isSetUp: boolean; isRemovable: boolean; recoveryCodes: number } | undefined
  applications: ApplicationLine[]
  failures: FailureLine[]
  events: EventLine[]
}

/** Which passkeys there still are, for the browser (the Signal API of WebAuthn). */
export interface PasskeySignals {
  rpId: string
  userId: string
  ids: readonly string[]
  name: string
  displayName: string
}

/** The failed sign-ins of one hour. */
interface FailureLine {
  count: number
  at: Date
  from: Message
}

interface SessionLine {
  uid: string
  isThis: boolean
  browser: MessageLabel
  address: MessageLabel
  since: Date
  /** The kind of its key and the beginning of the thumbprint; absent without one. */
  key?: string
  /** How the person signed in, where that is known. */
  method?: 'passkey' | 'code' | 'password'
}

interface ApplicationLine {
  clientId: string
  name: string
  since: Date
  binding: BindingLabels
  /** Its copies, where there are several: each has a key of its own. */
  installations: InstallationLine[]
}

interface InstallationLine {
  jkt: string
  /** The beginning of the thumbprint. */
  key: string
  since: Date
  lastUsed: Date
}

interface EventLine extends EventLabel {
  at: Date
  from?: Message
}

/** Enough to tell two keys of one person apart. */
const shownOfThumbprint = 8

export function sessionLine(session: BrowserSession, current: string): SessionLine {
  const { uid, userAgent, address, signedInAt } = session
  const key = keyLabel(session)
  return {
    uid,
    isThis: uid === current,
    browser: browserLabel(userAgent),
    address: addressLabel(address),
    since: signedInAt,
    ...(key && { key }),
    ...methodOf(session),
  }
}

function methodOf({ amr }: BrowserSession): Pick<SessionLine, 'method'> {
  if (amr?.includes('otp')) return { method: 'code' }
  if (amr?.includes('pwd')) return { method: 'password' }
  return amr?.includes('pop') ? { method: 'passkey' } : {}
}

const short = (thumbprint: string) => `${thumbprint.slice(0, shownOfThumbprint)}…`

function keyLabel({ binding, tbh }: BrowserSession): string | undefined {
  if (binding) return `${binding.alg} ${short(binding.jkt)}`
  return tbh ? `Token Binding ${short(tbh)}` : undefined
}

export function applicationLine(
  { clientId, grantedAt }: StoredGrant,
  client: ClientMetadata,
  installations: readonly Installation[],
): ApplicationLine {
  return {
    clientId,
    name: client.client_name ?? clientId,
    since: grantedAt,
    binding: bindingLabels(client.binding_method),
    installations:
      installations.length > 1
        ? installations.map(({ jkt, since, lastUsed }) => ({
            jkt,
            key: short(jkt),
            since,
            lastUsed,
          }))
        : [],
  }
}

export function eventLine({ kind, at, address, userAgent }: StoredSecurityEvent): EventLine {
  return {
    ...eventLabel(kind),
    at,
    ...(address && { from: clientLabel(userAgent ?? '', address) }),
  }
}

export function failureLine({ count, at, address, userAgent }: FailedSignIns): FailureLine {
  return { count, at, from: clientLabel(userAgent, address) }
}

const clientLabel = (userAgent: string, address: string): Message => ({
  key: 'client.from',
  values: { browser: browserLabel(userAgent), address: addressLabel(address) },
})

function addressLabel(address: string): MessageLabel {
  return address || { key: 'unknown_address' }
}
