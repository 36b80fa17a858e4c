/**
 * `npm run mutate [-- --only FILE] [--minutes N] [--jobs N] [--quick]`: breaks each guard of the sources of
 * suites.ts in turn and runs their tests, the quick ones first. A mutant that no test finds and that
 * compiles has survived, and is printed; ignored.ts names those that change nothing. `--quick` runs the
 * first groups of tests only: what survives that may still be found by others.
 *
 * A mutation tool changes every expression, starts all tests for each, and knows no guards; here
 * nothing but guards is broken, and a mutant ends with the first test that fails.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { openTestCluster } from '../support/cluster.ts'
import { makeTemplate } from '../support/database.ts'
import { compilingMutants } from './compiling.ts'
import { type Mutant, mutantsOf } from './guards.ts'
import type { AppliedMutant } from './hook.ts'
import { ignored } from './ignored.ts'
import { folders, root, suitesOf } from './suites.ts'

const { values } = parseArgs({
  options: {
    only: { type: 'string', multiple: true },
    minutes: { type: 'string', default: '600' },
    jobs: { type: 'string', default: '2' },
    quick: { type: 'boolean', default: false },
  },
})
let endsAt = Date.now() + Number(values.minutes) * 60_000
const isOver = () => Date.now() >= endsAt
// PostgreSQL and the tests under way are not to outlive this process.
const stopped = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    endsAt = 0
    stopped.abort()
  })
}

/** Longer than the slowest group of tests: a mutant that hangs is found. */
const patienceMs = 120_000

await using cluster = await openTestCluster()
await makeTemplate(cluster)

/** Whether tests pass, with a mutant or without. */
async function pass(tests: readonly string[], mutant?: AppliedMutant): Promise<boolean> {
  const hook = pathToFileURL(path.join(import.meta.dirname, 'hook.ts')).href
  const cli = path.join(root, 'node_modules/ava/entrypoints/cli.js')
  const child = spawn(process.execPath, [cli, '--fail-fast', ...tests], {
    cwd: root,
    stdio: 'ignore',
    detached: true,
    env: {
      ...process.env,
      NODE_COMPILE_CACHE: path.join(root, 'node_modules/.cache/node'),
      NODE_OPTIONS: `--conditions=@holdfast/source --import=${hook}`,
      HOLDFAST_TEST_CLUSTER: cluster.connectionString,
      ...(mutant && { HOLDFAST_MUTANT: JSON.stringify(mutant) }),
    },
  })
  const kill = () => child.pid && process.kill(-child.pid, 'SIGKILL')
  const patience = setTimeout(kill, patienceMs)
  stopped.signal.addEventListener('abort', kill)
  const [code] = await once(child, 'exit')
  clearTimeout(patience)
  stopped.signal.removeEventListener('abort', kill)
  return code === 0
}

/** Those of some mutants that groups of tests do not find. */
async function survivorsOf(
  file: string,
  mutants: readonly Mutant[],
  suites: readonly (readonly string[])[],
): Promise<readonly Mutant[]> {
  const url = pathToFileURL(path.join(root, file)).href
  const waiting = [...mutants]
  const survivors: Mutant[] = []
  const job = async () => {
    for (let next = waiting.shift(); next && !isOver(); next = waiting.shift()) {
      const { start, end, replacement } = next
      let survives = true
      for (const tests of suites) {
        survives &&= await pass(tests, { url, start, end, replacement })
      }
      if (survives) survivors.push(next)
    }
  }
  await Promise.all(Array.from({ length: Number(values.jobs) }, job))
  return survivors
}

/** Groups of tests that pass as things are: others would find everything. */
const checked = new Map<string, Promise<boolean>>()

async function checkSuites(suites: readonly (readonly string[])[]): Promise<void> {
  for (const tests of suites) {
    const name = tests.join(' ')
    const passes = checked.get(name) ?? pass(tests)
    checked.set(name, passes)
    if (!(await passes)) throw new Error(`${name} fails without a mutant`)
  }
}

function reasonFor(file: string, { guard, replacement }: Mutant): string | undefined {
  return ignored.find(
    (one) => one.file === file && one.guard === guard && one.replacement === replacement,
  )?.reason
}

async function breakGuards(file: string): Promise<readonly Mutant[]> {
  const text = readFileSync(path.join(root, file), 'utf8')
  const mutants = mutantsOf(file, text)
  const open = mutants.filter((mutant) => reasonFor(file, mutant) === undefined)
  const { quick, slow: others } = suitesOf(file)
  const slow = values.quick ? [] : others
  if (open.length > 0) await checkSuites([...quick, ...slow])
  const startedAt = Date.now()
  const unfound = await survivorsOf(file, open, quick)
  // Types find some of them, and cost less than a server.
  const compiling = compilingMutants(path.join(root, file), text, unfound)
  const survivors = await survivorsOf(file, compiling, slow)
  if (isOver()) return []
  const seconds = Math.round((Date.now() - startedAt) / 1000)
  const counts = `${mutants.length} mutants, ${mutants.length - open.length} ignored`
  const outcome = `${unfound.length - compiling.length} do not compile, ${survivors.length} survived`
  console.log(`${file}: ${counts}, ${outcome} (${seconds} s)`)
  for (const { line, guard, replacement } of survivors) {
    console.log(`  ${file}:${line}: ${guard.replaceAll(/\s+/g, ' ')} -> ${replacement}`)
  }
  return survivors
}

function sourcesOf(folder: string): readonly string[] {
  return readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !/\.d\.ts$|node_modules|^dist\b/.test(name))
    .map((name) => path.posix.join(folder, name))
    .sort()
}

const files = folders
  .flatMap(sourcesOf)
  .filter((file) => values.only?.some((part) => file.includes(part)) ?? true)
let survived = 0
for (const file of files) {
  survived += (await breakGuards(file)).length
  if (!isOver()) continue
  console.log(`stopped at ${file}: go on with --only`)
  process.exitCode = 1
  break
}
const gone = ignored.filter(
  ({ file, guard }) =>
    files.includes(file) && !readFileSync(path.join(root, file), 'utf8').includes(guard),
)
for (const { file, guard } of gone) console.log(`ignored.ts names what is gone: ${file}: ${guard}`)
if (survived + gone.length > 0) process.exitCode = 1
