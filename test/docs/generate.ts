// `npm run docs`: writes the parts of docs that are made from the code. With --check it writes
// nothing, and fails when something is not current.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { readText, root } from '../support/markdown.ts'
import { configurationTable, librariesTable, refusalsTable, withGenerated } from './tables.ts'

const check = process.argv.includes('--check')
const stale: string[] = []

function write(file: string, text: string): void {
  const absolute = path.join(root, file)
  let before = ''
  try {
    before = readFileSync(absolute, 'utf8')
  } catch {
    // A new page.
  }
  if (before === text) return
  if (check) stale.push(file)
  else writeFileSync(absolute, text)
}

for (const [page, table] of [
  ['docs/configuration.md', configurationTable()],
  ['docs/troubleshooting.md', refusalsTable()],
  ['docs/connect-a-relying-party.md', librariesTable()],
] as const) {
  write(page, withGenerated(readText(page), table))
}

const folder = mkdtempSync(path.join(tmpdir(), 'holdfast-docs-'))
try {
  const options = ['--options', 'typedoc.json', '--out', folder, '--logLevel', 'Error']
  execFileSync(path.join(root, 'node_modules/.bin/typedoc'), options, {
    cwd: path.join(root, 'packages/verify'),
    stdio: 'inherit',
  })
  for (const name of readdirSync(folder)) {
    write(`docs/reference/${name}`, readFileSync(path.join(folder, name), 'utf8'))
  }
} finally {
  rmSync(folder, { recursive: true })
}

if (stale.length > 0) {
  console.error(`Not current: ${stale.join(', ')}. Run: npm run docs`)
  process.exitCode = 1
}
