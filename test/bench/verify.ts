/**
 * `npm run bench:verify [-- --json]`: what verifying costs, as ratios measured in one interleaved
 * run.
 *
 * CPU time, not wall time, for the machine may be doing something else. Every contestant takes its
 * turn in each round, and the median over the rounds counts. Tokens and proofs are made before the
 * clock starts, and no proof is used twice.
 */

import { createMemoryReplayStore } from '../../packages/verify/replay.ts'
import { drawProgressOn, showProgress } from '../../src/commands/progress.ts'
import { version } from '../support/verify/installed.ts'
import { ours, peers } from './verify/core.ts'
import { measureHttp } from './verify/http.ts'
import { type Measurements, measure, median, ratio } from './verify/measure.ts'
import { startAuth0 } from './verify/peers.ts'
import { jwks } from './verify/requests.ts'

/** Below the floor we would be ashamed; the goal is what we are after. */
const targets: Readonly<Record<string, readonly [floor: number, goal: number]>> = {
  cached_vs_one_bare_verify: [0.85, 0.92],
  unique_vs_two_bare_verifies: [0.86, 0.92],
  vs_jose: [3.3, 4],
  vs_oauth4webapi: [3.5, 4],
  vs_auth0: [3.2, 4],
  http_vs_jose: [2.2, 3],
  http_vs_auth0: [3, 4],
  mtls_share: [0.03, 0.015],
  token_binding_cached_share: [0.03, 0.015],
  replay_bytes_per_entry: [20, 17],
}

const json = process.argv.includes('--json')
drawProgressOn(json ? undefined : process.stderr)
using progress = showProgress()
const rounds = (of: string) => (done: number, total: number) =>
  progress.report(`Round ${done + 1} of ${total} ${of}`, done, total)

using auth0 = await startAuth0(jwks as never)
const core = await measure([...ours, ...peers(auth0.middleware)], 21, 5, rounds('in process'))
const http = await measureHttp(15, 8, rounds('over HTTP'))
progress.rest()

/** A peer at the concurrency it likes best. */
function atBest(peer: string): string {
  const names = [`${peer} ×1`, `${peer} ×16`]
  const cost = (name: string) => median(core.get(name) ?? [])
  return names.reduce((a, b) => (cost(a) <= cost(b) ? a : b))
}

function replayBytesPerEntry(): number {
  const capacity = 1_000_000
  const before = process.memoryUsage().arrayBuffers
  const store = createMemoryReplayStore({ capacity })
  const taken = process.memoryUsage().arrayBuffers - before
  return Math.max(taken, store.bytes) / capacity
}

const ratios: Readonly<Record<string, number>> = {
  cached_vs_one_bare_verify: ratio(core, 'one bare verify', 'known token'),
  unique_vs_two_bare_verifies: ratio(core, 'two bare verifies', 'new token'),
  vs_jose: ratio(core, atBest('jose'), 'known token'),
  vs_oauth4webapi: ratio(core, atBest('oauth4webapi'), 'known token'),
  vs_auth0: ratio(core, atBest('auth0'), 'known token'),
  http_vs_jose: ratio(http, 'jose', 'ours'),
  http_vs_auth0: ratio(http, 'auth0', 'ours'),
  mtls_share: ratio(core, 'certificate', 'one bare verify'),
  token_binding_cached_share: ratio(core, 'token binding', 'one bare verify'),
  replay_bytes_per_entry: replayBytesPerEntry(),
}

function costs(prefix: string, measurements: Measurements): [string, number][] {
  return [...measurements].map(([name, values]) => [prefix + name, round(median(values))])
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000
}

const report = {
  ratios: Object.fromEntries(Object.entries(ratios).map(([name, value]) => [name, round(value)])),
  cpu_us: Object.fromEntries([...costs('', core), ...costs('http ', http)]),
  node: process.version,
}

if (json) {
  console.log(JSON.stringify(report))
} else {
  console.log(
    `Node ${report.node}, jose ${version('jose')}, oauth4webapi ${version('oauth4webapi')}`,
  )
  console.log(`express-oauth2-jwt-bearer (auth0) ${version('express-oauth2-jwt-bearer')}\n`)
  console.log('CPU microseconds for one request'.padEnd(36))
  for (const [name, cost] of Object.entries(report.cpu_us)) {
    console.log(`  ${name.padEnd(28)}${cost.toFixed(2).padStart(10)}`)
  }
  console.log(
    `\n${'ratio'.padEnd(30)}${'measured'.padStart(10)}${'floor'.padStart(8)}${'goal'.padStart(8)}`,
  )
  for (const [name, [floor, goal]] of Object.entries(targets)) {
    const value = report.ratios[name] ?? Number.NaN
    const higher = goal > floor
    const met = higher ? value >= goal : value <= goal
    const passed = higher ? value >= floor : value <= floor
    const verdict = met ? 'goal met' : passed ? 'above the floor' : 'BELOW THE FLOOR'
    const figures = [
      value.toFixed(3).padStart(10),
      String(floor).padStart(8),
      String(goal).padStart(8),
    ]
    console.log(`${name.padEnd(30)}${figures.join('')}  ${verdict}`)
  }
}
