// What starts the program: npm, and the launcher on a Node that is too old.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { Socket } from 'node:net'
import path from 'node:path'
import test from 'ava'
import { freePort } from '../src/net/free-port.ts'
import { useTestDatabase } from './support/database.ts'
import { useFolder } from './support/folder.ts'

const cwd = useFolder(test)
const database = useTestDatabase(test)

test.serial('finishes requests and ends when npm start receives SIGTERM', async (t) => {
  const { answer, printed } = await stopped((pid) => process.kill(pid, 'SIGTERM'))
  t.regex(answer, /^HTTP\/1\.1 40[01] /m)
  t.regex(printed, /Finishing requests\.\n$/)
})

// A service manager signals all processes of a service, and npm passes on what it gets.
test.serial('finishes requests when the same SIGTERM comes twice', async (t) => {
  const { answer, printed } = await stopped((pid) => process.kill(-pid, 'SIGTERM'), 'again')
  t.regex(answer, /^HTTP\/1\.1 40[01] /m)
  t.regex(printed, /Finishing requests\.\n$/)
})

/** Runs `npm start`, and stops it while the body of a request is on its way. */
async function stopped(stop: (pid: number) => void, again?: 'again') {
  const port = await freePort()
  const npm = spawn('npm', ['start'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      DATABASE_URL: database.url,
      HOLDFAST_DATA: path.join(cwd, 'data'),
      HOLDFAST_LOG_LEVEL: 'warn',
      HOLDFAST_PORT: String(port),
      HOLDFAST_TLS: 'off',
    },
  })
  const exited = once(npm, 'exit')
  const request = new Socket()
  let answer = ''
  request.on('data', (chunk) => {
    answer += chunk
  })
  request.on('error', () => {})
  let printed = ''
  // Its end is the end of the last process that writes there.
  for await (const chunk of npm.stdout) {
    printed += chunk
    if (String(chunk).includes('Ctrl-C')) {
      request.connect(port, 'localhost')
      request.write(
        'POST /token HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n' +
          'Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n' +
          'Expect: 100-continue\r\n\r\n',
      )
      // The server has begun with it when it asks for the body.
      await once(request, 'data')
      stop(Number(npm.pid))
    }
    if (String(chunk).includes('Finishing')) {
      if (again) stop(Number(npm.pid))
      request.write('a=b')
    }
  }
  await exited
  return { answer, printed }
}

/** Says how a process of node was started, once it does not start itself again. */
const tell = `
  import { getHeapStatistics } from 'node:v8'
  if (process.execArgv.length > 0 || process.argv[2] !== 'serve') {
    console.log(process.execArgv.join(' '), getHeapStatistics().heap_size_limit / 2 ** 20)
    process.exit()
  }`

function startedWith(nodeOptions: string, ...args: string[]) {
  const preload = `--import=data:text/javascript,${encodeURIComponent(tell)}`
  const env = { PATH: process.env.PATH, NODE_OPTIONS: `${nodeOptions} ${preload}` }
  return spawnSync('bin/holdfast.cjs', args, { encoding: 'utf8', env })
}

test('limits the heap of a process that serves, and of no other command', (t) => {
  const { stdout } = startedWith('', 'serve')
  t.regex(stdout, /^--max-old-space-size=256 --max-semi-space-size=16 \d+\n$/)
  t.is(startedWith('', 'clients', 'list').stdout.split(' ')[0], '')
})

test("leaves the heap to an operator's own limits", (t) => {
  const limits: (options: readonly string[]) => string[] = createRequire(import.meta.url)(
    '../bin/heap-limits.cjs',
  )
  t.is(limits(['--enable-source-maps', '']).length, 2)
  for (const own of [
    '--max-old-space-size=512',
    '--max_old_space_size=512',
    '--max-old-space-size-percentage=50',
    '--max-semi-space-size=64',
    '--max-heap-size=1024',
  ]) {
    t.deepEqual(limits(['--enable-source-maps', own]), [], own)
  }
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
