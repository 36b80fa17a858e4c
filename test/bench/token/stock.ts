import { generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import createKnex from 'knex'
import { type Adapter, type Configuration, type JWK, Provider } from 'oidc-provider'
import MemoryAdapter from 'oidc-provider/lib/adapters/memory_adapter.js'
import Lru from 'oidc-provider/lib/helpers/lru.js'
import { makeCredentials } from './credentials.ts'
import { createKnexAdapter, createTables } from './knex-adapter.ts'
import {
  api,
  type Candidate,
  type CandidateOptions,
  type Client,
  clientIdOf,
  clientMetadata,
  clients,
  methods,
} from './scenario.ts'

/** Entries of the memory adapter: as it comes it forgets codes of a round before they are used. */
const mostStored = 10_000

/** oidc-provider with the adapter it comes with, which keeps more than a thousand entries here. */
export function startMemory(options: CandidateOptions): Promise<Candidate> {
  const store = new Lru({ maxSize: mostStored })
  const adapter = (model: string): Adapter => new MemoryAdapter(model, store)
  return startStock(options, { adapter, clients: metadataOf(options) }, () => 0)
}

/** oidc-provider with an adapter as one writes it with knex. */
export async function startKnex(options: CandidateOptions): Promise<Candidate> {
  const knex = createKnex({ client: 'pg', connection: options.databaseUrl, pool: { max: 10 } })
  let statements = 0
  knex.on('query', () => {
    statements += 1
  })
  await createTables(knex)
  const adapter = createKnexAdapter(knex)
  for (const client of metadataOf(options))
    await adapter('Client').upsert(client.client_id, client, 0)
  const candidate = await startStock(options, { adapter }, () => statements)
  return {
    ...candidate,
    async [Symbol.asyncDispose]() {
      await candidate[Symbol.asyncDispose]()
      await knex.destroy()
    },
  }
}

const secret = 'a secret of the benchmark, of some length'

function metadataOf({ clientKeys }: CandidateOptions) {
  return clients.map((client) => {
    // `binding_method` is a word of Holdfast: without a binding the engine's tokens are bearer tokens.
    const { binding_method: _, ...metadata } = clientMetadata(client, clientKeys)
    return hasSecret(client) ? { ...metadata, client_secret: secret } : metadata
  })
}

const hasSecret = ({ method }: Client) => method.startsWith('client_secret')

const secrets = Object.fromEntries(clients.map((client) => [clientIdOf(client), secret]))

/**
 * The same features and lifetimes as Holdfast, and none of its lookups: accounts and APIs are
 * constants here, so that only the engine's own storage is compared.
 */
async function startStock(
  { port }: CandidateOptions,
  configuration: Configuration,
  countStatements: () => number,
): Promise<Candidate> {
  const issuer = `http://127.0.0.1:${port}`
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const provider = new Provider(issuer, {
    jwks: { keys: [privateKey.export({ format: 'jwk' }) as JWK] },
    scopes: ['openid', 'offline_access'],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true },
      introspection: { enabled: true },
      mTLS: {
        enabled: true,
        certificateBoundAccessTokens: true,
        selfSignedTlsClientAuth: true,
        getCertificate: (ctx) => certificateOf(ctx.get('client-cert')),
      },
      dPoP: { enabled: true, nonceSecret: randomBytes(32) },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({
          scope: 'read',
          audience: api,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
    findAccount: (_ctx, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
    clientAuthMethods: [...methods],
    cookies: { keys: ['a key of the benchmark'] },
    responseTypes: ['code'],
    rotateRefreshToken: true,
    ttl: {
      AccessToken: 600,
      AuthorizationCode: 60,
      DeviceCode: 600,
      ClientCredentials: 600,
      Grant: 7_776_000,
      RefreshToken: 1_209_600,
      Interaction: 3600,
      Session: 1_209_600,
      IdToken: 600,
    },
    ...configuration,
    routes: { token: '/token', introspection: '/introspect' },
  })
  const server = createServer(provider.callback())
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  return {
    issuer,
    secrets,
    makeCredentials: (order) => makeCredentials(provider, order),
    countStatements,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

/** As a proxy names it (RFC 9440). */
function certificateOf(header: string): X509Certificate | undefined {
  return header ? new X509Certificate(Buffer.from(header.slice(1, -1), 'base64')) : undefined
}
