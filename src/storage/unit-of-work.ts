import { AsyncLocalStorage } from 'node:async_hooks'
import type { Artifact, ArtifactKey, ArtifactTable } from './artifact-table.ts'
import { markNow, takeMarks } from './pending-marks.ts'

interface UnitOfWork {
  consumed: ArtifactKey | undefined
  written: Artifact[]
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

/**
 * Runs a grant so that the marks of its request, what it consumes and what it issues become true
 * together, in one SQL statement after the grant has succeeded. The engine consumes a code or
 * refresh token early and can fail later (unknown resource, failing signature, lost connection):
 * then nothing was consumed and nothing issued, and no connection was held while signatures were
 * made. What a request that failed has shown is marked when it ends (`withPendingMarks`).
 *
 * Writes that are not collected here, above all revocations on reuse, are immediate and stay.
 *
 * @throws {@link AlreadyConsumedError}, and the refusal of a mark that was there already: for all
 *   but one of any number of concurrent uses.
 */
export async function asUnitOfWork<T>(
  artifacts: Pick<ArtifactTable, 'close'>,
  work: () => Promise<T>,
): Promise<T> {
  const unit: UnitOfWork = { consumed: undefined, written: [] }
  const result = await current.run(unit, work)
  const { consumed, written } = unit
  if (!consumed && written.length === 0) {
    await markNow()
    return result
  }
  const pending = takeMarks()
  const marks = pending.map(({ mark }) => mark)
  const outcome = await artifacts.close({ marks, consumed, written })
  if (outcome === 'already consumed') {
    throw new AlreadyConsumedError(consumed?.kind ?? 'artifact', written)
  }
  if (outcome !== 'closed') throw pending[outcome.replayed]?.refuse()
  return result
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
