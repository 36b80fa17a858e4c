import { stripVTControlCharacters, styleText } from 'node:util'
import test from 'ava'
import { asFacts, asMinute, asTable, shown } from '../../src/commands/table.ts'

const plain = stripVTControlCharacters

test('columns are as wide as their widest cell, and lines have no blank end', (t) => {
  const table = asTable(
    ['Name', 'State'],
    [
      ['Ada Lovelace', 'active'],
      ['Bob', ''],
    ],
  )
  t.deepEqual(plain(table).split('\n'), ['Name          State', 'Ada Lovelace  active', 'Bob'])
})

test('a wide character takes two columns', (t) => {
  const table = asTable(
    ['Name', 'State'],
    [
      ['東京の店', 'active'],
      ['é', 'active'],
    ],
  )
  t.deepEqual(plain(table).split('\n'), ['Name      State', '東京の店  active', 'é         active'])
})

test('what stands out does so, and what others have written does not', (t) => {
  const style = (text: string) => styleText('red', text, { validateStream: false })
  const bearer = { text: 'BEARER', style: 'red' } as const
  process.env.FORCE_COLOR = '1'
  try {
    const [, line] = asTable(['Tokens', 'Name'], [[bearer, style('x')]]).split('\n')
    t.is(line, `${style('BEARER')}  \ufffd[31mx\ufffd[39m`)
    t.is(shown({ text: 'a\u001bb', style: 'red' }), style('a\ufffdb'))
  } finally {
    delete process.env.FORCE_COLOR
  }
})

test('more rows than a call can have arguments', (t) => {
  const rows = Array.from({ length: 200_000 }, (_, at) => [`person${at}@example.com`, 'active'])
  t.is(asTable(['Email', 'State'], rows).split('\n').length, 200_001)
})

test('a sentence without facts is a sentence', (t) => {
  t.is(asFacts('Done.', []), 'Done.')
  t.is(asFacts('Done.', [['Key', 'x']]), 'Done.\n\n  Key  x')
})

test('a time is UTC, to the minute', (t) => {
  t.is(asMinute(new Date('2026-01-31T12:34:56.789Z')), '2026-01-31T12:34Z')
})
