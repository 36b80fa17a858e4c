import { existsSync } from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { variableNames } from '../../src/config/config.ts'
import { secretFileNames } from '../../src/config/secret-files.ts'
import { refusals } from '../../src/token-endpoint/refusal.ts'
import { pages, readText, root } from '../support/markdown.ts'
import { configurationTable, librariesTable, refusalsTable, withGenerated } from './tables.ts'

for (const [page, table] of [
  ['docs/configuration.md', configurationTable()],
  ['docs/troubleshooting.md', refusalsTable()],
  ['docs/connect-a-relying-party.md', librariesTable()],
] as const) {
  test(`${page} is current`, (t) => {
    const text = readText(page)
    t.is(text, withGenerated(text, table), 'run: npm run docs')
  })
}

test('docs/configuration.md has every variable', (t) => {
  const table = configurationTable()
  for (const name of [...variableNames, ...secretFileNames])
    t.true(table.includes(`\`${name}\``), name)
})

test('docs/troubleshooting.md says what to do about every error code', (t) => {
  const [advice = ''] = readText('docs/troubleshooting.md').split('<!-- generated')
  for (const { error } of Object.values(refusals)) t.true(advice.includes(`\`${error}\``), error)
})

test('every link of a page leads to a file', (t) => {
  for (const page of [...pages(), 'CHANGELOG.md']) {
    const links = readText(page).matchAll(/\]\(([^)\s]+)[^)]*\)|(?:src|srcset)="([^"]+)"/g)
    for (const [, link, image] of links) {
      const [file = ''] = (link ?? image ?? '').split('#')
      if (/^(https?:|mailto:|$)/.test(file)) continue
      t.true(existsSync(path.join(root, path.dirname(page), file)), `${page}: ${file}`)
    }
  }
})
