import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import createKnex from 'knex'
import { type Configuration, type JWK, Provider } from 'oidc-provider'
import { createKnexAdapter, createTables } from './knex-adapter.ts'
import { makeRefreshTokens } from './refresh-tokens.ts'
import { api, type Candidate, type CandidateOptions, clientMetadata } from './scenario.ts'

/** oidc-provider with the adapter it comes with. */
export function startMemory(options: CandidateOptions): Promise<Candidate> {
  return startStock(options, { clients: clients(options) }, () => 0)
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
  for (const client of clients(options)) await adapter('Client').upsert(client.client_id, client, 0)
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

function clients({ clientJwk }: CandidateOptions) {
  return [
    { ...clientMetadata('basic', clientJwk), client_secret: secret },
    clientMetadata('private_key_jwt', clientJwk),
  ]
}

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
    clientAuthMethods: ['client_secret_basic', 'private_key_jwt'],
    cookies: { keys: ['a key of the benchmark'] },
    responseTypes: ['code'],
    rotateRefreshToken: true,
    ttl: {
      AccessToken: 600,
      ClientCredentials: 600,
      Grant: 7_776_000,
      RefreshToken: 1_209_600,
      Interaction: 3600,
      Session: 1_209_600,
      IdToken: 600,
    },
    ...configuration,
    routes: { token: '/token' },
  })
  const server = createServer(provider.callback())
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  return {
    issuer,
    clientSecret: secret,
    makeRefreshTokens: (...parameters) => makeRefreshTokens(provider, ...parameters),
    countStatements,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
