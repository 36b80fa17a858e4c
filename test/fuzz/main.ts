/**
 * `npm run fuzz:verify [-- --runs 1000000] [--seed 1]`: mutated inputs against every public function
 * of `@holdfast/verify`, each of which throws its own errors and nothing else.
 */
import { parseArgs } from 'node:util'
import { drawProgressOn, showProgress } from '../../src/commands/progress.ts'
import { fuzz } from './verify.ts'

const { values } = parseArgs({
  options: { runs: { type: 'string', default: '1000000' }, seed: { type: 'string', default: '1' } },
})
const runs = Number(values.runs)
drawProgressOn(process.stderr)
using progress = showProgress()
const report = await fuzz(runs, Number(values.seed), (done) =>
  progress.report(`Input ${done} of ${runs}`, done, runs),
)
progress.rest()
for (const [name, { accepted, refused }] of Object.entries(report)) {
  process.stdout.write(`${name.padEnd(32)}${accepted} accepted, ${refused} refused\n`)
}
