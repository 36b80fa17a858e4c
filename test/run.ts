// `npm test`: one PostgreSQL for all test files, each of which makes its own database in it.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { openTestCluster } from './support/cluster.ts'

await using cluster = await openTestCluster()
const ava = spawn(
  process.execPath,
  ['node_modules/ava/entrypoints/cli.js', ...process.argv.slice(2)],
  {
    stdio: 'inherit',
    env: { ...process.env, HOLDFAST_TEST_CLUSTER: cluster.connectionString },
  },
)
const [code] = await once(ava, 'exit')
process.exitCode = code ?? 1
