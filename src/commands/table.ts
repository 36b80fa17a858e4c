import { styleText } from 'node:util'
import stringWidth from 'string-width'

/** Text for a terminal, or text that stands out there. */
export type Cell = string | { readonly text: string; readonly style: 'red' | 'yellow' }

/** Rows in columns as wide as their widest cell, for a terminal. */
export function asTable(head: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const texts = rows.map((row) => row.map((cell) => printable(textOf(cell))))
  const widths = head.map((title) => stringWidth(title))
  for (const row of texts) {
    for (const [at, text] of row.entries()) {
      widths[at] = Math.max(widths[at] ?? 0, stringWidth(text))
    }
  }
  const line = (texts: readonly string[], style: (text: string, at: number) => string) =>
    texts
      .map((text, at) => {
        const rest = (widths[at] ?? 0) - stringWidth(text)
        return style(text, at) + ' '.repeat(at === texts.length - 1 ? 0 : rest)
      })
      .join('  ')
      .trimEnd()
  return [
    line(head, (text) => styleText('bold', text)),
    ...rows.map((row, index) =>
      line(texts[index] ?? [], (text, at) => styled(text, row[at] ?? '')),
    ),
  ].join('\n')
}

/** A cell where it stands alone. */
export function shown(cell: Cell): string {
  return styled(printable(textOf(cell)), cell)
}

const textOf = (cell: Cell) => (typeof cell === 'string' ? cell : cell.text)

const styled = (text: string, cell: Cell) =>
  typeof cell === 'string' ? text : styleText(cell.style, text)

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

/** A number of things, in words. */
export function counted(count: number, thing: string): string {
  return `${count} ${thing}${count === 1 ? '' : 's'}`
}
