import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import test from 'ava'

const run = promisify(execFile)
const demo = (...options: string[]) => run(process.execPath, ['src/demo/main.ts', ...options])

interface Report {
  rows: { case: string; expected: string; got: string; status: number; error: string | null }[]
  failed: number
}

for (const [binding, thefts] of [
  ['dpop', 15],
  ['mtls', 11],
] as const) {
  test(`the demo plays its story with ${binding}, and every row is as it must be`, async (t) => {
    const { stdout } = await demo('--json', '--binding', binding)
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
      rejected.filter(({ status, error }) => ![400, 401].includes(status) || error === null),
      [],
    )
  })
}

test('the demo prints a table for people', async (t) => {
  const { stdout } = await demo()
  t.regex(stdout, /thief.*access token as Bearer.*401 invalid_token/)
})
