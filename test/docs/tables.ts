import { ConfigError, parseConfig, variableNames } from '../../src/config/config.ts'
import { refusals } from '../../src/token-endpoint/refusal.ts'
import { libraries, untried, versionOf } from '../clients/foreign/libraries.ts'
import { readText } from '../support/markdown.ts'

const markers = /(<!-- generated: npm run docs -->\n)[\s\S]*?(<!-- end -->)/

/** A page with a new text between its markers. */
export function withGenerated(page: string, text: string): string {
  if (!markers.test(page)) throw new Error('the page has no place for what is generated')
  return page.replace(markers, (_, begin: string, end: string) => `${begin}${text}\n${end}`)
}

/** Every variable: its text and default in .env.example, and the values that its schema accepts. */
export function configurationTable(): string {
  const rows = readText('.env.example')
    .split('\n\n')
    .slice(1)
    .flatMap((block) => rowsOf(block.split('\n').map((line) => line.replace(/^# ?/, ''))))
  return asMarkdown(['variable', 'default', 'value', 'meaning'], rows)
}

function rowsOf(lines: readonly string[]): string[][] {
  const isVariable = (line: string) => /^[A-Z][A-Z_]+=/.test(line)
  const meaning = lines.filter((line) => line && !isVariable(line)).join(' ')
  return lines.filter(isVariable).map((line) => {
    const [name = '', standard = ''] = line.split('=')
    return [`\`${name}\``, standard && `\`${standard}\``, accepted(name), meaning]
  })
}

/** What the schema says of a value that no variable can have. */
function accepted(name: string): string {
  if (!variableNames.includes(name)) return 'the name of a file'
  try {
    parseConfig({ [name]: '\u0000' })
  } catch (error) {
    const problems = error instanceof ConfigError ? error.problems : []
    const own = problems.find((problem) => problem.startsWith(`${name} must `))
    if (own) return own.replace(/^\S+ must (be |have )?/, '').replace(/\.$/, '')
  }
  return 'text'
}

/** Every reason for which the machine endpoints reject a request. */
export function refusalsTable(): string {
  const rows = Object.entries(refusals).map(([reason, row]) => {
    const { label = reason, detail, error } = row as typeof row & { label?: string }
    return [`\`${reason}\``, `\`${error}\``, label === reason ? '' : `\`${label}\``, detail]
  })
  return asMarkdown(['reason', 'error', 'metric label', 'what the log says'], rows)
}

/** Every library that `npm run clients` drives, with the settings that it was driven with. */
export function librariesTable(): string {
  const rows = libraries.map((library) => {
    const { folder, title, tokens, register, settings } = library
    const version = versionOf(library)
    const options = register
      .join(' ')
      .replaceAll(/BASE(?=$| )/g, '/')
      .replaceAll('BASE', '')
    const tried = `[${version}](../test/clients/foreign/${folder})`
    return [title, tokens, `\`${options}\``, settings, tried]
  })
  const head = ['library', 'tokens', '`clients add` with', 'settings', 'tried']
  return asMarkdown(head, [...rows, ...untried])
}

function asMarkdown(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`.replaceAll(/ +/g, ' ')
  return [line(head), `|${'---|'.repeat(head.length)}`, ...rows.map(line)].join('\n')
}
