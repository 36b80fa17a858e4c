/**
 * `npm run mutate [-- --only PART] [--minutes N] [--jobs N] [--quick]`: breaks each guard of the sources of
 * suites.ts in turn, compiles it, and runs the tests that reach it, the quick ones first. A mutant that no test finds
 * and that compiles has survived, and is printed; ignored.ts names those that change nothing. What is
 * judged is kept in node_modules/.cache: the next run goes on from there, and judges again what has
 * changed. `--quick` leaves out the tests of servers.
 *
 * A mutation tool changes every expression, starts all tests for each, and knows no guards; here
 * nothing but guards is broken, a test file is loaded once, and a mutant ends with the first failure.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { openTestCluster } from '../support/cluster.ts'
import { makeTemplate } from '../support/database.ts'
import { type Changed, notCompiling } from './compiling.ts'
import { mutantsOf } from './guards.ts'
import { ignored } from './ignored.ts'
import { hashOf, inHooks, nameOf, whileLoading } from './instrumented.ts'
import { folders, once as onceInAProcess, quick, root, slow } from './suites.ts'
import type { Ended, Run } from './worker.ts'

const { values } = parseArgs({
  options: {
    only: { type: 'string', multiple: true },
    minutes: { type: 'string', default: '600' },
    jobs: { type: 'string', default: '2' },
    quick: { type: 'boolean', default: false },
  },
})
const died = 'the process'
let endsAt = Date.now() + Number(values.minutes) * 60_000
const isOver = () => Date.now() >= endsAt
const workers = new Set<ChildProcess>()
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  // PostgreSQL and the tests under way are not to outlive this process.
  process.once(signal, () => {
    endsAt = 0
    for (const worker of workers) worker.kill('SIGKILL')
  })
}

interface NamedMutant extends Changed {
  readonly name: string
  readonly folder: string
}

function sourcesOf(folder: string): readonly string[] {
  return readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !/\.d\.ts$|node_modules|^dist\b/.test(name))
    .map((name) => path.posix.join(folder, name))
    .filter((file) => values.only?.some((part) => file.includes(part)) ?? true)
    .sort()
}

const mutants: readonly NamedMutant[] = folders.flatMap((folder) =>
  sourcesOf(folder).flatMap((file) => {
    const text = readFileSync(path.join(root, file), 'utf8')
    const named = mutantsOf(file, text)
    return named.map((one) => ({ ...one, file, text, folder, name: nameOf(file, text, one) }))
  }),
)

const isIgnored = ({ file, guard, replacement }: NamedMutant) =>
  ignored.some((one) => one.file === file && one.guard === guard && one.replacement === replacement)

/** What a test file, or the compiler, has found out of a mutant. */
interface Verdict {
  readonly mutant: string
  readonly by: string
  readonly outcome: 'found' | 'not found'
  readonly ms: number
}

const cache = path.join(root, 'node_modules/.cache')
const store = path.join(cache, 'mutants.jsonl')
const judged = new Set<string>()
const foundBy = new Map<string, string>()
let spentMs = 0

function learn({ mutant, by, outcome, ms }: Verdict): void {
  judged.add(`${mutant} ${by}`)
  if (outcome === 'found') foundBy.set(mutant, by)
  if (mutants.some(({ name }) => name === mutant)) spentMs += ms
}

function judge(verdict: Verdict): void {
  learn(verdict)
  appendFileSync(store, `${JSON.stringify(verdict)}\n`)
}

mkdirSync(cache, { recursive: true })
if (existsSync(store)) {
  for (const line of readFileSync(store, 'utf8').split('\n')) if (line) learn(JSON.parse(line))
}

/** Which tests of a file reach which of the mutants that there were. */
interface Reach {
  readonly by: string
  readonly mutants: readonly string[]
  /** The cheapest tests first. */
  readonly reached: Record<string, readonly string[]>
  /** For how long the whole file runs. */
  readonly ms: number
}

const reaches = path.join(cache, 'mutants-reached.jsonl')
const reachBy = new Map<string, Reach>()
if (existsSync(reaches)) {
  for (const line of readFileSync(reaches, 'utf8').split('\n')) {
    if (line) reachBy.set(JSON.parse(line).by, JSON.parse(line))
  }
}

/** Those that a test file, or the compiler, may still find. Tests of the library load nothing else. */
const openMutants = (by: string) =>
  mutants.filter(
    (one) =>
      !isIgnored(one) &&
      !foundBy.has(one.name) &&
      !judged.has(`${one.name} ${by}`) &&
      (!by.startsWith('test/verify/') || one.folder === 'packages/verify'),
  )

// Types find some of them, and cost less than tests.
const unknown = openMutants('types')
const unfit = new Set(notCompiling(unknown))
for (const one of unknown) {
  judge({ mutant: one.name, by: 'types', outcome: unfit.has(one) ? 'found' : 'not found', ms: 0 })
}

await using cluster = await openTestCluster()
await makeTemplate(cluster)

/** Runs a test file in a process of its own, which is started again after it has hung or ended. */
class Worker implements Disposable {
  readonly #file: string
  readonly isQuick: boolean
  #child: ChildProcess | undefined
  #patienceMs = 600_000

  constructor(file: string) {
    this.#file = file
    this.isQuick = quick.some((name) => file === `test/${name}.test.ts`)
  }

  /** Loads the file. With `titles` it is run as well; a mutant is broken from the beginning. */
  async start(mutant?: string, titles?: readonly string[]): Promise<Ended> {
    this[Symbol.dispose]()
    this.#child = fork(
      path.join(import.meta.dirname, 'worker.ts'),
      [this.#file, ...(mutant ? [mutant] : [])],
      {
        cwd: root,
        stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
        env: {
          ...process.env,
          NODE_ENV: 'test',
          NODE_OPTIONS: '--conditions=@holdfast/source',
          HOLDFAST_TEST_CLUSTER: cluster.connectionString,
        },
      },
    )
    workers.add(this.#child)
    this.#child.send({ mutant, titles } satisfies Run)
    return this.#answer(this.#child)
  }

  /** What the file reaches, by one run of all of it. */
  async reach(by: string): Promise<Reach> {
    const startedAt = Date.now()
    const { failed, reached = {}, took } = await this.start()
    if (isOver()) return { by, mutants: [], reached: {}, ms: 0 }
    if (failed !== undefined || !took) {
      throw new Error(`${this.#file} fails without a mutant: ${failed}`)
    }
    const names = mutants.map(({ name }) => name)
    const msOf = (title: string) => took[title] ?? 0
    for (const titles of Object.values(reached)) {
      ;(titles as string[]).sort((one, other) => msOf(one) - msOf(other))
    }
    const reach = { by, mutants: names, reached, ms: Date.now() - startedAt }
    reachBy.set(by, reach)
    appendFileSync(reaches, `${JSON.stringify(reach)}\n`)
    return reach
  }

  /** Waits for a run three times as long as all of the file takes. */
  waitFor({ ms }: Reach): void {
    this.#patienceMs = 20_000 + 3 * ms
  }

  async run(run: Run): Promise<Ended> {
    if (!this.#child) await this.start(undefined, [])
    const child = this.#child as ChildProcess
    child.send({ isSerial: this.isQuick, ...run })
    return this.#answer(child)
  }

  async #answer(child: ChildProcess): Promise<Ended> {
    const stopped = new AbortController()
    const { signal } = stopped
    const patience = setTimeout(() => child.kill('SIGKILL'), this.#patienceMs)
    const [ended] = await Promise.race([
      once(child, 'message', { signal }) as Promise<[Ended]>,
      once(child, 'exit', { signal }).then((): [Ended] => [{ failed: died }]),
    ])
    clearTimeout(patience)
    stopped.abort()
    if (ended.failed === died) this[Symbol.dispose]()
    return ended
  }

  [Symbol.dispose](): void {
    if (this.#child) workers.delete(this.#child)
    this.#child?.kill('SIGKILL')
    this.#child = undefined
  }
}

/** The tests of a file that can find a mutant: all of them where it is reached outside of tests. */
function titlesOf(reachedBy: readonly string[]): readonly string[] | undefined {
  const isOutside = reachedBy.includes(inHooks) || reachedBy.includes(whileLoading)
  return isOutside ? undefined : reachedBy
}

/** Whether one of some tests fails because of a mutant. */
async function isFound(
  worker: Worker,
  mutant: string,
  reachedBy: readonly string[],
): Promise<boolean> {
  // Tests that need others, or that the mutants before have upset, fail without it as well.
  for (const titles of [titlesOf(reachedBy), undefined]) {
    const { failed } = await worker.run({ mutant, titles })
    if (failed === undefined) break
    if (failed === died) return true
    const alone = reachedBy.includes(failed) ? [[failed]] : []
    for (const tried of [...alone, titles]) {
      if ((await worker.run({ mutant: undefined, titles: tried })).failed === undefined) return true
    }
    worker[Symbol.dispose]()
  }
  return reachedBy.every((title) => title === whileLoading)
    ? isFoundAnew(worker, mutant, reachedBy)
    : false
}

/** The same in a process in which it is broken from the beginning: what runs once, or is kept. */
async function isFoundAnew(
  worker: Worker,
  mutant: string,
  reachedBy: readonly string[],
): Promise<boolean> {
  const { failed } = await worker.start(mutant, titlesOf(reachedBy))
  worker[Symbol.dispose]()
  return failed !== undefined
}

interface Trial {
  /** Whether each mutant gets a process of its own. */
  readonly isAnew?: boolean
  /** Leaves out mutants that more tests of a file than this reach: others are more likely to find them. */
  readonly most?: number
}

/** Tries every mutant that is not found yet and that a test file reaches. */
async function tryTests(
  file: string,
  { isAnew = false, most = Number.POSITIVE_INFINITY }: Trial,
): Promise<void> {
  const version = `${file}@${hashOf(readFileSync(path.join(root, file), 'utf8'))}`
  const by = isAnew ? `${version} anew` : version
  if (openMutants(by).length === 0 || isOver()) return
  const startedAt = Date.now()
  using worker = new Worker(file)
  const kept = reachBy.get(version)
  const isKnown = openMutants(by).every(({ name }) => kept?.mutants.includes(name))
  const reach = kept && isKnown ? kept : await worker.reach(version)
  worker.waitFor(reach)
  if (isOver()) return
  const counts = { reached: 0, found: 0 }
  for (const { name } of openMutants(by)) {
    if (foundBy.has(name)) continue
    const beganAt = Date.now()
    const reachedBy = reach.reached[name]
    if (reachedBy && (titlesOf(reachedBy)?.length ?? Number.POSITIVE_INFINITY) > most) continue
    const look = isAnew ? isFoundAnew : isFound
    const found = reachedBy ? await look(worker, name, reachedBy) : false
    if (isOver()) break
    if (reachedBy) counts.reached += 1
    if (found) counts.found += 1
    judge({ mutant: name, by, outcome: found ? 'found' : 'not found', ms: Date.now() - beganAt })
  }
  const seconds = Math.round((Date.now() - startedAt) / 1000)
  console.log(
    `${file}${isAnew ? ' anew' : ''}: reaches ${counts.reached}, finds ${counts.found} (${seconds} s)`,
  )
}

async function tryAll(names: readonly string[], trial: Trial = {}): Promise<void> {
  const waiting = names.map((name) => `test/${name}.test.ts`)
  const job = async () => {
    for (let next = waiting.shift(); next && !isOver(); next = waiting.shift())
      await tryTests(next, trial)
  }
  await Promise.all(Array.from({ length: Number(values.jobs) }, job))
}

await tryAll(quick)
// Of the library, which keeps some results.
const ofLibrary = quick.filter((name) => name.startsWith('verify/'))
await tryAll(ofLibrary, { isAnew: true })
await tryAll(onceInAProcess, { isAnew: true })
// Few tests are likely to be those of the guard, and cost little.
for (const most of values.quick ? [] : [2, 8, Number.POSITIVE_INFINITY]) {
  await tryAll(slow, { most })
}

for (const folder of folders) {
  const all = mutants.filter((one) => one.folder === folder)
  const byTypes = all.filter(({ name }) => foundBy.get(name) === 'types').length
  const found = all.filter(({ name }) => foundBy.has(name)).length
  const equivalent = all.filter(isIgnored).length
  const survivors = all.filter((one) => !foundBy.has(one.name) && !isIgnored(one))
  const counts = `${found} found, ${byTypes} of them by types, ${equivalent} equivalent`
  const others = `${survivors.length} ${isOver() ? 'open' : 'survived'}`
  console.log(`${folder}: ${all.length} mutants, ${counts}, ${others}`)
  if (isOver()) continue
  for (const { file, line, guard, replacement } of survivors) {
    console.log(`  ${file}:${line}: ${guard.replaceAll(/\s+/g, ' ')} -> ${replacement}`)
  }
  if (survivors.length > 0) process.exitCode = 1
}
console.log(`${Math.round(spentMs / 1000)} s for these mutants, in all runs together`)
if (isOver()) {
  console.log('The time was over before all tests were tried: run it again.')
  process.exitCode = 1
}
for (const { file, guard } of ignored) {
  if (
    !existsSync(path.join(root, file)) ||
    !readFileSync(path.join(root, file), 'utf8').includes(guard)
  ) {
    console.log(`ignored.ts names what is gone: ${file}: ${guard}`)
    process.exitCode = 1
  }
}
