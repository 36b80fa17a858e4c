import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { PassThrough } from 'node:stream'
import test from 'ava'
import pg from 'pg'
import { runProgram } from '../../src/commands/program.ts'
import { drawProgressOn, showProgress } from '../../src/commands/progress.ts'
import { parseConfig } from '../../src/config/config.ts'
import { openKeys } from '../../src/open-keys.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import { fromSources } from '../support/cli.ts'
import { openTestDatabase } from '../support/database.ts'
import { recordingEvents } from '../support/events.ts'
import { until } from '../support/until.ts'

function createTerminal({ isTTY = true, columns = 80 } = {}) {
  const stream = Object.assign(new PassThrough(), { isTTY, columns })
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

test.serial('says for how long something takes of which nobody knows the end', async (t) => {
  const { stream, written } = createTerminal()
  drawProgressOn(stream)
  using progress = showProgress({ patience: 0 })
  progress.report('Waiting for the database', 0, 0)
  await until(async () => /Waiting for the database … \d+ s/.test(written()))
  t.notRegex(written(), /[━─]/)
})

test.serial('a line is never longer than the terminal is wide', async (t) => {
  const { stream, written } = createTerminal({ columns: 40 })
  drawProgressOn(stream)
  using progress = showProgress({ patience: 0 })
  progress.report('x'.repeat(100), 1, 2)
  await until(async () => written().includes('━'))
  t.regex(written(), /[^x]x{14}[^x]/)
})

test.serial('is gone when all is done, or when it rests, and comes again', async (t) => {
  const { stream, written } = createTerminal()
  drawProgressOn(stream)
  using progress = showProgress({ patience: 0 })
  for (const [at, end] of [() => progress.report('Done', 2, 2), progress.rest].entries()) {
    progress.report(`Step ${at}`, 1, 2)
    await until(async () => written().includes(`Step ${at}`))
    end()
    await until(async () => written().endsWith(clearLine))
  }
  t.notRegex(written(), /Done/)
})

/** Whether a command with these arguments lets its progress be drawn. */
async function draws(args: readonly string[], { toFile = false } = {}): Promise<boolean> {
  const { stream, written } = createTerminal()
  const ignore = () => {}
  await runProgram(args, { write: ignore, writeError: ignore, progress: stream, toFile })
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

test.serial(
  'a command draws on its terminal, and beside JSON only if that goes to a file',
  async (t) => {
    const wrong = ['doctor', '--url', 'x']
    t.true(await draws(wrong))
    t.false(await draws([...wrong, '--json']))
    t.true(await draws([...wrong, '--json'], { toFile: true }))
  },
)

test.serial('opening tells of each step, of keys that are made, and of what follows', async (t) => {
  await using database = await openTestDatabase({ migrated: false })
  const steps: string[] = []
  const onStep = (what: string, done: number, total: number) =>
    steps.push(what.replace(/: .*/, ''), ...(done > total ? ['beyond the end'] : []))
  const config = parseConfig({
    DATABASE_URL: database.url,
    HOLDFAST_SECRET: 'a secret of at least 32 characters',
    HOLDFAST_TLS: 'off',
  })
  await using storage = await openStorage({ ...config, onError: () => {}, onStep })
  const { events } = recordingEvents()
  const counts: string[] = []
  const onKey = (what: string, done: number, total: number) =>
    counts.push(`${what} ${done}/${total}`)
  await openKeys({ config, storage, events, actor: 'test', onStep: onKey })
  t.deepEqual(
    [...new Set(steps)],
    ['Connecting to the database', 'Migrating the database', 'Migrating'],
  )
  t.deepEqual(
    counts,
    [0, 1, 2, 3, 4, 5, 6, 7, 8].map((done) => `Making keys ${done}/8`),
  )
})

const script = '/usr/bin/script'
const testInTerminal = existsSync(script) ? test.serial : test.serial.skip

testInTerminal('a real terminal shows it, and no pipe, no file and no JSON', async (t) => {
  await using database = await openTestDatabase()
  const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-terminal-'))
  const lock = new pg.Client({ connectionString: database.url })
  await lock.connect()
  // As another process that migrates: a second one waits for it.
  await lock.query('select pg_advisory_lock(4815162342)')
  const cli = `'${process.execPath}' ${fromSources} '${path.resolve('src/cli.ts')}' migrate`
  const seen: Record<string, string> = {}
  const run = async (name: string, command: string) => {
    const child = spawn(script, ['-qec', command, '/dev/null'], {
      cwd: folder,
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        PATH: process.env.PATH,
        SHELL: '/bin/sh',
        TERM: 'xterm',
        HOLDFAST_SECRET: 'a secret of at least 32 characters',
        DATABASE_URL: database.url,
      },
    })
    seen[name] = ''
    child.stdout.on('data', (chunk) => {
      seen[name] += chunk
    })
    const [code] = await once(child, 'close')
    return code
  }
  const all = [
    run('pipe', `${cli} | cat`),
    run('json', `${cli} --json`),
    run('terminal', cli),
    run('file', `${cli} --json > migrate.json`),
  ]
  const draws = (name: string) => seen[name]?.includes('Migrating the database') ?? false
  await until(async () => draws('terminal') && draws('file'))
  await lock.end()
  t.deepEqual(await Promise.all(all), [0, 0, 0, 0])
  t.false(draws('pipe'))
  t.false(draws('json'))
  // Nothing of it is left where something is read.
  t.regex(seen.pipe ?? '', /^The schema is up to date\./)
  t.deepEqual(JSON.parse(seen.json ?? ''), { applied: [] })
  t.deepEqual(JSON.parse(await readFile(path.join(folder, 'migrate.json'), 'utf8')), {
    applied: [],
  })
  t.true(seen.terminal?.split(clearLine).at(-1)?.startsWith('The schema is up to date.'))
  await rm(folder, { recursive: true })
})
