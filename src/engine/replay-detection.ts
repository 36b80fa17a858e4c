import type Provider from 'oidc-provider'
import { longestProofWindowS } from '../bindings/dpop.ts'
import type { EngineTimes } from '../storage/engine-times.ts'
import type { ReplayTable } from '../storage/replay-table.ts'
import { override } from './override.ts'

/** One statement instead of find, then save, and a replay entry that lasts as long as the proof can. */
export function recordReplaysOnce(
  engine: Provider,
  { tables: { replays }, times: { now } }: { tables: { replays: ReplayTable }; times: EngineTimes },
): void {
  override(
    engine,
    'ReplayDetection',
    (Base) =>
      class extends Base {
        // A proof from the edge of the future is good for twice the engine's window, and the
        // engine would forget it after once. The engine counts from the clock of its node, which
        // may be behind: no entry ends before the window does.
        static override async unique(issuer: string, jti: string, exp: number): Promise<boolean> {
          const windowEnd = Math.ceil(now() / 1000) + longestProofWindowS
          return replays.recordReplay(issuer, jti, Math.max(exp, windowEnd) + longestProofWindowS)
        }
      },
  )
}
