import type { ClientMetadata } from 'oidc-provider'
import { networkPrefix } from '../net/network.ts'
import type { PasskeySignals } from '../passkeys/signals.ts'
import type { Account } from '../storage/account-store.ts'
import type { Installation, StoredGrant } from '../storage/artifact-table.ts'
import type { BrowserSession } from '../storage/browser-session-table.ts'
import type { FailedSignIns } from '../storage/failed-sign-in-table.ts'
import type { StoredSecurityEvent } from '../storage/security-event-table.ts'
import type { PasskeyLine } from './account-pages.ts'
import { type BindingLabels, bindingLabels } from './binding-labels.ts'
import { browserLabel } from './browser-labels.ts'
import { type EventLabel, eventLabel } from './event-labels.ts'
import type { Message, MessageKey } from './messages.ts'
import type { ConsentSection, MessageLabel } from './views.ts'

/** What all pages of an account have around them. */
export interface AccountFrame {
  email: string
  token: string
  pages: readonly { path: string; label: MessageKey; isThis: boolean }[]
}

export interface ProfilePage extends AccountFrame {
  lines: readonly ProfileLine[]
  /** Undefined where browsers make no passkeys for this server. */
  signals: PasskeySignals | undefined
  /** What the person may change. */
  changes: readonly { path: string; label: Message }[]
}

export interface AccountDataPage extends AccountFrame {
  exports: boolean
  deletes: boolean
}

interface ProfileLine {
  label: MessageKey
  value: MessageLabel | undefined
}

export interface SessionsPage extends AccountFrame {
  sessions: SessionLine[]
}

export interface ApplicationsPage extends AccountFrame {
  applications: ApplicationLine[]
}

export interface ActivityPage extends AccountFrame {
  failures: FailureLine[]
  events: EventLine[]
}

export interface SignInMethodsPage extends AccountFrame {
  /** Undefined where browsers make no passkeys for this server. */
  passkeys: { lines: PasskeyLine[]; signals: PasskeySignals } | undefined
  /** Undefined where people set no password. */
  hasPassword: boolean | undefined
  /** Undefined where people set no password. */
  codeApp: { isSetUp: boolean; isRemovable: boolean; recoveryCodes: number } | undefined
}

export interface AccountDeletedPage {
  signals: PasskeySignals | undefined
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
  network: MessageLabel
  since: Date
  /** The kind of its key and the beginning of the thumbprint; absent without one. */
  key?: string
  /** Whose key that is. */
  keyLabel: MessageKey
  /** How the person signed in, where that is known. */
  method?: 'passkey' | 'code' | 'password'
}

export interface ApplicationLine {
  clientId: string
  name: string
  since: Date
  binding: BindingLabels
  allowed: readonly ConsentSection[]
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
    network: networkLabel(address),
    since: signedInAt,
    ...(key && { key }),
    keyLabel:
      session.binding?.method === 'page-key' ? 'security.session_page_key' : 'security.session_key',
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
  {
    allowed,
    installations,
  }: { allowed: readonly ConsentSection[]; installations: readonly Installation[] },
): ApplicationLine {
  return {
    clientId,
    name: client.client_name ?? clientId,
    since: grantedAt,
    binding: bindingLabels(client.binding_method),
    allowed,
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
  values: { browser: browserLabel(userAgent), network: networkLabel(address) },
})

/** A place by its network only: who looks over a shoulder, or has the session, learns no address. */
function networkLabel(address: string): Message {
  const network = networkPrefix(address)
  return network ? { key: 'network.known', values: { network } } : { key: 'network.unknown' }
}

export function profileLines(account: Account): ProfileLine[] {
  const { email, emailVerified, name, groups, createdAt: _, ...others } = account
  const address = [others.streetAddress, others.postalCode, others.locality, others.region]
  return [
    { label: 'profile.name', value: name },
    {
      label: 'profile.email',
      value: emailVerified ? { key: 'profile.verified', values: { value: email } } : email,
    },
    { label: 'profile.given_name', value: others.givenName },
    { label: 'profile.family_name', value: others.familyName },
    { label: 'profile.username', value: others.preferredUsername },
    { label: 'profile.locale', value: others.locale },
    { label: 'profile.zone', value: others.zoneinfo },
    {
      label: 'profile.phone',
      value:
        others.phone && others.phoneVerified
          ? { key: 'profile.verified', values: { value: others.phone } }
          : others.phone,
    },
    { label: 'profile.address', value: [...address, others.country].filter(Boolean).join(', ') },
    { label: 'profile.groups', value: groups?.join(', ') },
  ]
}
