/** `npm run attack [-- --json]`: the attack table against every adapter, then against other validators. */

import { drawProgressOn, showProgress } from '../../src/commands/progress.ts'
import { openTestCluster } from '../support/cluster.ts'
import { makeTemplate } from '../support/database.ts'
import { adapters } from '../support/verify/adapters.ts'
import { runIdTokenRows } from './id-token-rows.ts'
import { comparePeers } from './peers.ts'
import { runAgents } from './run-agents.ts'
import { runCertificates } from './run-certificates.ts'
import { runIdentityProvider } from './run-identity-provider.ts'
import { passed, type Result, runTable } from './run-table.ts'

const json = process.argv.includes('--json')
drawProgressOn(json ? undefined : process.stderr)
using progress = showProgress()
const parts = [...Object.keys(adapters), 'ID tokens', 'certificates', 'agents', 'identity provider']
const begin = (part: string) => progress.report(part, parts.indexOf(part), parts.length)

const rows: Result[] = []
for (const [name, adapter] of Object.entries(adapters)) {
  begin(name)
  rows.push(...(await runTable(name, adapter)))
}
begin('ID tokens')
rows.push(...(await runIdTokenRows()))
begin('certificates')
const certificates = await runCertificates()
begin('agents')
certificates.push(...(await runAgents()))
begin('identity provider')
// One PostgreSQL for all of them.
await using cluster = await openTestCluster()
await makeTemplate(cluster)
process.env.HOLDFAST_TEST_CLUSTER = cluster.connectionString
certificates.push(...(await runIdentityProvider()))
const wrong = [
  ...rows.filter((row) => !passed(row)),
  ...certificates.filter(({ expected, got }) => expected !== got),
]

progress.rest()
if (json) {
  console.log(JSON.stringify({ rows: [...rows, ...certificates], failed: wrong.length }))
} else {
  for (const name of new Set(rows.map(({ adapter }) => adapter))) {
    const mine = rows.filter(({ adapter }) => adapter === name)
    const right = mine.filter(passed).length
    console.log(`${name.padEnd(12)} ${right} of ${mine.length} rows right`)
  }
  for (const name of new Set(certificates.map(({ adapter }) => adapter))) {
    const mine = certificates.filter(({ adapter }) => adapter === name)
    const right = mine.filter(({ expected, got }) => expected === got).length
    console.log(`${name.padEnd(12)} ${right} of ${mine.length} rows right`)
  }
  for (const { adapter, case: title, expected, got } of wrong) {
    console.log(`WRONG  ${adapter}: ${title}: expected ${expected}, got ${got}`)
  }
  console.log('\nFor comparison, the rows these can express, each set up with all checks it has:')
  progress.report('other validators', 0, 0)
  const peers = await comparePeers()
  progress.rest()
  for (const { peer, version, total, mistakes } of peers) {
    console.log(`${peer} ${version}: ${total - mistakes.length} of ${total} rows right`)
    for (const mistake of mistakes) console.log(`  ${mistake}`)
  }
}
process.exitCode = wrong.length === 0 ? 0 : 1
