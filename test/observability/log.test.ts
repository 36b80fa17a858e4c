import { spawnSync } from 'node:child_process'
import test from 'ava'

const log = new URL('../../src/observability/log.ts', import.meta.url).href

/** What a process writes to standard error that logs three lines and then does something. */
function run(then: string) {
  const program = `
    const { createLog } = await import(${JSON.stringify(log)})
    const log = createLog('info')
    for (const event of ['one', 'two', 'three']) log.info({ event }, 'said')
    ${then}`
  const { stderr, status } = spawnSync(
    process.execPath,
    ['--no-warnings', '--input-type=module', '--eval', program],
    { encoding: 'utf8' },
  )
  const lines = stderr.split('\n').filter((line) => line.startsWith('{'))
  return { status, events: lines.map((line) => JSON.parse(line).event) }
}

for (const [end, then, expected] of [
  ['comes to its end', '', 0],
  ['exits', 'process.exit(3)', 3],
  ['fails', "throw new Error('unexpected')", 1],
] as const) {
  test(`a process that ${end} has written every line, in order`, (t) => {
    t.deepEqual(run(then), { status: expected, events: ['one', 'two', 'three'] })
  })
}

test('a line is written before the next turn, whatever comes after', (t) => {
  const { events } = run("setImmediate(() => process.kill(process.pid, 'SIGKILL'))")
  t.deepEqual(events, ['one', 'two', 'three'])
})

test('any number of logs leave one listener for the end of the process', (t) => {
  const { events } = run(`
    const before = process.listenerCount('exit')
    for (let count = 0; count < 20; count += 1) createLog('info').info({ event: 'other' }, 'said')
    log.info({ event: String(process.listenerCount('exit') - before) }, 'said')`)
  t.deepEqual(events, ['one', 'two', 'three', ...Array(20).fill('other'), '0'])
})
