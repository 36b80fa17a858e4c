/*
 * Where the CPU of a grant goes in the process of the server, by package.
 *
 * npm run bench:profile -- [WAY …]   a way as bench:token names it: refresh_token_none_dpop
 */
import type { Profiler } from 'node:inspector'
import pg from 'pg'
import { asTable } from '../../../src/commands/table.ts'
import { freePort } from '../../../src/net/free-port.ts'
import { openBenchDatabase } from '../database.ts'
import { startCandidate } from './candidate-process.ts'
import { makeKeys } from './load.ts'
import { measure, median } from './measure.ts'
import { openPostgresMeter } from './postgres-cpu.ts'
import { nameOf, type Way, ways } from './scenario.ts'

const wanted = process.argv.slice(2)
const names = wanted.length > 0 ? wanted : ['refresh_token_none_dpop']
const requests = 480
const rounds = 8

/** The folder of a script, as far as it says whose it is. */
function packageOf({ functionName, url }: { functionName: string; url: string }): string {
  if (url === '') return functionName.startsWith('(') ? functionName : 'V8 and native code'
  if (url.startsWith('node:')) return /^node:(?:internal\/)?([^/]+)/.exec(url)?.[0] ?? url
  const dependency = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)?.[1]
  return dependency ?? /\/((?:src|packages)\/[^/]+)/.exec(url)?.[1] ?? 'benchmark'
}

/** Shares of the time that the process was not idle. */
function sharesOf(
  { nodes, samples = [], timeDeltas = [] }: Profiler.Profile,
  of: typeof packageOf,
) {
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]))
  const times = new Map<string, number>()
  for (const [at, id] of samples.entries()) {
    const frame = frames.get(id)
    if (!frame || frame.functionName === '(idle)') continue
    if (frame.url === 'node:inspector') continue
    const name = of(frame)
    times.set(name, (times.get(name) ?? 0) + (timeDeltas[at] ?? 0))
  }
  const total = [...times.values()].reduce((sum, time) => sum + time, 0)
  return [...times].map(([name, time]) => ({ name, share: time / total })).sort(byShare)
}

const byShare = (one: { share: number }, other: { share: number }) => other.share - one.share

async function profile(way: Way): Promise<void> {
  await using opened = new AsyncDisposableStack()
  const { connectionString } = opened.use(await openBenchDatabase())
  const database = new pg.Client({ connectionString })
  await database.connect()
  await database.query('create database holdfast')
  await database.end()
  const url = new URL(connectionString)
  url.pathname = '/holdfast'
  const key = await makeKeys()
  const options = { databaseUrl: url.href, port: await freePort(), clientKeys: key.public }
  const candidate = opened.use(await startCandidate('holdfast', options))
  const bench = { key, postgres: opened.use(await openPostgresMeter(connectionString)) }
  const cell = { ...way, concurrency: 16 } as const
  await measure(candidate, bench, cell, 800)
  await candidate.startProfile()
  const costs: number[] = []
  for (let round = 0; round < rounds; round += 1) {
    costs.push((await measure(candidate, bench, cell, requests)).nodeCpu)
  }
  const read = await candidate.profile()
  const rows = (of: typeof packageOf, most: number) =>
    sharesOf(read, of)
      .slice(0, most)
      .map(({ name, share }) => [name, `${(share * 100).toFixed(1)} %`])
  console.log(`\n${nameOf(way)}: ${median(costs).toFixed(0)} µs of Node.js a grant`)
  console.log(asTable(['package', 'share'], rows(packageOf, 24)))
  const functionOf: typeof packageOf = (frame) => `${packageOf(frame)} ${frame.functionName}`
  console.log(asTable(['function', 'share'], rows(functionOf, 40)))
}

for (const way of ways.filter((each) => names.includes(nameOf(each)))) await profile(way)
