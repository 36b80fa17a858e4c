/*
 * npm run simulate -- [--seeds 1000] [--from 1] [--seed N] [--plant NAME] [--planted] [--postgres] [--json]
 *
 * Runs the grants of src/token-endpoint over a simulated database, by so many seeds, and ends with 1
 * when a rule of test/support/history.ts is broken; then it prints the seed and the shortest history
 * that it finds. --seed replays one run and prints it whole. --plant takes a guard away
 * (test/simulation/plants.ts); --planted takes away each in turn, and ends with 1 if one goes unnoticed.
 * --postgres holds the tables of src/storage against the simulated database: the same generated calls on
 * both, by so many seeds.
 */
import { parseArgs } from 'node:util'
import { openTestDatabase } from '../support/database.ts'
import { seeded } from './choices.ts'
import { compare, openNodes } from './compare.ts'
import { isPlant, type Plant, plants } from './plants.ts'
import { explain, type Failure, run } from './run.ts'
import { findFailure } from './seeds.ts'

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1000' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    plant: { type: 'string' },
    postgres: { type: 'boolean', default: false },
    planted: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
})
if (values.plant !== undefined && !isPlant(values.plant)) {
  throw new Error(`--plant is one of ${Object.keys(plants).join(', ')} (got ${values.plant})`)
}
const plant = values.plant as Plant | undefined
const range = { from: Number(values.from), count: Number(values.seeds) }
const print = (text: string) => process.stdout.write(`${text}\n`)
const describe = ({ seed, violation, lines }: Failure) =>
  [`seed ${seed}: ${violation.rule}: ${violation.what}`, ...lines, ''].join('\n')

if (values.seed !== undefined) await replay(Number(values.seed))
else if (values.postgres) await holdAgainstPostgres()
else if (values.planted) await findPlants()
else await search()

async function replay(seed: number): Promise<void> {
  const { violations, lines } = await run(seeded(seed), plant)
  if (values.json) print(JSON.stringify({ seed, violations, lines }))
  else
    print(
      [
        ...lines.map(({ text }) => text),
        ...violations.map(({ rule, what }) => `✗ ${rule}: ${what}`),
      ].join('\n'),
    )
  process.exitCode = violations.length > 0 ? 1 : 0
}

async function search(): Promise<void> {
  const begun = performance.now()
  const { runs, requests, failed } = await findFailure(range, plant)
  const seconds = Number(((performance.now() - begun) / 1000).toFixed(1))
  const failure = failed && (await explain(failed.seed, failed.run, plant))
  if (values.json) print(JSON.stringify({ runs, requests, seconds, failure }))
  else print(`${failure ? describe(failure) : ''}${runs} seeds, ${requests} requests, ${seconds} s`)
  process.exitCode = failure ? 1 : 0
}

async function holdAgainstPostgres(): Promise<void> {
  await using database = await openTestDatabase()
  await using nodes = await openNodes(database.url)
  const differences: string[] = []
  for (let seed = range.from; seed < range.from + range.count; seed += 1) {
    const difference = await compare(seed, nodes.databases)
    if (difference !== undefined) differences.push(difference)
  }
  if (values.json) print(JSON.stringify({ histories: range.count, differences }))
  else print([...differences, `${range.count} histories, ${differences.length} differ`].join('\n'))
  process.exitCode = differences.length > 0 ? 1 : 0
}

async function findPlants(): Promise<void> {
  const found: Record<string, { seed: number; rule: string } | null> = {}
  for (const name of Object.keys(plants) as Plant[]) {
    const { failed } = await findFailure(range, name)
    const [violation] = failed?.run.violations ?? []
    // An error of the simulation itself finds nothing.
    const isFound = failed && violation && violation.rule !== 'error'
    found[name] = isFound ? { seed: failed.seed, rule: violation.rule } : null
    if (values.json) continue
    const how = found[name] ? `seed ${found[name].seed}: ${found[name].rule}` : 'not noticed'
    print(`${found[name] ? '✓' : '✗'} ${name.padEnd(28)}${how}`)
  }
  if (values.json) print(JSON.stringify(found))
  process.exitCode = Object.values(found).includes(null) ? 1 : 0
}
