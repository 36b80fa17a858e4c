// `npm test`: one PostgreSQL for all test files, each of which makes its own database in it.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { openTestCluster } from './support/cluster.ts'

await using cluster = await openTestCluster()

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
  const [code] = await once(child, 'exit')
  return code ?? 1
}

const args = process.argv.slice(2)
if (args.length > 0) {
  process.exitCode = await ava(...args)
} else {
  // Browsers come first and have the machine to themselves: they keep time by their own clocks.
  const browsers = await ava('test/browser/*.test.ts')
  const others = await ava('test/**/*.test.ts', '!test/browser/**')
  process.exitCode = browsers || others
}
