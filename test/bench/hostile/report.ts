import { styleText } from 'node:util'
import { asTable } from '../../../src/commands/table.ts'
import type { HostileReport, NormalReport } from './child.ts'
import type { Usage } from './usage.ts'

export interface PhaseUsage {
  readonly phase: string
  readonly seconds: number
  readonly before: Usage
  readonly after: Usage
  readonly mostRssBytes: number
}

export interface Result {
  readonly checkout: string
  readonly phases: readonly PhaseUsage[]
  readonly normal: Readonly<Record<string, NormalReport>>
  readonly hostile: HostileReport
  /** How the server ended by itself, and the last it wrote; undefined when it did not. */
  readonly ended: string | undefined
}

const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1)
const seconds = (number: number) => number.toFixed(1)

/** The result for a person. */
export function report({ checkout, phases, normal, hostile, ended }: Result): string {
  return [
    checkout,
    title('Normal load'),
    asTable(
      ['phase', 'operation', 'succeeded', 'p50, ms', 'p99, ms', 'max, ms', 'failures'],
      Object.entries(normal).flatMap(([phase, { operations, failures }]) =>
        Object.entries(operations).map(([operation, { count, p50_ms, p99_ms, max_ms }]) => [
          phase,
          operation,
          ...[count, p50_ms ?? '-', p99_ms ?? '-', max_ms ?? '-'].map(String),
          Object.entries(failures)
            .filter(([failure]) => failure.startsWith(`${operation}:`))
            .map(([failure, times]) => `${times} × ${failure.slice(operation.length + 2)}`)
            .join(', '),
        ]),
      ),
    ),
    title('Answers to hostile requests'),
    asTable(
      ['kind', 'answers'],
      Object.entries(hostile.answers).map(([kind, outcomes]) => [
        kind,
        Object.entries(outcomes)
          .map(([outcome, times]) => `${times} × ${outcome}`)
          .join(', '),
      ]),
    ),
    `Without an answer at the end: ${hostile.unanswered}. Unread connections that the server ended: ${hostile.closed}.`,
    title('Server'),
    asTable(
      [
        'phase',
        's',
        'CPU, s',
        'waited for a core, s',
        'RSS before, MB',
        'after',
        'most',
        'log, kB',
        'WAL, MB',
      ],
      phases.map(({ phase, seconds: length, before, after, mostRssBytes }) => [
        phase,
        seconds(length),
        seconds(after.cpuSeconds - before.cpuSeconds),
        seconds(after.cpuWaitSeconds - before.cpuWaitSeconds),
        megabytes(before.rssBytes),
        megabytes(after.rssBytes),
        megabytes(mostRssBytes),
        ((after.logBytes - before.logBytes) / 1000).toFixed(1),
        megabytes(after.walBytes - before.walBytes),
      ]),
    ),
    title('Tables: rows and kB added'),
    asTable(['table', ...phases.map(({ phase }) => phase)], growth(phases)),
    ...(ended === undefined ? [] : ['', styleText('red', `The server ended by itself: ${ended}`)]),
  ].join('\n')
}

/** Those tables that grew or shrank. */
function growth(phases: readonly PhaseUsage[]): string[][] {
  const names = Object.keys(phases[0]?.before.tables ?? {})
  return names.flatMap((name) => {
    const cells = phases.map(({ before, after }) => {
      const [from, to] = [before.tables[name], after.tables[name]]
      const rows = (to?.rows ?? 0) - (from?.rows ?? 0)
      const bytes = (to?.bytes ?? 0) - (from?.bytes ?? 0)
      return rows === 0 && bytes === 0 ? '' : `${rows}, ${(bytes / 1000).toFixed(0)} kB`
    })
    return cells.some((cell) => cell !== '') ? [[name, ...cells]] : []
  })
}

function title(text: string): string {
  return `\n${styleText('bold', text)}\n`
}
