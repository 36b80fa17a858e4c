import type { ClientMetadata } from 'oidc-provider'
import type { StoredGrant } from '../storage/artifact-table.ts'
import type { BrowserSession } from '../storage/browser-session-table.ts'
import type { FailedSignIns } from '../storage/failed-sign-in-table.ts'
import type { StoredSecurityEvent } from '../storage/security-event-table.ts'
import { type BindingWords, bindingWords } from './binding-labels.ts'
import { browserWords } from './browser-labels.ts'
import { type EventWords, eventWords } from './event-labels.ts'

export interface SecurityPage {
  email: string
  token: string
  sessions: SessionLine[]
  applications: ApplicationLine[]
  failures: FailureLine[]
  events: EventLine[]
}

interface FailureLine {
  words: string
  at: string
  from: string
}

interface SessionLine {
  uid: string
  isThis: boolean
  browser: string
  address: string
  since: string
  /** The kind of its key and the beginning of the thumbprint; absent without one. */
  key?: string
}

interface ApplicationLine {
  clientId: string
  name: string
  since: string
  binding: BindingWords
}

interface EventLine extends EventWords {
  at: string
  from?: string
}

/** Enough to tell two keys of one person apart. */
const shownOfThumbprint = 8

export function sessionLine(session: BrowserSession, current: string): SessionLine {
  const { uid, userAgent, address, signedInAt } = session
  const key = keyWords(session)
  return {
    uid,
    isThis: uid === current,
    browser: browserWords(userAgent),
    address,
    since: time(signedInAt),
    ...(key && { key }),
  }
}

function keyWords({ binding, tbh }: BrowserSession): string | undefined {
  const short = (thumbprint: string) => `${thumbprint.slice(0, shownOfThumbprint)}…`
  if (binding) return `${binding.alg} ${short(binding.jkt)}`
  return tbh ? `Token Binding ${short(tbh)}` : undefined
}

export function applicationLine(
  { clientId, grantedAt }: StoredGrant,
  client: ClientMetadata,
): ApplicationLine {
  return {
    clientId,
    name: client.client_name ?? clientId,
    since: time(grantedAt),
    binding: bindingWords(client.binding_method),
  }
}

export function eventLine({ kind, at, address, userAgent }: StoredSecurityEvent): EventLine {
  return {
    ...eventWords(kind),
    at: time(at),
    ...(address && { from: `${browserWords(userAgent ?? '')}, ${address}` }),
  }
}

/** One line for an hour, however often somebody tried. */
export function failureLine({ count, at, address, userAgent }: FailedSignIns): FailureLine {
  const times = count === 1 ? 'once' : `${count} times in an hour`
  return {
    words: `Somebody entered your email with a wrong password ${times}`,
    at: time(at),
    from: `${browserWords(userAgent)}, ${address || 'an unknown address'}`,
  }
}

const format = new Intl.DateTimeFormat('en-GB', {
  dateStyle: 'medium',
  timeStyle: 'short',
  timeZone: 'UTC',
})

function time(date: Date): string {
  return `${format.format(date)} UTC`
}
