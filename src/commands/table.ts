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
  table.push(...rows.map((row) => [...row]))
  return table.toString().replace(/ +$/gm, '')
}
