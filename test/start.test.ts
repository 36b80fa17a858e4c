// What starts the program: npm, and the launcher on a Node that is too old.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import test from 'ava'
import { freePort } from '../src/net/free-port.ts'
import { useTestDatabase } from './support/database.ts'
import { useFolder } from './support/folder.ts'

const cwd = useFolder(test)
const database = useTestDatabase(test)

test('finishes requests and ends when npm start receives SIGTERM', async (t) => {
  const npm = spawn('npm', ['start'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      DATABASE_URL: database.url,
      HOLDFAST_DATA: path.join(cwd, 'data'),
      HOLDFAST_LOG_LEVEL: 'warn',
      HOLDFAST_PORT: String(await freePort()),
      HOLDFAST_TLS: 'off',
    },
  })
  const exited = once(npm, 'exit')
  // Its end is the end of the last process that writes there.
  const output = text(
    npm.stdout.on('data', (chunk: Buffer) => {
      if (chunk.includes('Ctrl-C')) npm.kill('SIGTERM')
    }),
  )
  t.regex(await output, /Finishing requests\.\n$/)
  await exited
})

test('says which Node is needed on an older one, and nothing else', (t) => {
  const pretend = "Object.defineProperty(process.versions, 'node', { value: '22.21.1' })"
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [
      '--import',
      `data:text/javascript,${encodeURIComponent(pretend)}`,
      'bin/holdfast.cjs',
      '--version',
    ],
    { encoding: 'utf8' },
  )
  t.is(status, 1)
  t.is(stdout, '')
  t.regex(stderr, /^holdfast: Holdfast needs Node 24\.12\.0 or newer; this is Node 22\.21\.1\./)
  t.is(stderr.trimEnd().split('\n').length, 1)
})
