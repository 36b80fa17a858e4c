import { readFile } from 'node:fs/promises'
import test from 'ava'

const docs = new URL('../../docs/', import.meta.url)

for (const page of ['threat-model.md', 'dbsc.md']) {
  test(`every test that ${page} names exists`, async (t) => {
    const text = await readFile(new URL(page, docs), 'utf8')
    const named = [...text.matchAll(/\]\((\S+\.test\.ts) "([^"]+)"\)/g)]
    t.true(named.length > 20)
    for (const [, file = '', title = ''] of named) {
      const tests = await readFile(new URL(file, docs), 'utf8')
      t.true(tests.includes(`('${title}'`), `${file}: ${title}`)
    }
  })
}

test('every attacker of the threat model has a test', async (t) => {
  const text = await readFile(new URL('threat-model.md', docs), 'utf8')
  for (const row of text.split('\n').filter((line) => line.startsWith('| **'))) {
    t.regex(row, /\.test\.ts "/, row.slice(0, 60))
  }
})
