/** What the gate has for the browsers of one application, made once for each configuration. */
import type { KeyObject } from 'node:crypto'
import type { Fetch, ReplayStore } from '@holdfast/verify'
import { createDbscSessions, type DbscEvent, type DbscSessions } from '@holdfast/verify/dbsc'
import { createPageKeys, type PageKeys } from '@holdfast/verify/page-keys'
import type { ApplicationConfig } from '../config.ts'
import type { GateEventListener } from '../events.ts'
import { networkOf } from '../peers.ts'
import type { Policy } from '../policy.ts'
import { Refusal } from '../refusal.ts'
import type { Streams } from '../streams.ts'
import { boundCookie, pageKeyCookie } from './cookies.ts'
import { createKeptForms, type KeptForms } from './kept-forms.ts'
import { createProvider, type Provider } from './provider.ts'
import { gatePath } from './requests.ts'
import type { Sealer } from './sealing.ts'
import { createSessionCheck, type SessionCheck } from './session-check.ts'
import type { RecentSessions, SessionKey, SessionStore } from './sessions.ts'
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
    /** For browsers without DBSC; undefined where `openid.pageKey` is off. */
    pageKeys: PageKeys | undefined
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

/** Seconds after its sign-in in which a page can register a key. */
const pageKeyRegistrationS = 60

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
  pageKeyScript: `${gatePath}/page-key.js`,
  pageKeyRegistration: `${gatePath}/page-key/registration`,
  pageKeyProof: `${gatePath}/page-key/proof`,
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
  const pageKeys = openid.pageKey ? createPageKeysOf(origin, openid, environment) : undefined
  const [idleMs, proofMs] = [openid.idleS * 1000, openid.proofS * 1000]
  return Object.freeze({
    ...environment,
    ...{ config, openid, policy, provider, dbsc, pageKeys },
    check: createSessionCheck({
      ...{ origin, sealer, store, recent, dbsc, pageKeys, idleMs, proofMs, now },
    }),
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
  environment: BrowserEnvironment,
): DbscSessions {
  const { sealer, sessions, recent, replay, now } = environment
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
    onEvent: reportKeys(origin, 'dbsc', environment),
    now,
    bindings: {
      async insert(session, { jkt, alg, jwk }) {
        const key = { method: 'dbsc', jkt, alg, jwk, atMs: now() } as const
        const isBound = await sessions.bind(session, key)
        recent.delete(session)
        return isBound
      },
      find: async (session) => {
        const { key } = (await sessions.find(session, now())) ?? {}
        return key?.method === 'page-key' ? undefined : key
      },
    },
  })
}

/** Reports what becomes of the keys of sessions. */
function reportKeys(
  application: string,
  method: SessionKey['method'],
  { report }: Pick<BrowserEnvironment, 'report'>,
): (event: DbscEvent) => void {
  return (event) => {
    const { type, session } = event
    if (type === 'bound') {
      report({ type: 'session_bound', application, session, jkt: event.jkt, method })
    } else if (type === 'refused') {
      report({ type: 'proof_refused', application, session, code: event.code, method })
    }
  }
}

/** Sessions of browsers without DBSC are bound to keys of pages of the gate. */
function createPageKeysOf(
  origin: string,
  { proofS }: OpenidConfig,
  environment: BrowserEnvironment,
): PageKeys {
  const { sealer, sessions, replay, now } = environment
  return createPageKeys({
    origin,
    secret: () => sealer.derive(`page key ${origin}`),
    replays: replay,
    lifetime: proofS,
    pageLifetime: pageKeyRegistrationS,
    cookieName: pageKeyCookie,
    refreshPath: paths.pageKeyProof,
    onEvent: reportKeys(origin, 'page-key', environment),
    now,
    async find(session) {
      const { key } = (await sessions.find(session, now())) ?? {}
      return key?.method === 'page-key' ? key : undefined
    },
  })
}
