import { styleText } from 'node:util'
import { asTable } from '../../../src/commands/table.ts'
import { type Cell, cells, median, type Sample } from './measure.ts'
import { type Measured, pick, type Result } from './result.ts'
import { type Peer, peers } from './scenario.ts'

/** The result for a person. */
export function report({ samples, roundTrips }: Measured, result: Result): string {
  const value = (peer: Peer, of: (sample: Sample) => number, row: Cell) =>
    median(pick(samples[peer], row.grant, row.method, row.concurrency).map(of))
  const speed = (sample: Sample) => sample.grantsPerSecond
  const cpu = (sample: Sample) => sample.nodeCpu + sample.postgresCpu

  const table = (of: (sample: Sample) => number, best: 'most' | 'least') =>
    cells.map((row) => {
      const values = peers.map((peer) => value(peer, of, row))
      const [ours = 0, ...others] = values
      return [
        row.grant,
        row.method,
        String(row.concurrency),
        ...values.map((number) => number.toFixed(0)),
        ...others.map((other) => `${(best === 'most' ? ours / other : other / ours).toFixed(2)}×`),
      ]
    })
  const columns = ['grant', 'client authentication', 'at once', ...peers, 'vs knex', 'vs memory']

  return [
    title('Grants per second'),
    asTable(columns, table(speed, 'most')),
    title('CPU of one grant, µs: Node.js and PostgreSQL'),
    asTable(columns, table(cpu, 'least')),
    title('SQL round trips of one grant'),
    asTable(
      ['grant and client authentication', 'holdfast'],
      Object.entries(roundTrips).map(([name, count]) => [name, String(count)]),
    ),
    title('Gates'),
    ...Object.entries(result.gates).map(([name, held]) =>
      held ? `${styleText('green', '✓')} ${name}` : `${styleText('red', '✗')} ${name}`,
    ),
    '',
    result.failed === 0
      ? styleText('green', 'Every gate held.')
      : styleText('red', `${result.failed} gates did not hold.`),
  ].join('\n')
}

function title(text: string): string {
  return `\n${styleText('bold', text)}\n`
}
