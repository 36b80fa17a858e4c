/** The endpoints for machines, put together. */
import { randomFillSync } from 'node:crypto'
import type Provider from 'oidc-provider'
import { accountClaims } from '../accounts/claims.ts'
import type { ProofCheck } from '../bindings/dpop.ts'
import type { ClientAuthorities } from '../certificates/client-authorities.ts'
import { standardScopesOf } from '../clients/client-scopes.ts'
import { lifetimes } from '../config/lifetimes.ts'
import type { ProtocolConfig } from '../config/protocol-config.ts'
import { createResourceOfScopes } from '../engine/client-defaults.ts'
import { pollInterval } from '../engine/device-grant.ts'
import type { KeyRing } from '../keys/key-ring.ts'
import { type ArtifactTable, artifactKey } from '../storage/artifact-table.ts'
import type { ClaimMappingTable } from '../storage/claim-mapping-table.ts'
import type { ClientTable } from '../storage/client-table.ts'
import type { CredentialLookup } from '../storage/credential-lookup.ts'
import type { DevicePollTable } from '../storage/device-poll-table.ts'
import type { ReplayTable } from '../storage/replay-table.ts'
import type { ResourceServerTable } from '../storage/resource-server-table.ts'
import type { Standby } from '../storage/standby.ts'
import { authorizationCodeGrant } from './authorization-code.ts'
import { backchannelRequestGrant } from './backchannel-request.ts'
import type { ClientAuthenticationOptions } from './client-authentication.ts'
import { clientCredentialsGrant } from './client-credentials.ts'
import { deviceCodeGrant } from './device-code.ts'
import type { Finders, Grant } from './grant.ts'
import { createIntrospection } from './introspection.ts'
import type { TokenPolicy } from './issue.ts'
import { createOwnTokenReader, createSigner } from './own-tokens.ts'
import { createTokenFinder } from './presented-token.ts'
import { refreshTokenGrant } from './refresh-token.ts'
import { isRefusal } from './refusal.ts'
import { createClientFinder } from './registered-clients.ts'
import { createResourceFinder } from './registered-resources.ts'
import { createRevocation } from './revocation.ts'
import { findOnStandbyFirst } from './standby-introspection.ts'
import type { Found, StoredGrant, StoredSource } from './stored.ts'
import { createTokenEndpoint } from './token-endpoint.ts'
import type { Endpoint } from './token-route.ts'

export interface EndpointsOptions {
  readonly issuer: string
  /** Whose clients are served: the metadata that it fills in is that of its release. */
  readonly engine: Provider
  readonly keys: Pick<KeyRing, 'view'>
  readonly proofs: ProofCheck
  readonly tables: {
    readonly artifacts: ArtifactTable
    readonly claimMappings: ClaimMappingTable
    readonly clients: ClientTable
    readonly credentials: CredentialLookup
    readonly replays: ReplayTable
    readonly standby?: Pick<Standby, 'credentials'> | undefined
    readonly resourceServers: ResourceServerTable
  }
  readonly polls: DevicePollTable
  /** Whether the device flow is on. */
  readonly hasDevices: boolean
  /** Undefined where no authority of clients is configured. */
  readonly authorities: ClientAuthorities | undefined
  readonly claimsByScope: TokenPolicy['claimsByScope']
  readonly adminApi: boolean
  readonly protocol: Pick<ProtocolConfig, 'clockToleranceS' | 'profile'>
  readonly refreshReuseSeconds: number
  /** Hours for which a refresh token knows two keys; undefined for never. */
  readonly keyOverlapHours: number | undefined
}

/** Makes the endpoints of {@link createTokenRouter}. */
export function createEndpoints(
  options: EndpointsOptions,
): Record<'token' | 'introspection' | 'revocation', Endpoint> {
  const { issuer, engine, keys, proofs, tables, polls, protocol } = options
  const { artifacts, credentials, replays } = tables
  const policy = { issuer, lifetimes, claimsByScope: options.claimsByScope }
  const findClient = createClientFinder(engine, tables.clients, protocol.profile)
  const authentication: ClientAuthenticationOptions = {
    findClient,
    clockToleranceS: protocol.clockToleranceS,
    authorities: options.authorities,
  }
  const sign = createSigner(keys)
  const readOwnToken = createOwnTokenReader(keys, issuer)
  const findTokenBy = (lookup: CredentialLookup) =>
    createTokenFinder({
      credentials: lookup,
      readOwnToken,
      findClient: async (id) => {
        const found = await findClient(id)
        return found && isRefusal(found) ? undefined : found
      },
    })
  const findToken = findTokenBy(credentials)
  const { standby } = tables
  return {
    token: createTokenEndpoint({
      authentication,
      proofs,
      grants: grantsOf(options, policy),
      finders: findersOf(options),
      maker: { policy, sign, newName: createNames() },
      artifacts,
      replays,
      polls: { table: polls, pauseS: pollInterval, lifetimeS: lifetimes.DeviceCode },
    }),
    introspection: createIntrospection({
      issuer,
      authentication,
      findToken: standby
        ? findOnStandbyFirst(findToken, standby.credentials, findTokenBy)
        : findToken,
      replays,
      sign,
    }),
    revocation: createRevocation({ authentication, findToken, artifacts, replays }),
  }
}

/** Makes names of 256 random bits. Many are drawn at once: a draw costs more than what it brings. */
function createNames(): () => string {
  const nameBytes = 32
  const drawn = Buffer.alloc(64 * nameBytes)
  let at = drawn.length
  return () => {
    if (at === drawn.length) {
      randomFillSync(drawn)
      at = 0
    }
    const name = drawn.toString('base64url', at, at + nameBytes)
    drawn.fill(0, at, at + nameBytes)
    at += nameBytes
    return name
  }
}

function grantsOf(
  { refreshReuseSeconds: reuseS, keyOverlapHours, hasDevices, proofs }: EndpointsOptions,
  policy: TokenPolicy,
): ReadonlyMap<string, Grant<unknown>> {
  const person = { policy, claimsOf: accountClaims, isRepeatable: reuseS > 0 }
  const keyOverlapS = keyOverlapHours ? keyOverlapHours * 60 * 60 : undefined
  const grants = [
    authorizationCodeGrant(person),
    refreshTokenGrant({ ...person, keyOverlapS, proofWindow: proofs.window, reuseS }),
    clientCredentialsGrant({ policy }),
    backchannelRequestGrant(person),
    ...(hasDevices ? [deviceCodeGrant(person)] : []),
  ]
  return new Map(grants.map((grant) => [grant.grantType, grant as Grant<unknown>]))
}

function findersOf({ tables, issuer, adminApi, claimsByScope }: EndpointsOptions): Finders {
  const { artifacts, claimMappings, credentials, resourceServers } = tables
  return {
    async credential<Source extends StoredSource>(kind: string, value: string) {
      const key = artifactKey(kind, value)
      const [found, mappings] = await Promise.all([
        credentials.find<Source, StoredGrant, Found<Source>['session']>(key),
        claimMappings.list(),
      ])
      return found && { ...found, claimMappings: mappings, value, key }
    },
    resourceOfScopes: createResourceOfScopes(resourceServers, standardScopesOf(claimsByScope)),
    resource: createResourceFinder({ resourceServers, issuer, adminApi }),
    artifact: (key) => artifacts.find(key),
  }
}
