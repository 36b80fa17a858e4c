import { styleText } from 'node:util'
import Table from 'cli-table3'
import type { Row } from './steps.ts'

export function failedRows(rows: readonly Row[]): Row[] {
  return rows.filter(({ expected, got }) => expected !== got)
}

/** The rows as machines read them. */
export function asJson(rows: readonly Row[]): string {
  return JSON.stringify({
    rows: rows.map(({ who: _, ...row }) => row),
    failed: failedRows(rows).length,
  })
}

/** The rows as a person reads them: what was tried, what must happen, what happened. */
export function asText(rows: readonly Row[]): string {
  const table = new Table({
    head: ['', 'What was tried', 'Must', 'Did', 'Answer'].map((title) => styleText('bold', title)),
    style: { head: [], border: [], compact: true },
  })
  table.push(
    ...rows.map((row) => [
      row.who === 'owner' ? 'owner' : styleText('yellow', 'thief'),
      row.case,
      row.expected,
      row.got === row.expected
        ? styleText('green', `✓ ${row.got}`)
        : styleText(['red', 'bold'], `✗ ${row.got}`),
      `${row.status}${row.error ? ` ${row.error}` : ''}`,
    ]),
  )
  const failed = failedRows(rows).length
  const thefts = rows.filter(({ who, expected }) => who === 'thief' && expected === 'reject').length
  const verdict =
    failed === 0
      ? styleText(
          'green',
          `All ${rows.length} rows are as they must be: ${thefts} thefts, none of any use.`,
        )
      : styleText(['red', 'bold'], `${failed} of ${rows.length} rows are wrong.`)
  return `${table.toString()}\n${verdict}`
}
