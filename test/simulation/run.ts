import { setImmediate } from 'node:timers/promises'
import { judge, type Violation } from '../support/history.ts'
import { Actors } from './actors.ts'
import { type Choices, type Script, scripted, seeded, shrink } from './choices.ts'
import { Cluster, type Line } from './cluster.ts'
import type { Plant } from './plants.ts'

export interface Run {
  readonly violations: readonly (Violation | { readonly rule: 'error'; readonly what: string })[]
  /** What happened, a line each. */
  readonly lines: readonly Line[]
  /** Requests that were served. */
  readonly requests: number
}

/** Runs a cluster by drawn choices, lets everything come to its end, and judges the history. */
export async function run(choices: Choices, plant?: Plant): Promise<Run> {
  const cluster = new Cluster(choices, plant)
  const actors = new Actors(cluster, choices)
  while (choices.next()) {
    const action = choices.draw(41)
    if (action < 22) cluster.deliver()
    else if (action < 32) actors.ownerActs()
    else if (action < 35) actors.thiefActs()
    else if (action < 37) await cluster.moveClock()
    else if (action < 38) cluster.crash()
    else if (action < 39) actors.personActs()
    else actors.authorize()
    await setImmediate()
  }
  await cluster.settle()
  cluster.say('everything works again')
  await actors.probe()
  const { history, lines, errors } = cluster
  const broken = errors.map((error) => ({ rule: 'error', what: String(error) }) as const)
  return { violations: [...broken, ...judge(history)], lines, requests: history.uses.length }
}

export interface Failure {
  readonly seed: number
  readonly violation: Run['violations'][number]
  /** The shortest history that was found with a violation of the same rule. */
  readonly lines: readonly string[]
}

/** The shortest run that still breaks the same rule as a seed does. */
export async function explain(seed: number, first: Run, plant?: Plant): Promise<Failure> {
  const [violation] = first.violations
  if (!violation) throw new Error(`seed ${seed} breaks no rule`)
  const choices = seeded(seed)
  await run(choices, plant)
  const breaks = async (script: Script) =>
    (await run(scripted(script), plant)).violations.some(({ rule }) => rule === violation.rule)
  const script = await shrink(choices.taken, breaks)
  const short = await run(scripted(script), plant)
  const kept = short.violations.find(({ rule }) => rule === violation.rule) ?? violation
  const family = 'family' in kept ? kept.family : undefined
  const lines = short.lines.filter((line) => !line.family || !family || line.family === family)
  return { seed, violation: kept, lines: lines.map(({ text }) => text) }
}
