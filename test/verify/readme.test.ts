import { readFile } from 'node:fs/promises'
import test from 'ava'
import { VerifyError, verifyErrorCodes } from '../../packages/verify/errors.ts'

const readme = await readFile(new URL('../../packages/verify/README.md', import.meta.url), 'utf8')
const rows = [...readme.matchAll(/^\| `(\w+)` \| (\d+) \| (?:`(\w+)`)? ?\| (.+) \|$/gm)]

test('the table of refusals has every code, its status and its error', (t) => {
  const documented = rows.map(([, code, status, error]) => ({
    code,
    status: Number(status),
    error,
  }))
  const actual = verifyErrorCodes.map((code) => {
    const { status, error } = new VerifyError(code, '')
    return { code, status, error }
  })
  const sorted = (list: readonly object[]) => list.map((row) => JSON.stringify(row)).sort()
  t.deepEqual(sorted(documented), sorted(actual))
})

test('every framework has a quick start of ten lines or fewer', (t) => {
  const [, start = ''] = readme.split('## Quick start')
  const blocks = [...(start.split('\n## ')[0] ?? '').matchAll(/```js\n([\s\S]*?)```/g)]
  t.is(blocks.length, 6)
  for (const [, code = ''] of blocks) {
    t.true(code.split('\n').filter((line) => line.trim() !== '').length <= 10, code)
  }
})
