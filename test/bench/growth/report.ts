import { styleText } from 'node:util'
import { asTable } from '../../../src/commands/table.ts'
import { median } from '../token/measure.ts'
import { type Growth, type judgeGrowth, mostGrowth, pick } from './result.ts'

/** The result for a person. */
export function reportGrowth(
  growth: Growth,
  { ratios, gates, failed }: ReturnType<typeof judgeGrowth>,
): string {
  const shown = (values: readonly number[], digits: number) =>
    values.length === 0 ? '' : median(values).toFixed(digits)
  const costs = (['client_credentials', 'refresh_token'] as const).flatMap((grant) =>
    growth.sizes.flatMap((rows) =>
      [false, true].map((cleaning) => [
        grant,
        String(rows),
        cleaning ? 'runs' : '',
        shown(pick(growth, rows, grant, 'cpuUs', cleaning), 0),
        shown(pick(growth, rows, grant, 'p50Ms', cleaning), 1),
        shown(pick(growth, rows, grant, 'p99Ms', cleaning), 1),
      ]),
    ),
  )
  const minutes = growth.minutes.map(({ grants, p99Ms, rows, bytes, backlog, failures }, at) => [
    String(at + 1),
    String(grants),
    p99Ms.toFixed(1),
    String(rows),
    (bytes / 1e6).toFixed(0),
    String(backlog),
    String(failures),
  ])
  const compared = [
    title('A grant by the rows of artifacts and of used jtis: medians of the rounds'),
    asTable(['grant', 'rows of each', 'cleanup', 'CPU µs', 'p50 ms', 'p99 ms'], costs),
    title(`From the fewest rows to the most (${mostGrowth} at most)`),
    asTable(
      ['grant', 'ratio'],
      Object.entries(ratios).map(([name, ratio]) => [name, `${ratio.toFixed(2)} ×`]),
    ),
    title('Cleanup in the middle'),
    asTable(
      ['rows of each', 'expired', 'left'],
      growth.cleanups.map((each) => [each.rows, each.expired, each.left].map(String)),
    ),
  ]
  return [
    ...(growth.samples.length > 0 ? compared : []),
    title('Refreshes at full speed, while as many rows expire as are written'),
    asTable(['minute', 'refreshes', 'p99 ms', 'rows', 'MB', 'backlog', 'failed'], minutes),
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
