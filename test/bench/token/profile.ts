/*
 * Where the CPU of a grant goes in the process of the server, by package.
 *
 * npm run bench:profile -- [WAY …]   a way as bench:token names it: refresh_token_none_dpop
 */
import pg from 'pg'
import { freePort } from '../../../src/net/free-port.ts'
import { openBenchDatabase } from '../database.ts'
import { startCandidate } from './candidate-process.ts'
import { makeKeys } from './load.ts'
import { measure, median } from './measure.ts'
import { openPostgresMeter } from './postgres-cpu.ts'
import { nameOf, type Way, ways } from './scenario.ts'
import { sharesReport } from './shares.ts'

const wanted = process.argv.slice(2)
const names = wanted.length > 0 ? wanted : ['refresh_token_none_dpop']
const requests = 480
const rounds = 8

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
  console.log(`\n${nameOf(way)}: ${median(costs).toFixed(0)} µs of Node.js a grant`)
  console.log(sharesReport(read))
}

for (const way of ways.filter((each) => names.includes(nameOf(each)))) await profile(way)
