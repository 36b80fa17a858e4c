import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { parseArgs, styleText } from 'node:util'
import {
  decideVectors,
  type Report,
  type Row,
  VectorsError,
} from './support/token-binding-vectors.ts'

/*
 * npm run vectors -- FILE.json [--json]
 * Exit status: 0 all as the file expects, 1 some are not, 2 there is nothing to decide.
 */

const usage = 'Usage: npm run vectors -- FILE.json [--json]'

function main(): number {
  let report: Report
  let json: boolean
  try {
    const options = { json: { type: 'boolean', default: false } } as const
    const { values, positionals } = parseArgs({ options, allowPositionals: true })
    const [path] = positionals
    if (path === undefined || positionals.length > 1) throw new VectorsError(usage)
    json = values.json
    report = decideVectors(readJson(path))
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
    return 2
  }
  const failed = report.failed.size
  process.stdout.write(json ? `${JSON.stringify({ ...report, failed })}\n` : table(report))
  return failed === 0 ? 0 : 1
}

function readJson(path: string): unknown {
  let text: string
  try {
    // npm runs scripts in the package's folder; the path is meant from where npm was called.
    text = readFileSync(resolve(process.env.INIT_CWD ?? '.', path), 'utf8')
  } catch (error) {
    throw new VectorsError(`Cannot read ${path}: ${error instanceof Error ? error.message : error}`)
  }
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new VectorsError(`${path} is not JSON: ${error instanceof Error ? error.message : error}`)
  }
}

const words = new Map([
  [true, 'accept'],
  [false, 'refuse'],
  [null, '–'],
])

function table({ rows, related, failed }: Report): string {
  const all = [...rows, ...related]
  const width = Math.max(8, ...all.map(({ id }) => id.length))
  const line = (row: Row) => {
    const { id, expected, got, reason } = row
    const decision = (words.get(got) ?? '').padEnd(6)
    const good = !failed.has(row)
    const mark = good ? styleText('green', '✔') : styleText('red', '✘')
    const wanted = good ? '' : ` (expected ${words.get(expected)})`
    return `${mark} ${id.padEnd(width)}  ${decision}${wanted}  ${styleText('dim', reason)}`
  }
  const parts = [`Token Binding messages`, ...rows.map(line)]
  if (related.length > 0) parts.push('', 'What refers to them', ...related.map(line))
  const verdict =
    failed.size === 0
      ? styleText('green', `All ${all.length} are as the file expects.`)
      : styleText('red', `${failed.size} of ${all.length} are not as the file expects.`)
  return `${[...parts, '', verdict].join('\n')}\n`
}

process.exitCode = main()
