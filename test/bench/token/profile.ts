/*
 * Where the CPU of a grant goes in the process of the server, by package.
 *
 * npm run bench:profile -- [WAY …]   a way as bench:token names it: refresh_token_none_dpop
 */
import { chmod, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import pg from 'pg'
import { asTable } from '../../../src/commands/table.ts'
import { freePort } from '../../../src/net/free-port.ts'
import { startEmbeddedPostgres } from '../../../src/storage/embedded-postgres.ts'
import { startCandidate } from './candidate-process.ts'
import { makeKeys } from './load.ts'
import { measure, median } from './measure.ts'
import { openPostgresMeter } from './postgres-cpu.ts'
import { nameOf, type Way, ways } from './scenario.ts'

const wanted = process.argv.slice(2)
const names = wanted.length > 0 ? wanted : ['refresh_token_none_dpop']
const requests = 480
const rounds = 8

interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number
    readonly callFrame: { readonly functionName: string; readonly url: string }
  }[]
  readonly samples: readonly number[]
  readonly timeDeltas: readonly number[]
}

/** The folder of a script, as far as it says whose it is. */
function packageOf({ functionName, url }: { functionName: string; url: string }): string {
  if (url === '') return functionName.startsWith('(') ? functionName : 'V8 and native code'
  if (url.startsWith('node:')) return /^node:(?:internal\/)?([^/]+)/.exec(url)?.[0] ?? url
  const dependency = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)?.[1]
  return dependency ?? /\/((?:src|packages)\/[^/]+)/.exec(url)?.[1] ?? 'benchmark'
}

/** Shares of the time that the process was not idle. */
function sharesOf({ nodes, samples, timeDeltas }: CpuProfile, of: typeof packageOf) {
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]))
  const times = new Map<string, number>()
  for (const [at, id] of samples.entries()) {
    const frame = frames.get(id)
    const name = frame ? of(frame) : ''
    times.set(name, (times.get(name) ?? 0) + (timeDeltas[at] ?? 0))
  }
  for (const idle of ['(idle)', '(root)']) times.delete(idle)
  const total = [...times.values()].reduce((sum, time) => sum + time, 0)
  return [...times].map(([name, time]) => ({ name, share: time / total })).sort(byShare)
}

const byShare = (one: { share: number }, other: { share: number }) => other.share - one.share

async function profile(way: Way): Promise<void> {
  await using opened = new AsyncDisposableStack()
  const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-profile-'))
  opened.defer(() => rm(folder, { recursive: true, force: true }))
  // Root's PostgreSQL runs as another user, who must get in.
  await chmod(folder, 0o755)
  const { connectionString } = opened.use(await startEmbeddedPostgres({ folder }))
  const database = new pg.Client({ connectionString })
  await database.connect()
  await database.query('create database holdfast')
  await database.end()
  const url = new URL(connectionString)
  url.pathname = '/holdfast'
  const key = await makeKeys()
  const options = { databaseUrl: url.href, port: await freePort(), clientKeys: key.public }
  const profiles = path.join(folder, 'profiles')
  const flags = ['--cpu-prof', `--cpu-prof-dir=${profiles}`, '--cpu-prof-interval=200']
  const costs: number[] = []
  {
    await using candidate = await startCandidate('holdfast', options, flags)
    await using postgres = await openPostgresMeter(connectionString)
    for (let round = 0; round < rounds; round += 1) {
      const cell = { ...way, concurrency: 16 } as const
      costs.push((await measure(candidate, { key, postgres }, cell, requests)).nodeCpu)
    }
  }
  const [file = ''] = (await readdir(profiles)).filter((name) => name.endsWith('.cpuprofile'))
  const read: CpuProfile = JSON.parse(await readFile(path.join(profiles, file), 'utf8'))
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
