import { styleText } from 'node:util'
import { asTable } from '../../../src/commands/table.ts'
import { judge, type Result, type Times } from './result.ts'

const cells = ({ count, p50_ms, p99_ms, max_ms }: Times) =>
  [count, p50_ms ?? '-', p99_ms ?? '-', max_ms ?? '-'].map(String)

/** The result for a person. */
export function report(result: Result): string {
  const { phases, health, dropped } = result
  const heading = ['phase', 'what', 'count', 'p50, ms', 'p99, ms', 'max, ms']
  const rows = Object.entries(phases).flatMap(([phase, { kinds, connecting }]) => [
    ...Object.entries(kinds).flatMap(([kind, { accepted, refused }]) => [
      [phase, `${kind}, accepted`, ...cells(accepted)],
      [phase, `${kind}, refused`, ...cells(refused)],
    ]),
    [phase, 'connecting', ...cells(connecting)],
  ])
  const { seconds, kinds, own } = phases.overload
  return [
    asTable(
      heading,
      [...rows, ['overload', 'health checks', ...cells(health)]].filter(
        ([, , count]) => count !== '0',
      ),
    ),
    '',
    `${Math.round(kinds.tokens.accepted.count / seconds)} tokens a second under overload. ` +
      `Connections dropped by the kernel: ${dropped}. ` +
      `The process that sends was busy for ${Math.round(own.busy * 100)} % of the time, and ` +
      `late by ${own.delay_p99_ms} ms at p99.`,
    '',
    ...Object.entries(judge(result)).map(([floor, holds]) =>
      holds ? `${styleText('green', '✓')} ${floor}` : `${styleText('red', '✗')} ${floor}`,
    ),
  ].join('\n')
}
