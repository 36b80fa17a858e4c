import { AsyncLocalStorage } from 'node:async_hooks'
import type { Artifact, ArtifactKey, ArtifactTable } from './artifact-table.ts'
import type { ReplayMark, ReplayTable } from './replay-table.ts'

interface UnitOfWork {
  mark: ReplayMark | undefined
  consumed: ArtifactKey | undefined
  written: Artifact[]
  reused: boolean
}

const current = new AsyncLocalStorage<UnitOfWork>()

/**
 * The one thing that could not be consumed, because another request had consumed it, it expired,
 * or it was revoked since it was found.
 */
export class AlreadyConsumedError extends Error {
  override name = 'AlreadyConsumedError'
  readonly kind: string
  /** What would have been written with it, and was not. */
  readonly written: readonly Artifact[]

  constructor(kind: string, written: readonly Artifact[] = []) {
    super(`${kind} was already consumed`)
    this.kind = kind
    this.written = written
  }
}

/** A one-time value, above all the proof of a token request, that was seen before. */
export class ReplayedError extends Error {
  override name = 'ReplayedError'
}

/** Where a unit of work is written. */
export interface UnitTables {
  readonly artifacts: Pick<ArtifactTable, 'close'>
  readonly replays: Pick<ReplayTable, 'insert'>
}

/**
 * Runs a grant so that the mark of its proof, what it consumes and what it issues become true
 * together, in one SQL statement after the grant has succeeded. The engine consumes a code or
 * refresh token early and can fail later (unknown resource, failing signature, lost connection):
 * then nothing was consumed and nothing issued, and no connection was held while signatures were
 * made. The proof of a request that failed is marked all the same.
 *
 * Writes that are not collected here, above all revocations on reuse, are immediate and stay.
 *
 * @throws {@link AlreadyConsumedError} and {@link ReplayedError} for all but one of any number of
 *   concurrent uses.
 */
export async function asUnitOfWork<T>(
  { artifacts, replays }: UnitTables,
  work: () => Promise<T>,
): Promise<T> {
  const unit: UnitOfWork = { mark: undefined, consumed: undefined, written: [], reused: false }
  const markAlone = async () => {
    if (unit.mark && !(await replays.insert(unit.mark))) throw new ReplayedError('seen before')
  }
  let result: T
  try {
    result = await current.run(unit, work)
  } catch (error) {
    await markAlone()
    throw error
  }
  if (!unit.consumed && unit.written.length === 0) {
    await markAlone()
    return result
  }
  const outcome = await artifacts.close(unit)
  if (outcome === 'replayed') throw new ReplayedError('seen before')
  if (outcome === 'already consumed') {
    throw new AlreadyConsumedError(unit.consumed?.kind ?? 'artifact', unit.written)
  }
  return result
}

/**
 * Collects the mark of a one-time value for the end of the running unit of work. Not so where there
 * is none, and not after {@link expectReuse}.
 */
export function collectMark(mark: ReplayMark): boolean {
  const unit = current.getStore()
  if (!unit || unit.reused || unit.mark) return false
  unit.mark = mark
  return true
}

/**
 * Says that the unit of work has found a credential that was consumed before. The grant will end
 * what was issued from it, and that must not wait for a mark: a request that is repeated with its
 * proof, by a network or by a thief, is refused for its proof and ends nothing.
 */
export function expectReuse(): void {
  const unit = current.getStore()
  if (unit) unit.reused = true
}

/** Collects a consumption for the end of the running unit of work, if there is one. */
export function collectConsumption(key: ArtifactKey): boolean {
  const unit = current.getStore()
  if (!unit) return false
  // One grant consumes one thing; were there ever two, one guard would not cover both.
  if (unit.consumed) throw new Error('a unit of work consumes one artifact only')
  unit.consumed = key
  return true
}

/** Collects a write for the end of the running unit of work, if there is one. */
export function collectWrite(artifact: Artifact): boolean {
  const unit = current.getStore()
  unit?.written.push(artifact)
  return unit !== undefined
}
