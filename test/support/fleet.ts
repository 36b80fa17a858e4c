import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import tls from 'node:tls'
import type { ClientMetadata } from 'oidc-provider'
import { freePort } from '../../src/net/free-port.ts'
import { createAuthority } from './certificates.ts'
import { type Finished, type Serving, serve } from './cli.ts'
import { deviceEnvironment, deviceGrant } from './device-flow.ts'
import { startProxy } from './proxies.ts'
import { startTestServer } from './server.ts'

/** A process of `holdfast serve`. */
export interface FleetNode {
  /** Ends it as the machine's fault would, or as an operator does. */
  end(signal: 'SIGKILL' | 'SIGTERM'): Promise<Finished>
  /** @param release the root of another one than this. */
  start(release?: string): Promise<void>
  signal(signal: NodeJS.Signals): void
  isReady(): Promise<boolean>
  /** Metrics, each summed over its labels. */
  measure(...names: string[]): Promise<number[]>
}

/** Several nodes of one identity provider behind HAProxy, by the configuration that ships. */
export interface Fleet extends AsyncDisposable {
  readonly issuer: string
  readonly nodes: readonly FleetNode[]
  /** A public client of the code flow and of the device flow, and a service with a secret. */
  readonly app: ClientMetadata
  readonly service: ClientMetadata
}

export interface FleetOptions {
  readonly databaseUrl: string
  readonly count: number
  readonly environment?: Record<string, string>
}

/** Every node reads its schema and keys from `databaseUrl`, which is migrated and filled first. */
export async function startFleet({
  databaseUrl,
  count,
  environment = {},
}: FleetOptions): Promise<Fleet> {
  await using opened = new AsyncDisposableStack()
  const cwd = await mkdtemp(path.join(tmpdir(), 'holdfast-fleet-'))
  opened.defer(() => rm(cwd, { recursive: true, force: true }))
  const ports = await Promise.all(Array.from({ length: count }, () => freePort()))
  const authority = await createAuthority()
  const proxy = opened.use(await startProxy('haproxy', { upstream: ports, authority }))
  tls.setDefaultCACertificates([...tls.getCACertificates('default'), proxy.ca])
  const shared = {
    DATABASE_URL: databaseUrl,
    HOLDFAST_DATA: cwd,
    HOLDFAST_DRAIN_SECONDS: '6',
    HOLDFAST_ISSUER: proxy.publicOrigin,
    HOLDFAST_LOG_LEVEL: 'error',
    // The load is one network.
    HOLDFAST_LOGIN_LIMIT: '100000',
    HOLDFAST_LONGEST_WAIT_MS: '60000',
    HOLDFAST_REFRESH_REUSE_SECONDS: '60',
    HOLDFAST_REFUSAL_LIMIT: '100000',
    HOLDFAST_AUTHORIZE_LIMIT: '100000',
    HOLDFAST_PAR_LIMIT: '100000',
    HOLDFAST_DEVICE_PAGE_LIMIT: '100000',
    HOLDFAST_SECRET: 'the secret of this fleet, and of nothing else',
    HOLDFAST_TLS: 'off',
    HOLDFAST_TRUSTED_PROXIES: '127.0.0.1',
    ...deviceEnvironment,
    ...environment,
  }
  const clients = await fill(shared)
  const nodes = await Promise.all(
    ports.map(async (port) => {
      const operators = `127.0.0.1:${await freePort()}`
      return createNode(operators, {
        cwd,
        env: { ...shared, HOLDFAST_PORT: String(port), HOLDFAST_METRICS: operators },
      })
    }),
  )
  for (const node of nodes) opened.defer(() => node.close())
  await Promise.all(nodes.map((node) => node.start()))
  const open = opened.move()
  return {
    issuer: proxy.publicOrigin,
    nodes,
    ...clients,
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}

/** Adds an account, the API and two clients, by a server outside the fleet. */
async function fill(environment: Record<string, string>) {
  await using server = await startTestServer(environment)
  const app = await server.addClient({
    grant_types: ['authorization_code', 'refresh_token', deviceGrant],
  })
  const service = await server.addClient({
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    token_endpoint_auth_method: 'client_secret_basic',
  })
  return { app, service }
}

function createNode(operators: string, environment: { cwd: string; env: Record<string, string> }) {
  let serving: Serving | undefined
  const end = async (signal: NodeJS.Signals): Promise<Finished> => {
    if (!serving) throw new Error('the node is not running')
    const ending = serving
    serving = undefined
    return ending.end(signal)
  }
  return {
    end,
    async start(release?: string) {
      serving = await serve({ ...environment, release })
    },
    signal: (signal: NodeJS.Signals) => serving?.signal(signal),
    async isReady() {
      const answer = await fetch(`http://${operators}/readyz`).catch(() => undefined)
      return answer?.ok === true
    },
    async measure(...names: string[]) {
      const text = await (await fetch(`http://${operators}/metrics`)).text()
      return names.map((name) => {
        const values = [...text.matchAll(new RegExp(`^${name}(?:\\{.*\\})? (\\S+)$`, 'gm'))]
        if (values.length === 0) throw new Error(`there is no metric ${name}`)
        return values.reduce((sum, [, value]) => sum + Number(value), 0)
      })
    },
    async close() {
      if (serving) await end('SIGKILL')
    },
  }
}
