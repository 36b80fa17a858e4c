import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'
import { useFolder } from '../support/folder.ts'

const run = promisify(execFile)
const folder = useFolder(test)

const script = `
  import { readConfig } from ${JSON.stringify(new URL('../../src/config/env.ts', import.meta.url))}
  try { console.log(JSON.stringify(readConfig())) } catch (error) { console.log(JSON.stringify(error)) }
`

/** What readConfig returns or throws in a process whose current folder is `cwd`. */
async function read(cwd: string, env: Record<string, string> = {}) {
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script], {
    cwd,
    env: { PATH: process.env.PATH, NODE_OPTIONS: process.env.NODE_OPTIONS, ...env },
  })
  return JSON.parse(stdout)
}

test('does without a file .env', async (t) => {
  const config = await read(folder, { HOLDFAST_PORT: '8001' })
  t.is(config.listen.port, 8001)
})

test('reads .env, and the environment wins', async (t) => {
  const cwd = path.join(folder, 'with-env')
  await mkdir(cwd)
  await writeFile(path.join(cwd, '.env'), 'HOLDFAST_PORT=8002\nHOLDFAST_LOG_LEVEL=warn\n')
  const config = await read(cwd, { HOLDFAST_LOG_LEVEL: 'error' })
  t.is(config.listen.port, 8002)
  t.is(config.logLevel, 'error')
})

test('finds mistakes in .env as in the environment', async (t) => {
  const cwd = path.join(folder, 'with-mistakes')
  await mkdir(cwd)
  await writeFile(path.join(cwd, '.env'), 'HOLDFAST_PROT=8002\n')
  const error = await read(cwd, { HOLDFAST_TLS: 'x' })
  t.is(error.name, 'ConfigError')
  t.deepEqual(
    error.problems.map((text: string) => text.split(' ')[0]),
    ['HOLDFAST_TLS', 'HOLDFAST_PROT'],
  )
})

test('says so when .env cannot be read', async (t) => {
  const cwd = path.join(folder, 'with-folder')
  await mkdir(path.join(cwd, '.env'), { recursive: true })
  const error = await read(cwd)
  t.is(error.name, 'ConfigError')
  t.regex(error.problems[0], /^\.env cannot be read \(\w+\)\.$/)
})
