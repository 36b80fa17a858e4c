// `npm test`: one PostgreSQL for all test files, each of which makes its own database in it.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { openTestCluster } from './support/cluster.ts'

// All of it ends by then, or fails. ava's own limit starts again with every event of a test.
const limitMinutes = 25
const limit = AbortSignal.timeout(limitMinutes * 60_000)

const cluster = await openTestCluster()

async function ava(...args: string[]): Promise<number> {
  const child = spawn(process.execPath, ['node_modules/ava/entrypoints/cli.js', ...args], {
    stdio: 'inherit',
    env: {
      // Hundreds of processes load the same modules.
      NODE_COMPILE_CACHE: path.resolve('node_modules/.cache/node'),
      ...process.env,
      HOLDFAST_TEST_CLUSTER: cluster.connectionString,
    },
  })
  const exited = once(child, 'exit')
  await Promise.race([exited, once(limit, 'abort')])
  if (child.exitCode === null && child.signalCode === null) {
    process.stderr.write(`\nThe tests did not end within ${limitMinutes} minutes. Pending are:\n`)
    // ava lists the tests that are pending, and ends.
    child.kill('SIGINT')
    await Promise.race([exited, setTimeout(15_000)])
    child.kill('SIGKILL')
    return 1
  }
  return child.exitCode ?? 1
}

const args = process.argv.slice(2)
let code: number
if (args.length > 0) {
  code = await ava(...args)
} else {
  // Browsers come first and have the machine to themselves: they keep time by their own clocks.
  const browsers = await ava('test/browser/*.test.ts')
  const others = limit.aborted ? 1 : await ava('test/**/*.test.ts', '!test/browser/**')
  code = browsers || others
}
await Promise.race([cluster[Symbol.asyncDispose](), setTimeout(60_000)])
process.exit(code)
