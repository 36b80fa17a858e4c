// `npm test` and `npm run test:system`: one PostgreSQL for all test files, each of which makes its
// own database in it.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { setTimeout } from 'node:timers/promises'
import { openTestCluster } from './support/cluster.ts'
import { makeTemplate } from './support/database.ts'
import { makeReadyKeys } from './support/ready-keys.ts'

// All of it ends by then, or fails. ava's own limit starts again with every event of a test.
const limitMinutes = 40
const limit = AbortSignal.timeout(limitMinutes * 60_000)

const cluster = await openTestCluster()
await makeTemplate(cluster)
const [named] = process.argv.slice(2)
// One file makes its own faster.
const isWhole = named === undefined || named === '--system'
const readyKeys = isWhole ? await makeReadyKeys() : '[]'

/** Files with a failed test, by the lines that ava prints of them. */
const failed = new Set<string>()
let otherFailures = 0

async function ava(...args: string[]): Promise<number> {
  const child = spawn(process.execPath, ['node_modules/ava/entrypoints/cli.js', ...args], {
    stdio: ['inherit', process.env.CI ? 'pipe' : 'inherit', 'inherit'],
    env: {
      // Hundreds of processes load the same modules.
      NODE_COMPILE_CACHE: path.resolve('node_modules/.cache/node'),
      ...process.env,
      HOLDFAST_TEST_CLUSTER: cluster.connectionString,
      HOLDFAST_TEST_KEYS: readyKeys,
    },
  })
  const followed = child.stdout ? follow(child.stdout) : Promise.resolve()
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
  // A process that outlives its test may keep the pipe open.
  await Promise.race([followed, setTimeout(5000)])
  return child.exitCode ?? 1
}

/** The test file of a line that tells of a failed test, or of a file that did not end well. */
function fileOf(line: string): string | undefined {
  if (!/✘|tests were pending in/.test(line)) return undefined
  // What a failed assertion says may name another file.
  const isTitle = line.includes('[fail]: ')
  const [named] = (!isTitle && /test\/\S+\.test\.ts/.exec(line)) || []
  if (named) return named
  const titles = line.replace(/^ *✘ (\[fail\]: )?/, '').split(' › ')
  // ava leaves out the folders that all files of a run share: `test`, or `test/browser`.
  return titles
    .map((_, at) => `${titles.slice(0, at + 1).join('/')}.test.ts`)
    .flatMap((name) => [`test/${name}`, `test/browser/${name}`])
    .find((candidate) => existsSync(candidate))
}

/** Prints what ava prints, and notes what failed. */
async function follow(output: Readable): Promise<void> {
  for await (const line of createInterface(output)) {
    process.stdout.write(`${line}\n`)
    const file = fileOf(line)
    if (file) failed.add(file)
    else if (/^ *✘/.test(line) && !line.includes('Timed out')) otherFailures += 1
  }
}

/**
 * `npm run test:system`: what starts programs of the system or takes long, the tests of the scripts
 * that do, and those of profiles.
 */
const system = [
  'test/attack/**',
  'test/backup.test.ts',
  'test/cluster/**',
  'test/commands/{doctor,failures,serve}.test.ts',
  'test/conformance/**',
  'test/demo.test.ts',
  'test/docker/**',
  'test/docs/{generated,snippets}.test.ts',
  'test/doctor/**',
  'test/engine/crash.test.ts',
  'test/examples.test.ts',
  'test/gate/{attacks,audit,browser-attacks,browsers,faults,http2-attacks,page-key,replicas,session-stores,streams,upstream-tokens}.test.ts',
  'test/nodes/**',
  'test/outage.test.ts',
  'test/proxies/**',
  'test/simulation/simulation.test.ts',
  'test/soak/**',
  'test/start.test.ts',
  'test/token-endpoint/differential.test.ts',
  'test/token-binding-tls/{gnutls,memory,package}.test.ts',
  'test/workers/**',
  'test/vectors.test.ts',
  'test/verify/{package,properties,replay-stores,soak}.test.ts',
]

async function runAll(args: readonly string[]): Promise<number> {
  const [first] = args
  if (first === '--system') {
    // Browsers come first and have the machine to themselves: they keep time by their own clocks.
    const browsers = await ava('test/browser/*.test.ts')
    const others = limit.aborted ? 1 : await ava(...system)
    return browsers || others
  }
  if (first !== undefined) return ava(...args)
  const excluded = ['test/browser/**', ...system].map((pattern) => `!${pattern}`)
  return ava('test/**/*.test.ts', ...excluded)
}

let code = await runAll(process.argv.slice(2))
// Beside others on a busy machine a browser or a proxy is now and then too slow for a test. A defect
// fails alone as well; a file that fails once only is named here, to be looked at.
if (code !== 0 && failed.size > 0 && failed.size <= 5 && otherFailures === 0 && !limit.aborted) {
  const again = [...failed]
  process.stdout.write(`\nRun once more, alone: ${again.join(', ')}\n`)
  code = await ava('--concurrency=1', ...again)
  if (code === 0) process.stdout.write(`Failed once, and not alone: ${again.join(', ')}\n`)
}
await Promise.race([cluster[Symbol.asyncDispose](), setTimeout(60_000)])
process.exit(code)
