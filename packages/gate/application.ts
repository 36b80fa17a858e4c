/** One application behind the gate: its verifier, its rules and its upstream, made once. */
import type { KeyObject } from 'node:crypto'
import { Agent } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import type { Fetch } from '@holdfast/verify'
import { createVerifier, type ReplayStore, type Verifier } from '@holdfast/verify'
import { type BrowserEnvironment, createSide, type Side } from './browser/side.ts'
import type { ApplicationConfig, Config } from './config.ts'
import type { GateEventListener } from './events.ts'
import type { Upstream } from './forward.ts'
import { createPolicy, type Policy } from './policy.ts'

/** What the gate has made of the configuration of one application. */
export type Application = Readonly<{
  config: ApplicationConfig
  /** The name by which assertions are for this application and no other. */
  audience: string
  verifier: Verifier
  policy: Policy
  upstream: Upstream
  /** For browsers; undefined for an application without `openid`. */
  side: Side | undefined
  trailers: ReadonlySet<string>
  requestFields: ReadonlySet<string>
}>

/** Contents of the files that the configuration of an upstream names, PEM. */
export type UpstreamFiles = Readonly<{ ca?: string; cert?: string; key?: string }>

/** Leaves the `jti` to the application: there the proof is used up. */
const elsewhere: ReplayStore = Object.freeze({ shared: true, consume: () => 'fresh' as const })

/**
 * Connections to one upstream at most, and those that are kept for later: for less than the five
 * seconds after which Node and others close them, so that no request meets one that was just closed.
 */
const sockets = { maxSockets: 512, maxFreeSockets: 64, timeout: 4000 }

/** Makes an application of its configuration. */
export function createApplication(
  config: ApplicationConfig,
  { issuer }: Pick<Config, 'issuer'>,
  environment: Readonly<{
    replay: ReplayStore
    files: UpstreamFiles
    now: () => number
    fetch: Fetch | undefined
    onEvent: GateEventListener
    clientKey: KeyObject | undefined
    browsers: BrowserEnvironment | undefined
  }>,
): Application {
  const { replay, files, now, fetch, onEvent, clientKey, browsers } = environment
  const { openid } = config
  const policy = createPolicy(config.routes, config.paths)
  const url = new URL(config.upstream.url)
  const agent =
    url.protocol === 'https:'
      ? new HttpsAgent({ keepAlive: true, ...sockets, ...files })
      : new Agent({ keepAlive: true, ...sockets })
  const fields = new Set(config.requestHeaders)
  return Object.freeze({
    config,
    audience: config.audience ?? config.origin,
    verifier: createVerifier({
      issuer: issuer.url,
      ...(issuer.jwksUri !== undefined && { jwksUri: issuer.jwksUri }),
      ...(fetch && { fetch }),
      ...(config.methods && { methods: config.methods }),
      audience: config.audience ?? config.origin,
      publicOrigin: config.origin,
      replay: config.mode === 'pass' ? elsewhere : replay,
      onEvent: (event) => onEvent({ ...event, application: config.origin }),
      now,
    }),
    policy,
    side:
      openid && browsers
        ? createSide(
            config,
            { ...openid, issuer: openid.issuer ?? issuer.url },
            { policy, clientKey, environment: browsers },
          )
        : undefined,
    upstream: { url, agent, timeouts: config.timeouts },
    trailers: fields,
    requestFields: fields,
  })
}
