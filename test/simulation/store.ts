/*
 * The tables of src/storage as rows in memory. Each function is one statement: it happens at one
 * moment, and what it answers is what PostgreSQL answers (test/simulation/store.test.ts).
 */
import { hash } from 'node:crypto'
import type {
  Artifact,
  ArtifactKey,
  CommitOutcome,
  UnitOfWork,
} from '../../src/storage/artifact-table.ts'
import type { ReplayEntry } from '../../src/storage/replay-table.ts'

interface Row {
  readonly artifact: Artifact
  readonly state: string | null
  readonly consumedAt: number | null
}

interface Poll {
  readonly pauseS: number
  readonly due: number
}

/** What a table has of a credential and of what it depends on. */
export interface FoundRow {
  readonly payload: Record<string, unknown>
  readonly consumedAt: number | null
  readonly grant: Record<string, unknown> | undefined
  /** The names of its account and of its session, while they are there. */
  readonly accountId: string | undefined
  readonly sessionUid: string | undefined
}

/** A guard that is missing on purpose: names of test/simulation/plants.ts. */
export type HasPlant = (name: string) => boolean

export type Store = ReturnType<typeof createStore>

const nameOf = ({ kind, id }: ArtifactKey) => `${kind} ${id.toString('hex')}`
const digest = (text: string) => hash('sha256', text, 'buffer')

/** @param now seconds since the epoch, with fractions: the clock of the database. */
export function createStore(now: () => number, has: HasPlant = () => false) {
  let rows = new Map<string, Row>()
  let entries = new Map<string, number>()
  let polls = new Map<string, Poll>()
  /** Accounts that were disabled and sessions that have ended: their tables are not simulated. */
  const gone = new Set<unknown>()
  /** Rows that a removal which runs at the same time may not see. */
  const recent = new Set<string>()
  const isCurrent = (row: Row) => has('expiry-ignored') || row.artifact.expiresAt > now()
  const isLive = ({ artifact: { familyId } }: Row) =>
    familyId === undefined ||
    has('ended-family-forgotten') ||
    !rows.has(nameOf({ kind: 'EndedFamily', id: digest(familyId) }))
  const read = (key: ArtifactKey) => {
    const row = rows.get(nameOf(key))
    return row && isCurrent(row) && isLive(row) ? row : undefined
  }
  const write = (artifact: Artifact) => {
    const old = rows.get(nameOf(artifact))
    const kept = { state: old?.state ?? null, consumedAt: old?.consumedAt ?? null }
    rows.set(nameOf(artifact), { artifact, ...kept })
    recent.add(nameOf(artifact))
  }
  const consume = (key: ArtifactKey) => {
    const row = rows.get(nameOf(key))
    if (!row || row.consumedAt !== null || !isCurrent(row)) return false
    rows.set(nameOf(key), { ...row, consumedAt: now() })
    return true
  }
  const insert = ({ id, expiresAt }: ReplayEntry) => {
    if (has('jti-not-recorded')) return true
    if (entries.has(id)) return false
    entries.set(id, has('jti-forgotten-early') ? now() : expiresAt)
    return true
  }
  /** @param misses whether what was just written is not in its snapshot. */
  const removeWhere = (isGone: (row: Row) => boolean, misses = false) => {
    for (const [name, row] of rows) {
      if (isGone(row) && !(misses && recent.has(name))) rows.delete(name)
    }
  }

  return {
    find(key: ArtifactKey) {
      const row = read(key)
      return row && { payload: row.artifact.payload, consumedAt: row.consumedAt }
    },

    findCredential(key: ArtifactKey): FoundRow | undefined {
      const row = read(key)
      if (!row) return undefined
      const { payload, grantId } = row.artifact
      const grant = grantId === undefined ? undefined : read({ kind: 'Grant', id: digest(grantId) })
      const whileThere = (name: unknown) => (gone.has(name) ? undefined : (name as string))
      return {
        payload,
        consumedAt: row.consumedAt,
        grant: grant?.artifact.payload,
        accountId: whileThere(payload.accountId),
        sessionUid: whileThere(payload.sessionUid),
      }
    },

    /** Disables an account or ends a session. */
    end: (name: string) => void gone.add(name),

    commit({ replayEntries: shown = [], consumed, written }: UnitOfWork): CommitOutcome {
      const fresh = shown.map(insert)
      const replayed = fresh.indexOf(false)
      if (replayed !== -1) return { replayed }
      const isFirst = !consumed || consume(consumed)
      if (isFirst || has('rows-not-counted')) for (const artifact of written) write(artifact)
      return isFirst || has('rows-not-counted') ? 'committed' : 'already consumed'
    },

    insert,
    /** Not a statement of Holdfast: the half of an insert that looks first. */
    hasReplayEntry: (id: string) => entries.has(id),
    write,

    advance(
      artifact: Omit<Artifact, 'id' | 'expiresAt'>,
      { from, to }: { from: string | null; to: string | null },
    ): boolean {
      const found = [...rows].filter(
        ([, row]) =>
          row.artifact.kind === artifact.kind &&
          row.artifact.uid === artifact.uid &&
          row.state === from &&
          row.consumedAt === null &&
          isCurrent(row),
      )
      const { grantId, accountId, sessionUid, payload } = artifact
      for (const [name, row] of found) {
        const changed = { ...row.artifact, grantId, accountId, sessionUid, payload }
        rows.set(name, { ...row, artifact: changed, state: to })
      }
      return found.length === 1
    },

    remove: (key: ArtifactKey) => void rows.delete(nameOf(key)),
    removeIssued: (grantId: string, misses = false) =>
      removeWhere(({ artifact }) => artifact.grantId === grantId, misses),
    removeGrant(grant: ArtifactKey, grantId: string, misses = false) {
      removeWhere(
        ({ artifact }) => nameOf(artifact) === nameOf(grant) || artifact.grantId === grantId,
        misses,
      )
    },

    endFamily(
      {
        grantId,
        familyId,
        rememberSeconds,
      }: { grantId: string; familyId: string; rememberSeconds: number },
      misses = false,
    ) {
      const ended = { kind: 'EndedFamily', id: digest(familyId) }
      const unnamed = { grantId: undefined, uid: undefined, payload: {} }
      const isNew = !rows.has(nameOf(ended))
      if (isNew) write({ ...ended, ...unnamed, expiresAt: now() + rememberSeconds })
      removeWhere(
        ({ artifact }) =>
          artifact.grantId === grantId &&
          (artifact.kind === 'AccessToken' || artifact.kind === 'RefreshToken') &&
          (artifact.familyId === familyId || artifact.familyId === undefined),
        misses,
      )
    },

    take(id: Buffer, { pause, expiresAt: _ }: { pause: number; expiresAt: number }): boolean {
      const name = id.toString('hex')
      const poll = polls.get(name)
      if (!poll) {
        polls.set(name, { pauseS: pause, due: now() + pause - 1 })
        return true
      }
      const isEarly = now() < poll.due
      const penaltyS = isEarly ? 5 : 0
      polls.set(name, {
        pauseS: poll.pauseS + penaltyS,
        due: now() + poll.pauseS - 1 + penaltyS,
      })
      return !isEarly
    },

    /** The cleanup of src/storage/cleanup.ts. */
    removeExpired() {
      removeWhere(({ artifact }) => artifact.expiresAt < now())
      for (const [id, expiresAt] of entries) if (expiresAt < now() - 60) entries.delete(id)
    },

    /** The state at this moment, by a name that equal states share, and the way back to it. */
    save() {
      recent.clear()
      const saved = [new Map(rows), new Map(entries), new Map(polls)] as const
      const names = [...rows].map(([name, row]) => `${name} ${row.state} ${row.consumedAt}`)
      return {
        name: names.sort().join('\n'),
        restore() {
          recent.clear()
          rows = new Map(saved[0])
          entries = new Map(saved[1])
          polls = new Map(saved[2])
        },
      }
    },
  }
}
