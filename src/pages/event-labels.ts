import type { SecurityEventKind } from '../storage/security-event-table.ts'

const WORDS: Record<SecurityEventKind, string> = {
  signed_in: 'You signed in',
  session_bound: 'A sign-in was locked to a key of its browser',
  session_bound_late:
    'A sign-in was locked to a key of its browser, after an app had used it without one',
  session_unproven: 'A sign-in was refused: its cookie came without the key of its browser',
  proof_refused: 'A wrong proof of the key of your browser was refused',
  session_ended: 'A sign-in ended',
  other_sessions_ended: 'You ended all your other sign-ins',
  access_ended: 'You ended the access of an app',
  password_changed: 'Your password was changed, and every sign-in ended',
  account_disabled: 'Your account was disabled, and every sign-in ended',
  all_sessions_ended: 'An operator ended all your sign-ins',
}

const WARNINGS: ReadonlySet<SecurityEventKind> = new Set(['session_unproven', 'proof_refused'])

export interface EventWords {
  readonly words: string
  readonly warning: boolean
}

export function eventWords(kind: SecurityEventKind): EventWords {
  return { words: WORDS[kind], warning: WARNINGS.has(kind) }
}
