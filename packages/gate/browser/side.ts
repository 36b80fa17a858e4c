/** What the gate has for the browsers of one application, made once for each configuration. */
import type { KeyObject } from 'node:crypto'
import type { Fetch, ReplayStore } from '@holdfast/verify'
import { createDbscSessions, type DbscSessions } from '@holdfast/verify/dbsc'
import type { ApplicationConfig } from '../config.ts'
import type { GateEventListener } from '../events.ts'
import { networkOf } from '../peers.ts'
import type { Policy } from '../policy.ts'
import { Refusal } from '../refusal.ts'
import type { Streams } from '../streams.ts'
import { boundCookie } from './cookies.ts'
import { createKeptForms, type KeptForms } from './kept-forms.ts'
import { createProvider, type Provider } from './provider.ts'
import { gatePath } from './requests.ts'
import type { Sealer } from './sealing.ts'
import { createSessionCheck, type SessionCheck } from './session-check.ts'
import type { RecentSessions, SessionStore } from './sessions.ts'
import { createSignIns, type SignIns } from './sign-in.ts'
import { createUpstreamTokens, type UpstreamTokens } from './upstream-tokens.ts'

/** What all applications of a gate share. */
export type BrowserEnvironment = Readonly<{
  sealer: Sealer
  sessions: SessionStore
  recent: RecentSessions
  replay: ReplayStore
  report: GateEventListener
  streams: Streams
  /** For sign-ins that begin, and for those that end: beginning many keeps nobody from ending one. */
  starts: Places
  ends: Places
  now: () => number
  fetch: Fetch | undefined
}>

/** How many requests ask the provider at one time. One network has half of the places at most. */
export class Places {
  readonly #limit: number
  readonly #taken = new Map<string, number>()
  #all = 0

  constructor(limit: number) {
    this.#limit = limit
  }

  /** Asks for a client at this address. @throws {@link Refusal} `busy` */
  async run<T>(address: string, ask: () => Promise<T>): Promise<T> {
    const network = networkOf(address)
    const own = this.#taken.get(network) ?? 0
    if (this.#all >= this.#limit || own >= Math.ceil(this.#limit / 2)) throw new Refusal('busy')
    this.#all += 1
    this.#taken.set(network, own + 1)
    try {
      return await ask()
    } finally {
      this.#all -= 1
      const left = (this.#taken.get(network) ?? 1) - 1
      if (left > 0) this.#taken.set(network, left)
      else this.#taken.delete(network)
    }
  }
}

/** The settings of an application's sign-in. */
export type OpenidConfig = NonNullable<ApplicationConfig['openid']> & Readonly<{ issuer: string }>

/** The browsers of one application. */
export type Side = BrowserEnvironment &
  Readonly<{
    config: ApplicationConfig
    openid: OpenidConfig
    policy: Policy
    provider: Provider
    dbsc: DbscSessions
    check: SessionCheck
    signIns: SignIns
    forms: KeptForms
    tokens: UpstreamTokens
    renewals: Renewals
  }>

/** While the provider cannot be asked, nobody is sent there to renew a session. */
export class Renewals {
  #pausedUntilMs = 0

  pause(nowMs: number): void {
    this.#pausedUntilMs = nowMs + 60_000
  }

  arePaused(nowMs: number): boolean {
    return nowMs < this.#pausedUntilMs
  }
}

/** Paths at which the gate itself answers. */
export const paths = Object.freeze({
  signIn: `${gatePath}/sign-in`,
  callback: `${gatePath}/callback`,
  continue: `${gatePath}/continue`,
  signOut: `${gatePath}/sign-out`,
  signedOut: `${gatePath}/signed-out`,
  logout: `${gatePath}/backchannel-logout`,
  registration: `${gatePath}/dbsc/registration`,
  refresh: `${gatePath}/dbsc/refresh`,
})

/** Makes the side of an application that has `openid`. */
export function createSide(
  config: ApplicationConfig,
  openid: OpenidConfig,
  {
    policy,
    clientKey,
    environment,
  }: Readonly<{
    policy: Policy
    clientKey: KeyObject | undefined
    environment: BrowserEnvironment
  }>,
): Side {
  const { origin } = config
  const { sealer, sessions: store, recent, report, now, fetch } = environment
  const { issuer, clientId, scopes, resource } = openid
  const redirectUri = origin + paths.callback
  const client = { issuer, clientId, clientKey, scopes, resource, redirectUri, fetch }
  const provider = createProvider(client, now)
  const dbsc = createBindings(origin, openid, environment)
  const [idleMs, proofMs] = [openid.idleS * 1000, openid.proofS * 1000]
  return Object.freeze({
    ...environment,
    ...{ config, openid, policy, provider, dbsc },
    check: createSessionCheck({ origin, sealer, store, recent, dbsc, idleMs, proofMs, now }),
    signIns: createSignIns({ origin, redirectUri, provider, sealer, now }),
    forms: createKeptForms({ origin, sealer, now }),
    tokens: createUpstreamTokens({ origin, store, recent, provider, sealer, now, report }),
    renewals: new Renewals(),
  })
}

/** Sessions are bound to keys of browsers at the origin of the application itself. */
function createBindings(
  origin: string,
  { issuer, proofS }: OpenidConfig,
  { sealer, sessions, recent, replay, now, report }: BrowserEnvironment,
): DbscSessions {
  return createDbscSessions({
    origin,
    secret: () => sealer.derive(`dbsc ${origin}`),
    replays: replay,
    lifetime: proofS,
    cookieName: boundCookie,
    registrationPath: paths.registration,
    refreshPath: paths.refresh,
    // Pages of the gate wait for no proof; they ask for one where they need it.
    excludedPaths: [gatePath],
    wellKnown: () => ({ provider_origin: new URL(issuer).origin }),
    onEvent: (event) => {
      const { session } = event
      if (event.type === 'bound') {
        report({ type: 'session_bound', application: origin, session, jkt: event.jkt })
      } else if (event.type === 'refused') {
        report({ type: 'proof_refused', application: origin, session, code: event.code })
      }
    },
    now,
    bindings: {
      async insert(session, { jkt, alg, jwk }) {
        const isBound = await sessions.bind(session, { jkt, alg, jwk, atMs: now() })
        recent.delete(session)
        return isBound
      },
      find: async (session) => (await sessions.find(session, now()))?.key,
    },
  })
}
