import { PassThrough } from 'node:stream'
import test from 'ava'
import { runProgram } from '../../src/commands/program.ts'
import { drawProgressOn, showProgress } from '../../src/commands/progress.ts'
import { until } from '../support/until.ts'

function createTerminal({ isTTY = true } = {}) {
  const stream = Object.assign(new PassThrough(), { isTTY, columns: 80 })
  let written = ''
  stream.on('data', (chunk) => {
    written += chunk
  })
  return { stream: stream as unknown as NodeJS.WriteStream, written: () => written }
}

const clearLine = '\u001b[2K'

test.serial('draws what is being done, and how far it is, and leaves nothing', async (t) => {
  const { stream, written } = createTerminal()
  drawProgressOn(stream)
  const progress = showProgress({ patience: 0 })
  progress.report('Making the database', 0, 4)
  await until(async () => written().includes('Making the database'))
  progress.report('Migrating', 3, 4)
  await until(async () => written().includes('Migrating'))
  t.regex(written(), /━{18}─{6} Migrating/)
  progress[Symbol.dispose]()
  await until(async () => written().endsWith(clearLine))
  t.pass()
})

test.serial('draws nothing for what is soon over', (t) => {
  const { stream, written } = createTerminal()
  drawProgressOn(stream)
  const progress = showProgress({ patience: 60_000 })
  progress.report('Making the database', 0, 4)
  progress[Symbol.dispose]()
  t.is(written(), '')
})

test.serial('draws nothing where there is no terminal', (t) => {
  const { stream, written } = createTerminal({ isTTY: false })
  drawProgressOn(stream)
  using progress = showProgress({ patience: 0 })
  progress.report('Making the database', 0, 4)
  t.is(written(), '')
})

/** Whether a command with these arguments lets its progress be drawn. */
async function draws(...args: string[]): Promise<boolean> {
  const { stream, written } = createTerminal()
  const ignore = () => {}
  await runProgram(args, { write: ignore, writeError: ignore, progress: stream })
  const fallback = createTerminal()
  // Whatever was set, something is drawn somewhere at once.
  using progress = showProgress({ patience: 0 })
  progress.report('Working', 0, 1)
  drawProgressOn(fallback.stream)
  using other = showProgress({ patience: 0 })
  other.report('Other', 0, 1)
  await until(async () => fallback.written().includes('Other'))
  return written().includes('Working')
}

test.serial('a command draws on its terminal, and never with --json', async (t) => {
  t.true(await draws('doctor', '--url', 'x'))
  t.false(await draws('doctor', '--url', 'x', '--json'))
})
