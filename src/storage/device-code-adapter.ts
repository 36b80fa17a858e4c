import type { Adapter, AdapterPayload } from 'oidc-provider'
import { AlreadyConsumedError } from './already-consumed.ts'
import { type ArtifactTable, artifactKey, type StoredArtifact } from './artifact-table.ts'
import type { EngineTimes } from './engine-times.ts'

const kind = 'DeviceCode'

/** Seconds for which a device that comes too late gets expired_token, and not invalid_grant. */
const afterlife = 10 * 60

/** What is stored of user codes, in place of them. */
export interface UserCodes {
  digest(userCode: string): string
  /** One for each secret that may have been in use when the code was made. */
  candidates(userCode: string): readonly string[]
}

/**
 * Device codes (RFC 8628). A row knows the device code by its SHA-256 and the user code by a keyed
 * digest, and holds neither. The device asks by the device code. The user who decides has typed the user
 * code, and is given its digest for an identifier: presented as a device code it finds nothing.
 *
 * The engine saves a code as a whole when it is made, when a person continues with it, and when that
 * comes to an end. Here each is a step from one state to the next: of two people with one code, and
 * of two answers by one, the first counts. `upsert` throws {@link AlreadyConsumedError} for the
 * others. An answer that failed does not count: the user may type the code again.
 */
export function createDeviceCodeAdapter(
  artifacts: ArtifactTable,
  { userCodes, times }: { userCodes: UserCodes; times: EngineTimes },
): Adapter {
  const key = (id: string) => artifactKey(kind, id)
  const byUid = async (uid: string) => {
    const stored = await artifacts.findByUid(kind, uid)
    return stored && { ...times.toEngine(asPayload(stored)), jti: uid }
  }
  return {
    async upsert(id, { jti: _, consumed: __, userCode, ...given }, expiresIn = 0) {
      const payload = times.toDatabase<AdapterPayload>(given)
      if (isFailure(payload.error)) {
        const artifact = { kind, uid: id, grantId: undefined, payload: undecided(payload) }
        await artifacts.advance(artifact, { from: 'in flight', to: null })
        return
      }
      const { grantId, accountId, sessionUid } = payload
      const artifact = { kind, grantId, accountId, sessionUid, clientId: payload.clientId, payload }
      const to = stateOf(payload)
      if (to === null) {
        const uid = userCodes.digest(String(userCode))
        const expiresAt = Math.floor(times.now() / 1000) + expiresIn + afterlife
        const isNew = await artifacts.add({ ...artifact, ...key(id), uid, expiresAt })
        if (!isNew) throw new AlreadyConsumedError('user code')
        return
      }
      // A user who denies at once has not continued with it.
      const from = to === 'decided' && payload.inFlight ? 'in flight' : null
      const hasMoved = await artifacts.advance({ ...artifact, uid: id }, { from, to })
      if (!hasMoved) throw new AlreadyConsumedError(kind)
    },
    async find(id) {
      const stored = await artifacts.find(key(id))
      return stored && { ...times.toEngine(asPayload(stored)), jti: id }
    },
    findByUid: byUid,
    async findByUserCode(userCode) {
      for (const uid of userCodes.candidates(userCode)) {
        const found = await byUid(uid)
        if (found) return { ...found, userCode }
      }
      return undefined
    },
    async consume(id) {
      if (!(await artifacts.consume(key(id)))) throw new AlreadyConsumedError(kind)
    },
    destroy: (id) => artifacts.remove(key(id)),
    revokeByGrantId: (grantId) => artifacts.removeByGrantId(kind, grantId),
  }
}

/** Whether the engine saves an error of ours, and nobody's answer. */
export function isFailure(error: unknown): boolean {
  return error === 'server_error' || error === 'temporarily_unavailable'
}

/** A code as it was before anyone typed it. */
function undecided(payload: AdapterPayload): Record<string, unknown> {
  const names = ['iat', 'exp', 'kind', 'clientId', 'params', 'deviceInfo', 'jkt', 'x5t#S256', 'tbh']
  return Object.fromEntries(Object.entries(payload).filter(([name]) => names.includes(name)))
}

function stateOf({ error, accountId, inFlight }: AdapterPayload): 'in flight' | 'decided' | null {
  if (error !== undefined || accountId !== undefined) return 'decided'
  return inFlight ? 'in flight' : null
}

function asPayload({ payload, consumedAt }: StoredArtifact): AdapterPayload {
  return consumedAt === null ? payload : { ...payload, consumed: Math.floor(consumedAt) }
}
