import type { BrowserContext, Page } from 'playwright-core'
import type { Tap } from './gate-applications.ts'
import type { GateProgram } from './gate-program.ts'
import type { Finding, Runner } from './steps.ts'

/** What each application has of its own. */
export type ForEach<T> = Readonly<Record<'notes' | 'orders' | 'reports', T>>

export interface GateFixtures extends AsyncDisposable {
  readonly issuer: string
  readonly email: string
  readonly password: string
  /** Another person with an account. */
  readonly other: Readonly<{ email: string; password: string }>
  /** Seconds for which a copy of all cookies is good. */
  readonly windowS: number
  /** `notes` is old, `orders` checks the gate's signature, `reports` checks tokens itself. */
  readonly origins: ForEach<string>
  /** A site of an attacker, with a form for `notes`. */
  readonly evilOrigin: string
  /** Chromium, which binds sessions to keys. */
  readonly context: BrowserContext
  readonly gate: Pick<GateProgram, 'check' | 'start' | 'stop'>
  /** Leads the applications' names to the gate; follows no redirect, and adds no cookie. */
  readonly gateFetch: typeof globalThis.fetch
  /** Between the gate and each application. */
  readonly taps: ForEach<Tap>
  /** Where each application listens. */
  readonly applicationPorts: ForEach<number>
  /** A program that calls the API, by client credentials. */
  readonly stock: Readonly<{ clientId: string; secret: string }>
  /** What an operator does with `holdfast accounts change`. */
  readonly addToGroup: (group: string) => Promise<void>
}

/** What the parts of the story have to themselves. */
export interface Part {
  readonly fixtures: GateFixtures
  readonly runner: Runner
  readonly page: Page
}

/** A step that found what it looked for, or did not. */
export const found = (isThere: boolean, saw: string): Finding => ({
  got: isThere ? 'accept' : 'reject',
  saw,
})
