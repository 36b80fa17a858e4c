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
  const hasSections = rows.some(({ section }) => section !== undefined)
  return `${hasSections ? `${asSections(rows)}\n` : asTable(rows)}\n${verdict(rows)}`
}

const titles = ['', 'What was tried', 'Must', 'Did', 'Answer']

function asTable(rows: readonly Row[]): string {
  const table = new Table({
    head: titles.map((title) => styleText('bold', title)),
    style: { head: [], border: [], compact: true },
  })
  table.push(...rows.map(cellsOf))
  return table.toString()
}

/** One table with a heading for each part of the story; without borders, to fit into 100 columns. */
function asSections(rows: readonly Row[]): string {
  const table = new Table({
    chars: borderless,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 2, compact: true },
  })
  table.push(titles.map((title) => styleText('dim', title)))
  for (const [at, row] of rows.entries()) {
    if (row.section !== rows[at - 1]?.section) {
      table.push([{ content: `\n${styleText('bold', row.section ?? '')}`, colSpan: 5 }])
    }
    table.push(cellsOf(row))
  }
  return table.toString().replaceAll(/ +$/gm, '')
}

const borderless = Object.fromEntries(
  ['top', 'bottom', 'left', 'right', 'mid']
    .flatMap((side) => [side, `${side}-mid`, `${side}-left`, `${side}-right`])
    .concat('left-mid', 'mid-mid', 'right-mid', 'middle')
    .map((name) => [name, '']),
)

function cellsOf(row: Row): string[] {
  const answer = [row.status, row.error, row.saw].filter((each) => each != null)
  return [
    row.who === 'owner' ? 'owner' : styleText('yellow', 'thief'),
    row.case,
    row.expected,
    row.got === row.expected
      ? styleText(row.who === 'thief' && row.got === 'accept' ? 'yellow' : 'green', `✓ ${row.got}`)
      : styleText(['red', 'bold'], `✗ ${row.got}`),
    answer.join(' '),
  ]
}

function verdict(rows: readonly Row[]): string {
  const failed = failedRows(rows).length
  if (failed > 0) return styleText(['red', 'bold'], `${failed} of ${rows.length} rows are wrong.`)
  const thefts = rows.filter(({ who }) => who === 'thief')
  const useless = thefts.filter(({ expected }) => expected === 'reject').length
  const open = thefts.length - useless
  const exceptions = open === 0 ? '' : `, ${open} that work`
  return styleText(
    'green',
    `All ${rows.length} rows are as they must be: ${useless} thefts of no use${exceptions}.`,
  )
}
