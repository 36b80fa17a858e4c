/** The token endpoint without HTTP, database or clock: a valid case, to break one thing of. */
import { randomUUID } from 'node:crypto'
import type { ConnectionProofs } from '../../src/bindings/binding.ts'
import { createProofCheck } from '../../src/bindings/dpop.ts'
import { bindingOf } from '../../src/clients/binding-method.ts'
import {
  artifactKey,
  type CommitOutcome,
  type UnitOfWork,
} from '../../src/storage/artifact-table.ts'
import { authorizationCodeGrant } from '../../src/token-endpoint/authorization-code.ts'
import { backchannelRequestGrant } from '../../src/token-endpoint/backchannel-request.ts'
import { clientCredentialsGrant } from '../../src/token-endpoint/client-credentials.ts'
import { deviceCodeGrant } from '../../src/token-endpoint/device-code.ts'
import type { Finders, Grant } from '../../src/token-endpoint/grant.ts'
import type { MachineRequest, Outcome } from '../../src/token-endpoint/machine-request.ts'
import { refreshTokenGrant } from '../../src/token-endpoint/refresh-token.ts'
import type { Refusal } from '../../src/token-endpoint/refusal.ts'
import type { Found, StoredSource } from '../../src/token-endpoint/stored.ts'
import { createTokenEndpoint } from '../../src/token-endpoint/token-endpoint.ts'
import type { ClientKeys, TokenClient } from '../../src/token-endpoint/token-request.ts'
import { makeSigningKey, type SigningKey } from '../support/jws.ts'

export const issuer = 'https://id.example'
export const uri = `${issuer}/token`
export const now = 1_800_000_000
export const api = 'https://api.example'
export const key = makeSigningKey()
export const verifier = 'v'.repeat(43)
/** SHA-256 of the verifier, base64url. */
export const challenge = '7w_YNF9DSfIdPf_pRjSq646_kPr-2-o9NAl16JGghdM'

const noKeys: ClientKeys = {
  current: () => [],
  certificates: () => [],
  refresh: async () => 'same',
}

/** A public client of DPoP that may do everything, with changes. */
export function client(changes: Partial<TokenClient> & { method?: string } = {}): TokenClient {
  const { method = 'dpop', ...rest } = changes
  return {
    clientId: 'app',
    authenticatesBy: 'none',
    sendsSecretEitherWay: false,
    requiresPkce: true,
    requiresNonce: true,
    mayNameEndpoints: false,
    hasSecret: (secret) => secret === 'secret',
    secretExpiresAt: undefined,
    keys: noKeys,
    algorithms: ['ES256'],
    assertionAlgorithm: undefined,
    certificateSubject: undefined,
    grantTypes: new Set([
      'authorization_code',
      'client_credentials',
      'refresh_token',
      'urn:ietf:params:oauth:grant-type:device_code',
      'urn:openid:params:grant-type:ciba',
    ]),
    binding: bindingOf({ binding_method: method }),
    refreshTokens: 'rotate',
    refreshTokensBoundTo: 'key',
    defaultResource: undefined,
    defaultScopes: [],
    scopes: undefined,
    scopesAt: (scopes) => scopes,
    idTokenAlgorithm: 'ES256',
    getsClaimsInIdTokens: false,
    introspectionAlgorithm: 'ES256',
    bindsIdTokens: false,
    administration: undefined,
    selfRegistered: false,
    mayBeCalledFrom: (origin) => origin === 'https://app.example',
    ...rest,
  }
}

/** The keys of a client whose assertions are signed by one of these. */
export function keysOf(...keys: SigningKey[]): ClientKeys {
  const current = keys.map(({ publicKey, jkt }) => ({
    kid: undefined,
    alg: undefined,
    kty: 'EC',
    crv: 'P-256',
    key: publicKey,
    thumbprint: jkt,
  }))
  return { ...noKeys, current: () => current }
}

export const proof = (claims: object = {}, by = key, header: object = {}) =>
  by.sign(
    { typ: 'dpop+jwt', jwk: by.jwk, ...header },
    { htm: 'POST', htu: uri, jti: randomUUID(), iat: now, ...claims },
  )

const sources = {
  AuthorizationCode: {
    codeChallenge: challenge,
    codeChallengeMethod: 'S256',
    redirectUri: 'https://app.example/callback',
  },
  RefreshToken: {
    jkt: key.jkt,
    family: 'family',
    gty: 'authorization_code',
    rotations: 0,
    iat: now - 60,
  },
  DeviceCode: { jkt: key.jkt },
  BackchannelAuthenticationRequest: { jkt: key.jkt, expiresWithSession: undefined },
}

export type Kind = keyof typeof sources

/** A credential of each kind that is good, with changes to what is stored and to what it hangs on. */
export function credential(
  kind: Kind,
  source: object = {},
  rest: Partial<Found<StoredSource>> = {},
): Found<StoredSource> {
  const common = {
    clientId: 'app',
    accountId: 'ada',
    grantId: 'grant',
    sessionUid: 'session',
    expiresWithSession: true,
    scope: 'openid read',
    resource: api,
    nonce: 'n',
    exp: now + 60,
  }
  return {
    value: 'value',
    key: artifactKey(kind, 'value'),
    source: { ...common, ...sources[kind], ...source } as StoredSource,
    consumedAt: null,
    grant: {
      accountId: 'ada',
      clientId: 'app',
      openid: { scope: 'openid' },
      resources: { [api]: 'read write' },
    },
    session: { accountId: 'ada' },
    browserSession: {
      uid: 'session',
      accountId: 'ada',
      authorizations: { app: { grantId: 'grant' } },
      userAgent: '',
      address: '',
      signedInAt: new Date(0),
      binding: null,
      tbh: null,
      amr: null,
    },
    account: { id: 'ada', email: 'ada@example.com', disabled: false, createdAt: new Date(0) },
    claimMappings: [],
    ...rest,
  }
}

export interface Environment {
  client: TokenClient | undefined
  /** Why the client is refused, whoever it is. */
  clientProblem?: Refusal
  found: Found<StoredSource> | undefined
  /** What the database says of what is to be written. */
  outcome: CommitOutcome
  /** The next that was named before, or none. */
  replayed: boolean
  isInTime: boolean
  overlapS: number | undefined
  reuseS: number
  nonces: 'required' | 'optional'
  /** Seconds for which a proof is good. */
  windowS?: number | undefined
  authorities: { check: () => 'revoked' | undefined } | undefined
  successor: { payload: Record<string, unknown>; consumedAt: number | null } | undefined
}

export type Request = Partial<Omit<MachineRequest, 'form'>> & { form?: MachineRequest['form'] }

const nobody: ConnectionProofs = { certificate: undefined, tokenBinding: undefined }

/** What a request comes to in an environment, and what it has written there. */
export async function ask(request: Request, changes: Partial<Environment> = {}) {
  const environment: Environment = {
    client: client(),
    found: undefined,
    outcome: 'committed',
    replayed: false,
    isInTime: true,
    overlapS: undefined,
    reuseS: 0,
    nonces: 'optional',
    authorities: undefined,
    successor: undefined,
    ...changes,
  }
  const units: UnitOfWork[] = []
  const ended: string[] = []
  const recorded: string[] = []
  const outcome = await createEndpoint(environment, { units, ended, recorded })({
    form: {},
    authorization: undefined,
    dpop: proof(),
    wantsSigned: false,
    origin: undefined,
    connection: nobody,
    uri,
    audiences: [issuer],
    endpointUris: [`${issuer}/token`],
    now,
    ...request,
  })
  return { outcome, units, ended, recorded }
}

const proofWindow = ({ windowS = 300 }: Environment) => ({ pastS: windowS, aheadS: 10 })

type Effects = { units: UnitOfWork[]; ended: string[]; recorded: string[] }

function createEndpoint(
  environment: Environment,
  { units, ended, recorded }: Effects,
): (request: MachineRequest) => Promise<Outcome> {
  const policy = {
    issuer,
    lifetimes: {
      AccessToken: 600,
      ClientCredentials: 600,
      RefreshToken: 1000,
      Grant: 9000,
      IdToken: 600,
    },
    claimsByScope: { openid: ['sub'], email: ['email'] },
  }
  const person = {
    policy,
    claimsOf: ({ id, email }: { id: string; email: string }) => ({ sub: id, email, note: 'x' }),
    isRepeatable: environment.reuseS > 0,
  }
  const grants = [
    authorizationCodeGrant(person),
    deviceCodeGrant(person),
    backchannelRequestGrant(person),
    refreshTokenGrant({
      ...person,
      keyOverlapS: environment.overlapS,
      proofWindow: proofWindow(environment),
      reuseS: environment.reuseS,
    }),
    clientCredentialsGrant({ policy }),
  ] as Grant<unknown>[]
  let names = 0
  return createTokenEndpoint({
    authentication: {
      findClient: async (id) =>
        environment.clientProblem ??
        (environment.client?.clientId === id ? environment.client : undefined),
      clockToleranceS: 10,
      authorities: environment.authorities as never,
    },
    proofs: createProofCheck({
      nonces: { current: () => 'next', accepts: (nonce) => nonce === 'good' || nonce === 'next' },
      required: environment.nonces === 'required',
      algorithms: ['ES256'],
      window: proofWindow(environment),
    }),
    grants: new Map(grants.map((grant) => [grant.grantType, grant])),
    finders: {
      credential: (async () => environment.found) as Finders['credential'],
      resourceOfScopes: async (scopes) =>
        [...scopes].some((scope) => ['read', 'write'].includes(scope)) ? api : undefined,
      resource: async (identifier) =>
        identifier === api
          ? {
              identifier,
              audience: api,
              scopes: new Set(['read', 'write']),
              algorithm: 'ES256' as const,
              detailsTypes: new Set(['payment']),
            }
          : undefined,
      artifact: async () => environment.successor,
    },
    maker: {
      policy,
      sign: (_algorithm, _typ, claims) => JSON.stringify(claims),
      newName: () => `name ${names++}`,
    },
    artifacts: {
      commit: async (unit) => {
        units.push(unit)
        const isLate = environment.outcome === 'already consumed'
        return isLate && !unit.consumed ? 'committed' : environment.outcome
      },
      removeGrant: async (_key, grantId) => {
        ended.push(grantId)
      },
      endFamily: async ({ familyId }) => {
        ended.push(familyId)
      },
    },
    replays: {
      insert: async ({ id }) => {
        recorded.push(id)
        return !environment.replayed
      },
    },
    polls: { table: { take: async () => environment.isInTime }, pauseS: 5, lifetimeS: 600 },
  })
}
