import { spawn, spawnSync } from 'node:child_process'
import { type AddressInfo, createServer } from 'node:net'
import type { TestFn } from 'ava'
import { createClient } from 'redis'
import { temporaryFolder } from './folder.ts'

/** Runs a test only where `redis-server` is; elsewhere it is skipped by name, and fails in CI. */
export function withRedis(test: TestFn): TestFn | TestFn['skip'] {
  const found = spawnSync('redis-server', ['--version']).status === 0
  if (found || process.env.CI === 'true') return test
  process.stderr.write('redis-server is not installed: the tests of the Redis store are skipped\n')
  return test.skip
}

/**
 * A real server on a free loopback port, gone when its scope ends. It keeps everything in memory,
 * unless `settings` say otherwise.
 */
export async function startRedis({ settings = [] }: { settings?: readonly string[] } = {}) {
  await using stack = new AsyncDisposableStack()
  const { path } = stack.use(await temporaryFolder())
  const port = await freePort()
  const options = ['--port', String(port), '--bind', '127.0.0.1', '--dir', path]
  const server = spawn('redis-server', [
    ...options,
    ...['--save', '', '--appendonly', 'no'],
    ...settings,
  ])
  stack.defer(async () => {
    const exited = new Promise((resolve) => server.once('exit', resolve))
    server.kill()
    await exited
  })
  const connect = async () => {
    const client = createClient({
      socket: { host: '127.0.0.1', port, reconnectStrategy: (tries) => tries < 100 && 50 },
    })
    client.on('error', () => {})
    await client.connect()
    return { client, [Symbol.asyncDispose]: async () => client.destroy() }
  }
  const first = stack.use(await connect())
  const second = stack.use(await connect())
  const open = stack.move()
  return {
    url: `redis://127.0.0.1:${port}`,
    clients: [first.client, second.client] as const,
    stop: () => open.disposeAsync(),
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
