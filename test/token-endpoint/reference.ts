/** The engine's own token endpoint, as it comes, on the data of a running server. */
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import Provider, { errors } from 'oidc-provider'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { knownAcrs } from '../../src/accounts/acr.ts'
import { claimsByScope, createFindAccount } from '../../src/accounts/claims.ts'
import { sessionBindingClaim } from '../../src/bindings/session-claims.ts'
import { matchesSecret } from '../../src/clients/client-secret.ts'
import { lifetimes } from '../../src/config/lifetimes.ts'
import { initialKeys } from '../../src/engine/engine-keys.ts'
import { proofAlgorithms } from '../../src/engine/proof-algorithms.ts'
import { createEngineAdapter } from '../../src/storage/engine-adapter.ts'
import { createEngineTimes } from '../../src/storage/engine-times.ts'
import type { TestServer } from '../support/server.ts'

export interface Sent {
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

export interface Received {
  readonly status: number
  readonly headers: Readonly<Record<string, unknown>>
  // biome-ignore lint/suspicious/noExplicitAny: JSON of any shape, which the test takes apart
  readonly body: any
}

/** Posts a form to `/token` at a port, as if it were the issuer's. */
export function send(
  server: Pick<TestServer, 'issuer'>,
  port: number,
  sent: Sent,
): Promise<Received> {
  const { host } = new URL(server.issuer)
  return new Promise((resolve, reject) => {
    const outgoing = request(
      {
        port,
        host: '127.0.0.1',
        path: '/token',
        method: 'POST',
        headers: {
          host,
          'content-type': 'application/x-www-form-urlencoded',
          accept: 'application/json',
          ...sent.headers,
        },
      },
      (incoming) => {
        const chunks: Buffer[] = []
        incoming.on('data', (chunk) => chunks.push(chunk))
        incoming.on('error', reject)
        incoming.on('end', () => {
          const body = JSON.parse(Buffer.concat(chunks).toString())
          resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body })
        })
      },
    )
    outgoing.on('error', reject)
    outgoing.end(sent.body)
  })
}

/** Starts it. Its models are those of the package; its storage and its keys are the server's. */
export async function startReference(
  server: TestServer,
): Promise<{ port: number } & AsyncDisposable> {
  const { storage, issuer } = server
  const { jwks, cookieKeys, nonceSecret } = initialKeys(server.keys)
  const provider = new Provider(issuer, {
    adapter: createEngineAdapter({
      ...storage,
      times: createEngineTimes({ now: server.keys.now }),
      userCodes: { digest: (code) => code, candidates: (code) => [code] },
    }),
    jwks,
    cookies: { keys: cookieKeys },
    findAccount: createFindAccount(createAccounts({ store: storage.accounts }).findActive),
    claims: { ...claimsByScope, amr: null },
    scopes: ['openid', 'offline_access', ...Object.keys(claimsByScope)],
    acrValues: [...knownAcrs],
    routes: { token: '/token' },
    features: {
      devInteractions: { enabled: false },
      claimsParameter: { enabled: true },
      externalSigningSupport: { enabled: true, ack: 'experimental-01' },
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true },
      dPoP: { enabled: true, nonceSecret },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: async (_ctx, identifier) => {
          const found = await storage.resourceServers.find(identifier)
          if (!found) throw new errors.InvalidTarget('unknown resource')
          return {
            scope: found.scopes.join(' '),
            audience: identifier,
            accessTokenFormat: 'jwt' as const,
            jwt: { sign: { alg: 'ES256' } },
          }
        },
      },
    },
    responseTypes: ['code', 'code id_token'],
    allowOmittingSingleRegisteredRedirectUri: false,
    clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post', 'private_key_jwt'],
    clientDefaults: { id_token_signed_response_alg: 'ES256' },
    enabledJWA: {
      clientAuthSigningAlgValues: [...proofAlgorithms],
      dPoPSigningAlgValues: [...proofAlgorithms],
    },
    extraClientMetadata: {
      properties: [
        'binding_method',
        'client_access_token_token_binding_supported',
        'client_refresh_token_token_binding_supported',
      ],
    },
    clockTolerance: 5,
    ttl: lifetimes,
    rotateRefreshToken: true,
    issueRefreshToken: async (_ctx, client) => client.grantTypeAllowed('refresh_token'),
    extraTokenClaims: async (_ctx, token) => {
      const { sessionUid } = token as { sessionUid?: string }
      if (sessionUid === undefined) return undefined
      const session = await storage.browserSessions.find(sessionUid)
      return { ...sessionBindingClaim(session) }
    },
  })
  provider.Client.prototype.compareClientSecret = function compare(actual: string) {
    return matchesSecret(actual, this.clientSecret)
  }
  const listener = createServer(provider.callback())
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
  return {
    port: (listener.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      listener.closeAllConnections()
      await new Promise((resolve) => listener.close(resolve))
    },
  }
}
