/**
 * Makes a grant true: one statement that consumes the credential, records what was shown once and
 * writes the tokens. This file alone makes {@link Committed}, and no other answer leaves the token
 * endpoint.
 */
import type { ArtifactKey, ArtifactTable, UnitOutcome } from '../storage/artifact-table.ts'
import type { ReplayTable } from '../storage/replay-table.ts'
import type { Issued, TokenAnswer } from './issue.ts'
import type { ShownMark } from './token-request.ts'

/** That a statement has succeeded; see `Witness` in checks.ts. */
declare class Commitment {
  private readonly isCommitted: true
}

/** What was written by a statement that has succeeded. */
export type Committed<What> = What & Commitment

export interface CommitTables {
  readonly artifacts: Pick<ArtifactTable, 'close'>
  readonly replays: Pick<ReplayTable, 'insert'>
}

/** The answer, if it may leave; else what another request had done before. */
export async function commit(
  {
    consumes,
    issued,
    marks,
  }: {
    readonly consumes: ArtifactKey | undefined
    readonly issued: Issued
    readonly marks: readonly ShownMark[]
  },
  tables: CommitTables,
): Promise<{ readonly answer: Committed<TokenAnswer> } | Exclude<UnitOutcome, 'closed'>> {
  const outcome = await write(consumes, issued, marks, tables)
  return outcome === 'closed' ? { answer: issued.answer as Committed<TokenAnswer> } : outcome
}

async function write(
  consumed: ArtifactKey | undefined,
  { written }: Issued,
  marks: readonly ShownMark[],
  { artifacts, replays }: CommitTables,
): Promise<UnitOutcome> {
  if (consumed || written.length > 0) {
    return artifacts.close({ marks: marks.map(({ mark }) => mark), consumed, written })
  }
  const fresh = await Promise.all(marks.map(({ mark }) => replays.insert(mark)))
  const replayed = fresh.indexOf(false)
  return replayed === -1 ? 'closed' : { replayed }
}
