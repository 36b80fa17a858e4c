import test from 'ava'
import { adapters } from '../support/verify/adapters.ts'
import { runIdTokenRows } from './id-token-rows.ts'
import { runAgents } from './run-agents.ts'
import { runCertificates } from './run-certificates.ts'
import { runIdentityProvider } from './run-identity-provider.ts'
import { passed, runTable } from './run-table.ts'
import { attackTable } from './table.ts'

test('every row has a name of its own', (t) => {
  t.is(new Set(attackTable.map((row) => row.case)).size, attackTable.length)
})

for (const [name, adapter] of Object.entries(adapters)) {
  test(`${name} gets every row of the attack table right`, async (t) => {
    const results = await runTable(name, adapter)
    t.deepEqual(
      results.filter((result) => !passed(result)),
      [],
    )
    t.true(results.length > 100)
  })
}

test('every row about ID tokens is right', async (t) => {
  const results = await runIdTokenRows()
  t.deepEqual(
    results.filter((result) => !passed(result)),
    [],
  )
})

test('certificates get every row of their table right', async (t) => {
  const results = await runCertificates()
  t.deepEqual(
    results.filter(({ expected, got }) => expected !== got),
    [],
  )
  t.true(results.length > 80)
})

test('every row about agents is right', async (t) => {
  const results = await runAgents()
  t.deepEqual(
    results.filter(({ expected, got }) => expected !== got),
    [],
  )
  t.true(results.length >= 16)
})

test('the identity provider gets every row about certificates right', async (t) => {
  const results = await runIdentityProvider()
  t.deepEqual(
    results.filter(({ expected, got }) => expected !== got),
    [],
  )
  t.true(results.length > 80)
})
