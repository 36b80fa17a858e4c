import { Agent } from 'node:https'
import tls from 'node:tls'
import Koa from 'koa'
import pg from 'pg'
import { chromium } from 'playwright-core'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { generatePassword } from '../../src/accounts/password.ts'
import { freePort } from '../../src/net/free-port.ts'
import { agentFetch } from '../../test/support/agent-fetch.ts'
import {
  boundArguments,
  certificateOf,
  chromiumArguments,
  chromiumPath,
} from '../../test/support/chromium-program.ts'
import { type Environment, openEnvironment } from './environment.ts'
import {
  startOldApplication,
  startResourceServer,
  startSignedApplication,
  startTap,
} from './gate-applications.ts'
import type { GateFixtures } from './gate-fixtures.ts'
import { prepareGate } from './gate-program.ts'

/** Short, so that nobody waits ten minutes for the end of the scenario. */
const windowS = 8

/** The origins of the applications, as people and clients know them. */
const origins = {
  notes: 'https://notes.example',
  orders: 'https://orders.example',
  reports: 'https://reports.example',
} as const
const names = ['notes', 'orders', 'reports'] as const

/** A gate in front of an old application and of two new ones, and Chromium in front of the gate. */
export async function setUpGate(report: (text: string) => void): Promise<GateFixtures> {
  await using opened = new AsyncDisposableStack()
  const [port, operationsPort] = [await freePort(), await freePort()]
  const gateFetch = agentFetch(new GateAgent(port))
  const environment = opened.use(
    await openEnvironment(report, {
      // The server's own guard refuses addresses of its own network, such as those of this demo.
      guardedFetch: async (url, { form } = {}) => {
        const { status } = await gateFetch(url, { method: 'POST', body: form ?? null })
        return { status, headers: new Map(), body: new Uint8Array() }
      },
    }),
  )
  const { issuer, email, password } = environment

  report('applications')
  const taps = {
    notes: opened.use(await startTap()),
    orders: opened.use(await startTap()),
    reports: opened.use(await startTap()),
  }
  const applications = {
    notes: opened.use(await startOldApplication()),
    orders: opened.use(
      await startSignedApplication({
        audience: origins.orders,
        jwksUri: `http://127.0.0.1:${operationsPort}/.well-known/holdfast-gate/jwks.json`,
      }),
    ),
    reports: opened.use(
      await startResourceServer({
        issuer,
        audience: origins.reports,
        publicOrigin: `http://127.0.0.1:${taps.reports.port}`,
      }),
    ),
  }
  for (const name of names) taps[name].leadTo(applications[name].port)
  const stock = await registerClients(environment)
  const accounts = createAccounts({ store: environment.accounts })
  const other = { email: 'mallory@example.com', password: generatePassword() }
  await accounts.add({ ...other, name: 'Mallory' })

  report('gate')
  const gate = opened.use(
    await prepareGate(environment, {
      ...{ port, operationsPort, origins, windowS },
      database: await createDatabase(environment.variables.DATABASE_URL),
      upstreams: {
        notes: taps.notes.port,
        orders: taps.orders.port,
        reports: taps.reports.port,
      },
    }),
  )
  await gate.start()

  report('Chromium')
  const evil = opened.use(await environment.serve('evil.example', () => createEvilSite()))
  const certificates = await Promise.all(
    [
      { port: Number(new URL(issuer).port), name: 'localhost' },
      { port: Number(new URL(evil.origin).port), name: 'evil.example' },
      { port, name: 'notes.example' },
    ].map((each) => certificateOf(each.port, each.name)),
  )
  const hosts = Object.fromEntries(
    names.map((name) => [new URL(origins[name]).hostname, `127.0.0.1:${port}`]),
  )
  const browser = await chromium.launch({
    executablePath: chromiumPath ?? '',
    args: [
      ...chromiumArguments({ ...hosts, 'evil.example': '127.0.0.1' }),
      ...boundArguments(certificates),
    ],
  })
  opened.defer(() => browser.close())
  const context = await browser.newContext()
  const open = opened.move()
  return {
    ...{ issuer, email, password, other, windowS, origins, taps, stock, gate, gateFetch, context },
    evilOrigin: evil.origin,
    applicationPorts: {
      notes: applications.notes.port,
      orders: applications.orders.port,
      reports: applications.reports.port,
    },
    addToGroup: async (group) => void (await accounts.change(email, { groups: [group] })),
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}

/** Leads the names of the applications to the gate. */
class GateAgent extends Agent {
  readonly #port: number

  constructor(port: number) {
    super()
    this.#port = port
  }

  override createConnection(options: tls.ConnectionOptions) {
    const isGate = options.servername?.endsWith('.example') ?? false
    return tls.connect({ ...options, ...(isGate && { port: this.#port }) })
  }
}

/** The gate's clients, one for each application, and a program that calls the API. */
async function registerClients({ addResource, register }: Environment) {
  for (const name of names) {
    await register({
      client_id: name,
      client_name: name,
      application_type: 'web',
      redirect_uris: [`${origins[name]}/.gate/callback`],
      post_logout_redirect_uris: [`${origins[name]}/.gate/signed-out`],
      backchannel_logout_uri: `${origins[name]}/.gate/backchannel-logout`,
      grant_types: ['authorization_code', 'refresh_token'],
      token_endpoint_auth_method: 'none',
      session_policy: { federation: true },
    })
  }
  await addResource(origins.orders, ['read', 'admin'])
  await addResource(origins.reports, ['read'])
  const { client_id: clientId, client_secret: secret = '' } = await register({
    client_id: 'stock',
    client_name: 'stock',
    redirect_uris: [],
    response_types: [],
    grant_types: ['client_credentials'],
  })
  return { clientId, secret }
}

/** The gate has a database of its own, in the same PostgreSQL. */
async function createDatabase(connectionString: string): Promise<string> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  try {
    await client.query('create database gate')
  } finally {
    await client.end()
  }
  const url = new URL(connectionString)
  url.pathname = '/gate'
  return url.href
}

/** A page of another site, which sends a form to the old application by the browser of its visitor. */
function createEvilSite(): Koa {
  const site = new Koa()
  site.use((ctx) => {
    ctx.type = 'html'
    ctx.body = `<!doctype html><form method="post" action="${origins.notes}/notes">
<input name="text" value="written by evil.example"><button>Win a prize</button></form>`
  })
  return site
}
