import type { Adapter, AdapterPayload } from 'oidc-provider'
import { AlreadyConsumedError } from './already-consumed.ts'
import {
  type Artifact,
  type ArtifactKey,
  type ArtifactTable,
  artifactKey,
  type StoredArtifact,
} from './artifact-table.ts'
import { backchannelAfterlifeS, backchannelRequestKind } from './backchannel-request-table.ts'
import type { ClientTable } from './client-table.ts'
import { createDeviceCodeAdapter, type UserCodes } from './device-code-adapter.ts'
import type { EngineTimes } from './engine-times.ts'
import { seal, unseal } from './sealed.ts'
import { isStorable } from './text.ts'

/** What a request has read, and what it is going to write with everything else. */
export interface RequestArtifacts {
  /** Undefined for what it has not asked for; else what there was. */
  find(kind: string, identifier: string): readonly [StoredArtifact | undefined] | undefined
  /** @returns false for what has to be written at once. */
  write(artifact: Artifact, consumes: ArtifactKey | undefined): boolean
}

/**
 * The engine's storage. Identifiers are hashed before they reach the database and put back into
 * what is found; `consume` is one statement whose row count decides, and throws
 * {@link AlreadyConsumedError} for the loser of a race.
 */
export function createEngineAdapter({
  artifacts,
  clients,
  times,
  userCodes,
  ownClients = [],
  ofRequest = () => undefined,
}: {
  artifacts: ArtifactTable
  clients: Pick<ClientTable, 'find'>
  times: EngineTimes
  /** Clients that are part of the server, and in no table. */
  ownClients?: readonly string[]
  /** Undefined where the device flow is off. */
  userCodes?: UserCodes | undefined
  /** Of the request that is being answered, where it collects them. */
  ofRequest?: () => RequestArtifacts | undefined
}) {
  return (kind: string): Adapter => {
    if (kind === 'Client') return clientAdapter(clients)
    return kind === 'DeviceCode' && userCodes
      ? createDeviceCodeAdapter(artifacts, { userCodes, times })
      : artifactAdapter(kind, { table: artifacts, times, ownClients, ofRequest })
  }
}

function artifactAdapter(
  kind: string,
  {
    table,
    times,
    ownClients,
    ofRequest,
  }: {
    table: ArtifactTable
    times: EngineTimes
    ownClients: readonly string[]
    ofRequest: () => RequestArtifacts | undefined
  },
): Adapter {
  const key = (id: string) => artifactKey(kind, id)
  return {
    async upsert(id, { consumes, ...payload }, expiresIn = 0) {
      const artifact = {
        ...key(id),
        grantId: payload.grantId,
        // By it the tokens of a grant are found from the grants of an account.
        uid: kind === 'Grant' ? id : payload.uid,
        accountId: payload.accountId,
        sessionUid: payload.sessionUid,
        familyId: typeof payload.family === 'string' ? payload.family : undefined,
        clientId: registeredClientOf(payload, ownClients),
        payload: withoutCredentials(id, times.toDatabase(payload)),
        expiresAt: Math.floor(times.now() / 1000) + expiresIn + afterlifeOf(kind),
      }
      // A code takes the place of the pushed request that it was made from, in one statement.
      const consumed =
        consumes === undefined
          ? undefined
          : artifactKey('PushedAuthorizationRequest', String(consumes))
      if (ofRequest()?.write(artifact, consumed)) return
      if (consumed === undefined) return table.write(artifact)
      if ((await table.commit({ consumed, written: [artifact] })) !== 'committed') {
        throw new AlreadyConsumedError(consumed.kind)
      }
    },
    async find(id) {
      const [stored] = ofRequest()?.find(kind, id) ?? [await table.find(key(id))]
      return stored && { ...withCredentials(id, times.toEngine(asPayload(stored))), jti: id }
    },
    async findByUid(uid) {
      const stored = await table.findByUid(kind, uid)
      return stored && times.toEngine(asPayload(stored))
    },
    findByUserCode: () => Promise.reject(new Error('the device flow is off')),
    async consume(id) {
      if (!(await table.consume(key(id)))) throw new AlreadyConsumedError(kind)
    },
    destroy: (id) => table.remove(key(id)),
    revokeByGrantId: (grantId) => table.removeByGrantId(kind, grantId),
  }
}

/** Seconds for which a row is kept after its end. */
const afterlifeOf = (kind: string) => (kind === backchannelRequestKind ? backchannelAfterlifeS : 0)

/** An interaction names its client in the parameters of its request. */
function registeredClientOf(
  { clientId, params }: AdapterPayload,
  ownClients: readonly string[],
): string | undefined {
  const id = clientId ?? params?.client_id
  return typeof id === 'string' && isStorable(id) && !ownClients.includes(id) ? id : undefined
}

/**
 * The engine's payload less what would let a reader of the table act as someone. An interaction
 * names itself in where it returns to, and the pushed request that it will use: those are sealed.
 */
function withoutCredentials(id: string, payload: AdapterPayload): Record<string, unknown> {
  // Those of a session are in `browser_sessions`.
  const { jti: _, consumed: __, authorizations: ___, returnTo, parJti, ...rest } = payload
  // An interaction repeats the session cookie, and nothing reads it there.
  if (rest.session) rest.session = { ...rest.session, cookie: undefined } as never
  if (returnTo === undefined) return rest
  return { ...rest, sealed: seal(id, JSON.stringify({ returnTo, parJti })) }
}

function withCredentials(id: string, payload: AdapterPayload): AdapterPayload {
  const { sealed, ...rest } = payload
  return typeof sealed === 'string' ? { ...rest, ...JSON.parse(unseal(id, sealed)) } : rest
}

function asPayload({ payload, consumedAt }: StoredArtifact): AdapterPayload {
  return consumedAt === null ? payload : { ...payload, consumed: Math.floor(consumedAt) }
}

function clientAdapter(clients: Pick<ClientTable, 'find'>): Adapter {
  const refuse = () => Promise.reject(new Error('clients are managed by the command line'))
  return {
    find: (id) => clients.find(id),
    upsert: refuse,
    destroy: refuse,
    consume: refuse,
    findByUid: refuse,
    findByUserCode: refuse,
    revokeByGrantId: refuse,
  }
}
