import { styleText } from 'node:util'
import { asTable } from '../../../src/commands/table.ts'
import { type Cell, cells, median, type Sample } from './measure.ts'
import { cpuOf, type Measured, pick, type Result } from './result.ts'
import { isMeasuredAlone, nameOf, type Peer, peers, ways } from './scenario.ts'

/** The result for a person. */
export function report({ samples, roundTrips }: Measured, result: Result): string {
  const value = (peer: Peer, of: (sample: Sample) => number, row: Cell) =>
    median(pick(samples[peer], row, row.concurrency).map(of))
  const speed = (sample: Sample) => sample.grantsPerSecond

  const table = (of: (sample: Sample) => number, best: 'most' | 'least') =>
    cells.map((row) => {
      const values = peers.map((peer) => value(peer, of, row))
      const [ours = 0, ...others] = values
      return [
        row.grant,
        row.method,
        row.binding,
        String(row.concurrency),
        ...values.map((number) => shown(number, 0)),
        ...others.map((other) => shown(best === 'most' ? ours / other : other / ours, 2, '×')),
      ]
    })
  const others = peers.slice(1).map((peer) => `vs ${peer}`)
  const columns = ['grant', 'client authentication', 'binding', 'at once', ...peers, ...others]

  return [
    title('Grants per second'),
    asTable(columns, table(speed, 'most')),
    title('CPU of one grant, µs: Node.js and PostgreSQL'),
    asTable(columns, table(cpuOf, 'least')),
    title('SQL round trips of one grant'),
    asTable(
      ['grant, client authentication and binding', 'holdfast'],
      Object.entries(roundTrips).map(([name, count]) => [name, String(count)]),
    ),
    title('CPU of a grant that comes alone, beside one of sixteen at once'),
    asTable(
      ['grant, client authentication and binding', 'holdfast', 'by hand'],
      ways
        .filter(isMeasuredAlone)
        .map(nameOf)
        .map((name) => [
          name,
          ...[`${name}_alone`, `${name}_alone_by_hand`].map((each) =>
            shown(result.cpu_ratios[each] ?? Number.NaN, 2, '×'),
          ),
        ]),
    ),
    title('Memory at most, with the limits that `holdfast serve` sets'),
    `${result.peak_memory_mb} MB`,
    title('Gates'),
    ...Object.entries(result.gates).map(([name, held]) =>
      held ? `${styleText('green', '✓')} ${name}` : `${styleText('red', '✗')} ${name}`,
    ),
    title('Gates that hold'),
    asTable(['gate', 'hold', 'of'], byKind(result.gates)),
    '',
    result.failed === 0
      ? styleText('green', 'Every gate held.')
      : styleText('red', `${result.failed} gates did not hold.`),
  ].join('\n')
}

const kinds = [
  'cpu_vs_knex',
  'speed_vs_knex',
  'speed_vs_memory',
  'statements',
  'cpu_alone',
  'cpu_vs_hand',
]

function byKind(gates: Result['gates']): string[][] {
  const all = Object.entries(gates).map(([name, held]) => ({
    kind: kinds.find((kind) => name.endsWith(`_${kind}`)) ?? 'the others',
    held,
  }))
  return [...Map.groupBy(all, ({ kind }) => kind)].map(([kind, group]) => [
    kind,
    String(group.filter(({ held }) => held).length),
    String(group.length),
  ])
}

/** Nothing for what a peer does not do. */
function shown(value: number, digits: number, unit = ''): string {
  return Number.isNaN(value) ? '' : value.toFixed(digits) + unit
}

function title(text: string): string {
  return `\n${styleText('bold', text)}\n`
}
