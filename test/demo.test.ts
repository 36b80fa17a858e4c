import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import test from 'ava'
import { chromiumPath } from './support/chromium-program.ts'
import { skipped } from './token-binding-tls/support.ts'

const run = promisify(execFile)
const demo = (...options: string[]) => run(process.execPath, ['examples/demo/main.ts', ...options])

interface Report {
  rows: {
    case: string
    expected: string
    got: string
    /** Null where no single response decides. */
    status: number | null
    error: string | null
    saw?: string
  }[]
  failed: number
}

for (const [story, thefts] of [
  ['--binding dpop', 15],
  ['--binding mtls', 11],
  ['--binding token-binding', 13],
  ['--story mcp', 16],
] as const) {
  const play = story === '--binding token-binding' && skipped ? test.skip : test
  play(`the demo gives the expected result in every row with ${story}`, async (t) => {
    const { stdout } = await demo('--json', ...story.split(' '))
    const { rows, failed } = JSON.parse(stdout) as Report
    t.is(failed, 0)
    t.deepEqual(
      rows.filter(({ expected, got }) => expected !== got),
      [],
    )
    const rejected = rows.filter(({ expected }) => expected === 'reject')
    t.true(rejected.length >= thefts)
    // A server that breaks, or an address that is not there, has refused nothing.
    t.deepEqual(
      rejected.filter(({ status, error }) => ![400, 401].includes(status ?? 0) || error === null),
      [],
    )
  })
}

const browserTest = chromiumPath === undefined && !process.env.CI ? test.skip : test

if (chromiumPath === undefined) {
  process.stderr.write('SKIPPED without CI: no Chromium found. apt-get install chromium\n')
}

browserTest('the demo gives the expected result in every row with --story people', async (t) => {
  const { rows, failed } = JSON.parse((await demo('--json', '--story', 'people')).stdout) as Report
  t.is(failed, 0)
  const rejected = rows.filter(({ expected }) => expected === 'reject')
  t.is(rejected.length, 12)
  t.deepEqual(
    rejected.filter(({ status, error }) => ![401, 404].includes(status ?? 0) || error === null),
    [],
  )
})

browserTest('the demo gives the expected result in every row with --story gate', async (t) => {
  const { rows, failed } = JSON.parse((await demo('--json', '--story', 'gate')).stdout) as Report
  t.is(failed, 0)
  t.is(rows.length, 58)
  const rejected = rows.filter(({ expected }) => expected === 'reject')
  t.is(rejected.length, 38)
  // Each names what refused it, or what was seen where no single response decides.
  t.deepEqual(
    rejected.filter(
      ({ status, error, saw }) =>
        !(status === null ? saw : [401, 403].includes(status) && error !== null),
    ),
    [],
  )
  const shown = (await readFile('docs/gate.md', 'utf8')).match(/^(?:owner|thief) {2}.*$/gm) ?? []
  t.is(shown.length, 14)
  for (const line of shown) {
    const [, tried = '', expected, got, answer] = line.split(/ {2,}/)
    const same = rows.filter((row) => row.case === tried && row.expected === expected)
    const answers = same.map(({ status, error, saw }) =>
      [status, error, saw].filter((each) => each != null).join(' '),
    )
    t.true(answers.includes(answer ?? ''), line)
    t.is(got, `✓ ${expected}`)
  }
})

browserTest('the demo gives the expected result in a browser that binds its session', async (t) => {
  const { rows, failed } = JSON.parse((await demo('--json', '--binding', 'dbsc')).stdout) as Report
  t.is(failed, 0)
  t.is(rows.filter(({ expected }) => expected === 'reject').length, 4)
})

test('the demo prints a table for people, with the rows that the README shows', async (t) => {
  const { stdout } = await demo()
  const shown = (await readFile('README.md', 'utf8')).match(/^│.*│$/gm) ?? []
  t.is(shown.length, 7)
  for (const row of shown) t.true(stdout.includes(row), row)
  t.regex(stdout, /thief.*access token as Bearer.*401 invalid_token/)
})
