import { AsyncLocalStorage } from 'node:async_hooks'
import type { Account } from '../accounts/account-store.ts'
import type { StoredArtifact } from './artifact-table.ts'
import type { BrowserSession } from './browser-session-table.ts'

/** Grants by their identifier, sessions by their uid, accounts by their id. */
type Readable<Kind extends string> = Kind extends 'Account'
  ? Account
  : Kind extends 'BrowserSession'
    ? BrowserSession
    : StoredArtifact

const current = new AsyncLocalStorage<Map<string, Account | BrowserSession | StoredArtifact>>()

/**
 * Runs a request for tokens so that one statement can find the credential together with what the
 * engine asks for next. What was read ahead belongs to this request alone and is handed out once:
 * whoever asks again asks the database.
 */
export function withReadAhead<T>(work: () => Promise<T>): Promise<T> {
  return current.run(new Map(), work)
}

/** Outside of a request for tokens nothing is kept. */
export function keepAhead<Kind extends 'Grant' | 'Session' | 'BrowserSession' | 'Account'>(
  kind: Kind,
  key: string,
  value: Readable<Kind>,
): void {
  current.getStore()?.set(`${kind} ${key}`, value)
}

export function takeAhead<Kind extends string>(
  kind: Kind,
  key: string,
): Readable<Kind> | undefined {
  const ahead = current.getStore()
  const value = ahead?.get(`${kind} ${key}`)
  ahead?.delete(`${kind} ${key}`)
  return value as Readable<Kind> | undefined
}

/**
 * What was read ahead and no grant changes: a request asks of its browser's session whether it is
 * alive, and then what its tokens say of it, and both are to be of one moment.
 */
export function seeAhead(kind: 'BrowserSession', key: string): BrowserSession | undefined {
  return current.getStore()?.get(`${kind} ${key}`) as BrowserSession | undefined
}
