import { styleText } from 'node:util'
import Table from 'cli-table3'

/** Rows in columns as wide as their widest cell, for a terminal. */
export function asTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const none = { top: '', 'top-mid': '', 'top-left': '', 'top-right': '', bottom: '' }
  const rest = { 'bottom-mid': '', 'bottom-left': '', 'bottom-right': '', left: '', 'left-mid': '' }
  const inner = { mid: '', 'mid-mid': '', right: '', 'right-mid': '', middle: '  ' }
  const table = new Table({
    head: head.map((title) => styleText('bold', title)),
    chars: { ...none, ...rest, ...inner },
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
  })
  table.push(...rows.map((row) => row.map(printable)))
  return table.toString().replace(/ +$/gm, '')
}

/** A sentence, and below it what belongs to it, each under its name. */
export function asFacts(
  sentence: string,
  facts: readonly (readonly [name: string, value: string])[],
): string {
  const width = Math.max(0, ...facts.map(([name]) => name.length)) + 2
  const lines = facts.map(([name, value]) => `  ${name.padEnd(width)}${value}`)
  return [sentence, ...(lines.length > 0 ? ['', ...lines] : [])].join('\n')
}

/** Names may come from anywhere: none of them moves the cursor or ends a line. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, '\ufffd')
}

/** A time as people read it in a table: UTC, to the minute. */
export function asMinute(time: Date): string {
  return `${time.toISOString().slice(0, 16)}Z`
}
