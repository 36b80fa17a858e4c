/* The endpoints of src/token-endpoint, wired to a simulated store: one set for each request. */
import { hash } from 'node:crypto'
import type { Binding } from '../../src/bindings/binding.ts'
import type { ProofCheck } from '../../src/bindings/dpop.ts'
import { bindingOf } from '../../src/clients/binding-method.ts'
import { lifetimes } from '../../src/config/lifetimes.ts'
import {
  artifactKey,
  type CommitOutcome,
  type UnitOfWork,
} from '../../src/storage/artifact-table.ts'
import type { ReplayEntry } from '../../src/storage/replay-table.ts'
import { authorizationCodeGrant } from '../../src/token-endpoint/authorization-code.ts'
import { clientCredentialsGrant } from '../../src/token-endpoint/client-credentials.ts'
import { deviceCodeGrant } from '../../src/token-endpoint/device-code.ts'
import type { Finders, Grant } from '../../src/token-endpoint/grant.ts'
import { createIntrospection } from '../../src/token-endpoint/introspection.ts'
import { createTokenFinder } from '../../src/token-endpoint/presented-token.ts'
import { refreshTokenGrant } from '../../src/token-endpoint/refresh-token.ts'
import { isRefusal } from '../../src/token-endpoint/refusal.ts'
import { createRevocation } from '../../src/token-endpoint/revocation.ts'
import type { Found, StoredSource } from '../../src/token-endpoint/stored.ts'
import { createTokenEndpoint } from '../../src/token-endpoint/token-endpoint.ts'
import type { Endpoint } from '../../src/token-endpoint/token-route.ts'
import { makeSigningKey } from '../support/jws.ts'
import { api, client, credential, issuer, keysOf } from '../token-endpoint/fixtures.ts'
import type { Plant } from './plants.ts'
import type { Store } from './store.ts'

/** Keys are names here, and the next one is named as it is: no proof of it is simulated. */
const ofMethod = (method: string) => ({
  ...(bindingOf({ binding_method: method }) as Binding),
  readSuccessor: (key: string) => ({ key }),
})

/** What clients sign their assertions with. */
export const assertionKey = makeSigningKey()

/** A client of each binding, and of each way to authenticate that leaves a mark. */
export const clients = {
  app: client({ clientId: 'app', binding: ofMethod('dpop') }),
  web: client({
    clientId: 'web',
    authenticatesBy: 'client_secret_post',
    binding: ofMethod('dpop'),
  }),
  cert: client({ clientId: 'cert', binding: ofMethod('mtls') }),
  tls: client({ clientId: 'tls', binding: ofMethod('token-binding') }),
  signed: client({
    clientId: 'signed',
    authenticatesBy: 'private_key_jwt',
    keys: keysOf(assertionKey),
    binding: ofMethod('mtls'),
  }),
  kept: client({ clientId: 'kept', binding: ofMethod('dpop'), refreshTokens: 'keep' }),
  fapi: client({
    clientId: 'fapi',
    authenticatesBy: 'private_key_jwt',
    keys: keysOf(assertionKey),
    binding: ofMethod('dpop'),
    refreshTokens: 'keep',
    refreshTokensBoundTo: 'client',
  }),
  plain: client({
    clientId: 'plain',
    authenticatesBy: 'client_secret_post',
    binding: bindingOf({ binding_method: 'bearer' }),
  }),
} as const

export type ClientName = keyof typeof clients

/** Sends one statement: it happens once, never, or without an answer. */
export type Send = <Result>(name: string, run: (store: Store) => Result) => Promise<Result>

export interface ServerOptions {
  readonly send: Send
  /** Sends a statement for whose answer nobody waits. */
  readonly post: (name: string, run: (store: Store) => unknown) => void
  readonly newName: () => string
  readonly reuseS: number
  readonly overlapS: number | undefined
  /** What the replay entry of the request's assertion is found by. */
  readonly assertion: string | undefined
  /** The key of the request. */
  readonly key: string | undefined
  /** What the request is about. */
  readonly credential: string | undefined
  readonly codeVerifier: string | undefined
  /** Whether an ending of a family misses rows that are written at the same time. */
  readonly misses: () => boolean
  readonly onEnd: (familyId: string) => void
  readonly plant: Plant | undefined
}

const policy = { issuer, lifetimes, claimsByScope: { openid: ['sub'] } }
const { browserSession, account } = credential('RefreshToken')

// Clients may be as far ahead as the replay entries allow for.
const proofWindow = { pastS: 300, aheadS: 300 }

/** Proofs are text that says what it proves: no signature is simulated. */
const proofs: ProofCheck = {
  window: proofWindow,
  check(text, { now }) {
    const proof = JSON.parse(text)
    return Math.abs(now - proof.iat) > 300
      ? { problem: 'dpop_not_recent', detail: 'too old', nonce: undefined }
      : { proof, nonce: undefined }
  },
  remember() {},
}

/** The endpoints for one request. */
export function createServer(
  options: ServerOptions,
): Record<'redeem' | 'revoke' | 'inspect', Endpoint> {
  const { send, newName } = options
  const findClient = async (id: string) => {
    const found = clients[id as ClientName]
    const isOpen = options.plant === 'client-not-authenticated' && found === clients.fapi
    return isOpen ? { ...found, authenticatesBy: 'none' as const } : found
  }
  const authentication = {
    findClient,
    clockToleranceS: 10,
    authorities: undefined,
  }
  const sign = (_algorithm: string, _typ: string | undefined, claims: object) =>
    JSON.stringify(claims)
  const tables = tablesOf(options)
  const { artifacts, replays } = tables
  const findToken = createTokenFinder({
    credentials: {
      find: async (key) => withSession(await send('find', (store) => store.findCredential(key))),
      findOnce: async (keys, entry) => {
        const rows = await send('find', (store) => {
          const isFresh = options.plant === 'assertion-not-recorded' || store.insert(entry)
          return isFresh ? keys.map((key) => store.findCredential(key)) : 'replayed'
        })
        return rows === 'replayed' ? rows : rows.map(withSession)
      },
      stateOf: async () => 'active',
    } as Parameters<typeof createTokenFinder>[0]['credentials'],
    readOwnToken: () => undefined,
    findClient,
  })
  return {
    redeem: createTokenEndpoint({
      authentication,
      proofs,
      grants: grantsOf(options),
      finders: findersOf(options),
      maker: { policy, sign, newName },
      artifacts,
      replays,
      polls: {
        table: { take: (id, poll) => send('poll', (store) => store.take(id, poll)) },
        pauseS: 5,
        lifetimeS: lifetimes.DeviceCode,
      },
    }),
    revoke: createRevocation({
      authentication,
      findToken,
      artifacts: options.plant === 'revokes-one-token' ? onlyOne(options, artifacts) : artifacts,
      replays,
    }),
    inspect: createIntrospection({ issuer, authentication, findToken, replays, sign }),
  }
}

/** Revocation without the family. */
function onlyOne<Artifacts>({ send, credential = '' }: ServerOptions, artifacts: Artifacts) {
  const endFamily = () =>
    send('remove', (store) => {
      for (const kind of ['AccessToken', 'RefreshToken'])
        store.remove(artifactKey(kind, credential))
    })
  return { ...artifacts, endFamily }
}

function withSession(row: ReturnType<Store['findCredential']>) {
  if (!row) return undefined
  const { payload, accountId, sessionUid, ...rest } = row
  const { clientId, grantId, accountId: owner } = payload
  const session = sessionUid === undefined ? undefined : { accountId: owner as string }
  return {
    ...rest,
    source: payload,
    session,
    browserSession: session &&
      browserSession && {
        ...browserSession,
        ...session,
        authorizations: { [clientId as string]: { grantId } },
      },
    account: accountId === undefined || !account ? undefined : { ...account, id: accountId },
  }
}

function findersOf({ send, key, codeVerifier, plant }: ServerOptions): Finders {
  return {
    async credential<Source extends StoredSource>(kind: string, value: string) {
      const id = artifactKey(kind, value)
      const row = withSession(await send(`find ${kind}`, (store) => store.findCredential(id)))
      if (!row) return undefined
      const source = { ...row.source }
      if (plant === 'expiry-ignored') source.exp = Number.POSITIVE_INFINITY
      if (plant === 'key-not-compared') {
        for (const name of ['jkt', 'x5t#S256', 'dpopJkt']) if (source[name]) source[name] = key
      }
      if (plant === 'token-binding-not-compared' && source.tbh) source.tbh = key
      if (plant === 'verifier-not-compared' && codeVerifier && source.codeChallenge) {
        source.codeChallenge = hash('sha256', codeVerifier, 'base64url')
      }
      if (plant === 'session-not-asked') source.expiresWithSession = false
      const until = Number.POSITIVE_INFINITY
      const { successor } = source as { successor?: object }
      if (plant === 'next-key-not-compared') source.successor = { confirmation: key, until }
      if (plant === 'next-key-without-end' && successor) source.successor = { ...successor, until }
      if (plant === 'next-key-forgotten') source.successor = undefined
      return { ...row, source, claimMappings: [], value, key: id } as unknown as Found<Source>
    },
    resourceOfScopes: async () => undefined,
    resource: async (identifier) => ({
      identifier,
      audience: identifier,
      scopes: new Set(['read', 'write']),
      algorithm: 'ES256',
      detailsTypes: new Set(),
    }),
    artifact: (id) => send('find successor', (store) => store.find(id)),
  }
}

function grantsOf({ reuseS, overlapS, plant }: ServerOptions): ReadonlyMap<string, Grant<unknown>> {
  const person = { policy, claimsOf: () => ({ sub: 'ada' }), isRepeatable: reuseS > 0 }
  const grace = plant === 'grace-without-end' ? Number.MAX_SAFE_INTEGER : reuseS
  const refresh = refreshTokenGrant({
    ...person,
    keyOverlapS: overlapS,
    proofWindow,
    reuseS: grace,
  })
  const randomly: typeof refresh = {
    ...refresh,
    decide(request, found) {
      const decision = refresh.decide(request, found)
      if (isRefusal(decision) || !decision.refreshToken) return decision
      return { ...decision, refreshToken: { ...decision.refreshToken, value: undefined } }
    },
  }
  const consuming: typeof refresh = {
    ...refresh,
    decide(request, found) {
      const decision = refresh.decide(request, found)
      return isRefusal(decision) ? decision : { ...decision, consumes: found.credential?.key }
    },
  }
  const refreshes: Partial<Record<Plant, typeof refresh>> = {
    'successor-random': randomly,
    'kept-token-consumed': consuming,
  }
  const grants = [
    authorizationCodeGrant(person),
    deviceCodeGrant(person),
    (plant && refreshes[plant]) ?? refresh,
    clientCredentialsGrant({ policy }),
  ] as Grant<unknown>[]
  return new Map(grants.map((grant) => [grant.grantType, grant]))
}

/** The tables, each call a statement; some plants make two of one. */
function tablesOf({ send, post, misses, onEnd, plant, assertion }: ServerOptions) {
  const insert = async (entry: ReplayEntry) => {
    if (plant !== 'jti-checked-then-recorded') {
      return send('record proof', (store) => store.insert(entry))
    }
    if (await send('look for proof', (store) => store.hasReplayEntry(entry.id))) return false
    return send('record proof', (store) => store.insert(entry) || true)
  }
  const commit = async (asked: UnitOfWork): Promise<CommitOutcome> => {
    const { replayEntries = [] } = asked
    const isKept = ({ id }: ReplayEntry) => plant !== 'assertion-not-recorded' || id !== assertion
    const unit = { ...asked, replayEntries: replayEntries.filter(isKept) }
    const write = (part: UnitOfWork) => send('commit', (store) => store.commit(part))
    switch (plant) {
      case 'jti-checked-then-recorded': {
        for (const entry of unit.replayEntries ?? [])
          if (!(await insert(entry))) return { replayed: 0 }
        return write({ ...unit, replayEntries: [] })
      }
      case 'consumed-then-written': {
        const outcome = await write({ ...unit, written: [] })
        return outcome === 'committed'
          ? write({ ...unit, replayEntries: [], consumed: undefined })
          : outcome
      }
      case 'answered-before-committed':
        post('commit', (store) => store.commit(unit))
        return 'committed'
      default:
        return write(unit)
    }
  }
  return {
    replays: { insert },
    artifacts: {
      commit,
      endFamily: (ended: Parameters<Store['endFamily']>[0]) =>
        send('end family', (store) => {
          if (plant === 'reuse-does-not-end') return
          store.endFamily(ended, misses())
          onEnd(ended.familyId)
        }),
      remove: (id: Parameters<Store['remove']>[0]) => send('remove', (store) => store.remove(id)),
      removeGrant: (id: Parameters<Store['removeGrant']>[0], grantId: string) =>
        send('remove grant', (store) => store.removeGrant(id, grantId)),
      removeIssued: (grantId: string) =>
        send('remove issued', (store) => store.removeIssued(grantId)),
      write: (artifact: object) => send('write', (store) => store.write(artifact as never)),
    },
  }
}

export { api }
