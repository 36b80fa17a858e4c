import { styleText } from 'node:util'
import { asTable } from '../../../src/commands/table.ts'
import type { SeenLock } from './locks.ts'

interface Lap {
  readonly requests: number
  readonly failed: number
  readonly slowestMs: number
}

export interface Upgrade {
  readonly rows: number
  readonly totalMs: number
  readonly steps: readonly { name: string; beganMs: number }[]
  readonly locks: readonly SeenLock[]
  readonly load: Readonly<Record<'before' | 'during' | 'after', Lap>>
  /** Tokens that were answered and have no audit event. */
  readonly lost: number
}

/** For so long may a lock that keeps readers out be waited for and held. */
const mostExclusiveMs = 1000

export function judgeUpgrade({ locks, load, lost }: Upgrade) {
  const gates = {
    no_failed_request: Object.values(load).every(({ failed }) => failed === 0),
    requests_were_answered: Object.values(load).every(({ requests }) => requests > 0),
    short_exclusive_locks: locks
      .filter(({ mode }) => mode === 'AccessExclusiveLock')
      .every(({ waitedMs, heldMs }) => waitedMs + heldMs <= mostExclusiveMs),
    no_lost_audit_event: lost === 0,
  }
  return { gates, failed: Object.values(gates).filter((passed) => !passed).length }
}

/** The result for a person. */
export function reportUpgrade(
  { rows, totalMs, steps, locks, load, lost }: Upgrade,
  { gates, failed }: ReturnType<typeof judgeUpgrade>,
): string {
  const seconds = (ms: number) => (ms / 1000).toFixed(3)
  return [
    title(`Migrations with ${rows} rows of artifacts, of used jtis and of the audit trail`),
    asTable(
      ['migration', 'seconds'],
      steps.map(({ name, beganMs }, at) => [
        name,
        seconds((steps[at + 1]?.beganMs ?? totalMs) - beganMs),
      ]),
    ),
    title('Locks on tables that were there before, in seconds'),
    asTable(
      ['table', 'lock', 'waited for', 'held'],
      locks.map(({ relation, mode, waitedMs, heldMs }) => [
        ...[relation, mode, seconds(waitedMs), seconds(heldMs)],
      ]),
    ),
    title('Requests to the release before'),
    asTable(
      ['upgrade', 'requests', 'failed', 'slowest ms'],
      Object.entries(load).map(([name, { requests, failed, slowestMs }]) => [
        ...[name, String(requests), String(failed), slowestMs.toFixed(0)],
      ]),
    ),
    `\nTokens without an audit event: ${lost}`,
    title('Gates'),
    ...Object.entries(gates).map(([name, passed]) =>
      passed ? `${styleText('green', '✓')} ${name}` : `${styleText('red', '✗')} ${name}`,
    ),
    '',
    failed === 0
      ? styleText('green', 'Every gate passed.')
      : styleText('red', `${failed} gates failed.`),
  ].join('\n')
}

function title(text: string): string {
  return `\n${styleText('bold', text)}\n`
}
