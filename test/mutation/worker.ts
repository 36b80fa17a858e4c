/**
 * A process for one test file: loads it once, and runs it as often as it is asked to, each time with
 * another mutant. `ava` is a recorder here, and each run declares what was recorded to a new runner.
 */
import { registerHooks } from 'node:module'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import type { ExecutionContext } from 'ava'
import { inHooks, instrumentSources, whileLoading } from './instrumented.ts'
import { root } from './suites.ts'

/** What is to be run: with which mutant, and which tests of the file unless all. */
export interface Run {
  readonly mutant: string | undefined
  readonly titles?: readonly string[] | undefined
  /** One test after the other: the first that fails ends the run. */
  readonly isSerial?: boolean
}

/** How a run has ended: what has failed first, if anything. */
export interface Ended {
  readonly failed?: string | undefined
  /** Of the first run: the tests by which each mutant is reached. */
  readonly reached?: Record<string, readonly string[]>
  /** Of the first run: milliseconds of each test. */
  readonly took?: Record<string, number>
}

interface Task {
  title: string
  implementation: (t: ExecutionContext, ...rest: unknown[]) => unknown
}

/** What is used of ava's own runner. */
interface Runner {
  readonly chain: object
  readonly tasks: Record<'serial' | 'concurrent', Task[]>
  on(event: 'stateChange', listen: (event: { data: { type: string; title: string } }) => void): void
  once(event: 'finish'): Promise<unknown>
}

interface Declared {
  readonly path: readonly string[]
  readonly args: readonly unknown[]
}

const declared: Declared[] = []

function recorder(...names: string[]): unknown {
  const record = (...args: unknown[]) => void declared.push({ path: names, args })
  const macro = (exec: unknown) => (typeof exec === 'function' ? { exec } : exec)
  return new Proxy(record, {
    get: (_, name) => (name === 'macro' ? macro : recorder(...names, String(name))),
  })
}

// Given at the start it is broken while the sources load as well.
let [, , testFile = '', broken] = process.argv
let running = whileLoading
let failed: string | undefined
const reached = new Map<string, Set<string>>()
const took: Record<string, number> = {}
let isFirst = true

instrumentSources((mutant) => {
  if (isFirst) reached.set(mutant, (reached.get(mutant) ?? new Set()).add(running))
  return mutant === broken
})
Object.assign(globalThis, { recorder: recorder() })
registerHooks({
  resolve: (name, context, next) =>
    name === 'ava'
      ? {
          url: 'data:text/javascript,export default recorder; export function registerCompletionHandler() {}',
          shortCircuit: true,
        }
      : next(name, context),
})
for (const event of ['uncaughtException', 'unhandledRejection']) {
  process.on(event, () => {
    failed ??= event
  })
}

const libraryOf = (name: string) =>
  pathToFileURL(path.join(root, 'node_modules/ava/lib', name)).href
const { default: AvaRunner } = await import(libraryOf('runner.js'))
const file = path.join(root, testFile)
await import(pathToFileURL(file).href)

async function run({ mutant, titles, isSerial = false }: Run): Promise<void> {
  broken = mutant
  failed = undefined
  const runner: Runner = new AvaRunner({ file, projectDir: root, serial: isFirst || isSerial })
  runner.on('stateChange', ({ data: { type, title } }) => {
    if (type.endsWith('-failed')) failed ??= title
  })
  for (const { path: names, args } of declared) {
    const declare = names.reduce<object>((chain, name) => Reflect.get(chain, name), runner.chain)
    ;(declare as (...given: unknown[]) => void)(...args)
  }
  for (const kind of ['serial', 'concurrent'] as const) {
    // In the order of the titles: those that cost little come first.
    const placeOf = ({ title }: Task) => titles?.indexOf(title) ?? 0
    runner.tasks[kind] = runner.tasks[kind]
      .filter((task) => placeOf(task) !== -1)
      .sort((one, other) => placeOf(one) - placeOf(other))
    for (const task of runner.tasks[kind]) {
      const { implementation, title } = task
      task.implementation = async (t, ...rest) => {
        // The first that fails has decided.
        if (failed !== undefined) {
          t.pass()
          return
        }
        running = title
        const beganAt = performance.now()
        try {
          await implementation(t, ...rest)
        } catch (error) {
          failed ??= title
          throw error
        }
        running = inHooks
        if (isFirst) took[title] = Math.round(performance.now() - beganAt)
      }
    }
  }
  await runner.once('finish')
  broken = undefined
}

running = inHooks
process.once('message', async (first: Run) => {
  await run(first)
  isFirst = false
  const byMutant = [...reached].map(([mutant, titles]) => [mutant, [...titles]])
  process.on('message', async (asked: Run) => {
    await run(asked)
    process.send?.({ failed } satisfies Ended)
  })
  process.send?.({ failed, reached: Object.fromEntries(byMutant), took } satisfies Ended)
})
