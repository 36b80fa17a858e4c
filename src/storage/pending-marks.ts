import { AsyncLocalStorage } from 'node:async_hooks'
import type { ReplayMark, ReplayTable } from './replay-table.ts'

type Marks = Pick<ReplayTable, 'insert'>

/** A mark that is not written yet, and what its request is refused by if it turns out to be old. */
export interface PendingMark {
  readonly mark: ReplayMark
  readonly refuse: () => Error
}

interface Pending {
  readonly table: Marks
  readonly marks: PendingMark[]
  immediate: boolean
}

const current = new AsyncLocalStorage<Pending>()

/**
 * Runs a request whose one-time values may wait for what they are shown for: its client assertion
 * and its proof are then marked by the statement that consumes and issues, and until it has
 * succeeded nothing is answered. Marks that nothing came of are written when the request ends.
 */
export async function withPendingMarks<T>(table: Marks, work: () => Promise<T>): Promise<T> {
  const pending: Pending = { table, marks: [], immediate: false }
  try {
    return await current.run(pending, work)
  } finally {
    // Whether they were new changes nothing any more: a request that leaves marks was refused.
    await insertAll(pending)
  }
}

/**
 * Leaves a mark to the end of the running request. False where there is none, and after
 * {@link markNow}: then the caller marks for itself.
 */
export function collectMark(mark: PendingMark): boolean {
  const pending = current.getStore()
  if (!pending || pending.immediate) return false
  // A client may give its assertion and its proof one identifier.
  if (!pending.marks.some(({ mark: { id } }) => id === mark.mark.id)) pending.marks.push(mark)
  return true
}

/** Hands the marks to whoever writes them together with something else. */
export function takeMarks(): PendingMark[] {
  return current.getStore()?.marks.splice(0) ?? []
}

/**
 * Writes the marks that were left so far, and leaves none from now on: for a request that is about
 * to change something at once. One that is repeated with what it has shown before changes nothing.
 *
 * @throws the refusal of the first mark that was there already.
 */
export async function markNow(): Promise<void> {
  const pending = current.getStore()
  if (!pending) return
  pending.immediate = true
  const old = await insertAll(pending)
  if (old) throw old.refuse()
}

async function insertAll({ table, marks }: Pending): Promise<PendingMark | undefined> {
  const taken = marks.splice(0)
  const fresh = await Promise.all(taken.map(({ mark }) => table.insert(mark)))
  return taken.find((_, at) => !fresh[at])
}
