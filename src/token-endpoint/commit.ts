/**
 * Makes a grant true: one statement that consumes the credential, records what was shown once and
 * writes the tokens. This file alone makes {@link Committed}, and no other answer leaves the token
 * endpoint.
 */
import type { ArtifactKey, ArtifactTable, CommitOutcome } from '../storage/artifact-table.ts'
import type { ReplayTable } from '../storage/replay-table.ts'
import type { Issued, TokenAnswer } from './issue.ts'
import type { UsedJti } from './token-request.ts'

/** That a statement has succeeded; see `Witness` in checks.ts. */
declare class Commitment {
  private readonly isCommitted: true
}

/** What was written by a statement that has succeeded. */
export type Committed<What> = What & Commitment

export interface CommitTables {
  readonly artifacts: Pick<ArtifactTable, 'commit'>
  readonly replays: Pick<ReplayTable, 'insert'>
}

/** The answer, if it may leave; else what another request had done before. */
export async function commit(
  {
    consumes,
    issued,
    usedJtis,
  }: {
    readonly consumes: ArtifactKey | undefined
    readonly issued: Issued
    readonly usedJtis: readonly UsedJti[]
  },
  tables: CommitTables,
): Promise<{ readonly answer: Committed<TokenAnswer> } | Exclude<CommitOutcome, 'committed'>> {
  const outcome = await write(consumes, issued, usedJtis, tables)
  return outcome === 'committed' ? { answer: issued.answer as Committed<TokenAnswer> } : outcome
}

async function write(
  consumed: ArtifactKey | undefined,
  { written }: Issued,
  usedJtis: readonly UsedJti[],
  { artifacts, replays }: CommitTables,
): Promise<CommitOutcome> {
  if (consumed || written.length > 0) {
    return artifacts.commit({
      replayEntries: usedJtis.map(({ entry }) => entry),
      consumed,
      written,
    })
  }
  const fresh = await Promise.all(usedJtis.map(({ entry }) => replays.insert(entry)))
  const replayed = fresh.indexOf(false)
  return replayed === -1 ? 'committed' : { replayed }
}
