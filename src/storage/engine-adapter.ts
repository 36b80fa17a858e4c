import type { Adapter, AdapterPayload } from 'oidc-provider'
import { type ArtifactTable, artifactKey, type StoredArtifact } from './artifact-table.ts'
import type { ClientTable } from './client-table.ts'
import type { CredentialTable } from './credential-table.ts'
import { createDeviceCodeAdapter, type UserCodes } from './device-code-adapter.ts'
import { markNow } from './pending-marks.ts'
import { takeAhead } from './read-ahead.ts'
import { seal, unseal } from './sealed.ts'
import { isStorable } from './text.ts'
import { AlreadyConsumedError, collectConsumption, collectWrite } from './unit-of-work.ts'

/**
 * The engine's storage. Identifiers are hashed before they reach the database and put back into
 * what is found; `consume` is one statement whose row count decides, and throws
 * {@link AlreadyConsumedError} for the loser of a race.
 */
export function createEngineAdapter({
  artifacts,
  clients,
  credentials,
  userCodes,
  ownClients = [],
}: {
  artifacts: ArtifactTable
  clients: Pick<ClientTable, 'find'>
  credentials: CredentialTable
  /** Clients that are part of the server, and in no table. */
  ownClients?: readonly string[]
  /** Undefined where the device flow is off. */
  userCodes?: UserCodes | undefined
}) {
  return (kind: string): Adapter => {
    if (kind === 'Client') return clientAdapter(clients)
    return kind === 'DeviceCode' && userCodes
      ? createDeviceCodeAdapter(artifacts, credentials, userCodes)
      : artifactAdapter(kind, { table: artifacts, credentials, ownClients })
  }
}

// What a grant begins with: found together with what the engine asks for next.
const credentialKinds = new Set(['AuthorizationCode', 'RefreshToken'])

// What takes the place of what was consumed: these wait for the end of the unit of work.
const successors = new Set([
  'AccessToken',
  'AuthorizationCode',
  'ClientCredentials',
  'RefreshToken',
])

function artifactAdapter(
  kind: string,
  {
    table,
    credentials,
    ownClients,
  }: { table: ArtifactTable; credentials: CredentialTable; ownClients: readonly string[] },
): Adapter {
  const { find } = credentialKinds.has(kind) ? credentials : table
  const key = (id: string) => artifactKey(kind, id)
  return {
    async upsert(id, payload, expiresIn = 0) {
      const artifact = {
        ...key(id),
        grantId: payload.grantId,
        uid: payload.uid,
        accountId: payload.accountId,
        sessionUid: payload.sessionUid,
        familyId: typeof payload.family === 'string' ? payload.family : undefined,
        clientId: registeredClientOf(payload, ownClients),
        payload: withoutCredentials(id, payload),
        expiresAt: Math.floor(Date.now() / 1000) + expiresIn,
      }
      if (successors.has(kind) && collectWrite(artifact)) return
      await table.write(artifact)
    },
    async find(id) {
      const stored = takeAhead(kind, id) ?? (await find(key(id)))
      // What was issued from it will end, and only for a request that was not seen before.
      if (stored?.consumedAt) await markNow()
      return stored && { ...withCredentials(id, asPayload(stored)), jti: id }
    },
    async findByUid(uid) {
      const stored = takeAhead(kind, uid) ?? (await table.findByUid(kind, uid))
      return stored && asPayload(stored)
    },
    findByUserCode: () => Promise.reject(new Error('the device flow is off')),
    async consume(id) {
      if (collectConsumption(key(id))) return
      if (!(await table.consume(key(id)))) throw new AlreadyConsumedError(kind)
    },
    destroy: (id) => table.remove(key(id)),
    revokeByGrantId: (grantId) => table.removeByGrantId(kind, grantId),
  }
}

/** An interaction names its client in the parameters of its request. */
function registeredClientOf(
  { clientId, params }: AdapterPayload,
  ownClients: readonly string[],
): string | undefined {
  const id = clientId ?? params?.client_id
  return typeof id === 'string' && isStorable(id) && !ownClients.includes(id) ? id : undefined
}

/**
 * The engine's payload less what would let a reader of the table act as somebody. An interaction
 * names itself in where it returns to, and the pushed request that it will use: those are sealed.
 */
function withoutCredentials(id: string, payload: AdapterPayload): Record<string, unknown> {
  const { jti: _, consumed: __, returnTo, parJti, ...rest } = payload
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
