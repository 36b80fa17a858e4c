import test from 'ava'
import { useTestDatabase } from '../support/database.ts'
import { scripted, seeded } from './choices.ts'
import { Cluster } from './cluster.ts'
import { compare, openNodes } from './compare.ts'
import type { Plant } from './plants.ts'
import { explain, run } from './run.ts'
import { findFailure } from './seeds.ts'
import { api } from './server.ts'

const url = useTestDatabase(test)

test('keeps every rule, whatever is lost, repeated, delayed or stopped', async (t) => {
  const { runs, requests, failed } = await findFailure({ count: 25 })
  t.deepEqual(failed?.run.violations ?? [], [])
  t.is(runs, 25)
  t.true(requests > 500)
})

test('makes the same history again from the same seed', async (t) => {
  t.deepEqual((await run(seeded(7))).lines, (await run(seeded(7))).lines)
})

// `npm run simulate -- --planted` takes away each of them.
const early: readonly Plant[] = [
  'reuse-does-not-end',
  'key-not-compared',
  'jti-not-recorded',
  'ended-family-forgotten',
  'successor-random',
  'next-key-forgotten',
  'token-binding-not-compared',
  'verifier-not-compared',
  'kept-token-consumed',
]
for (const plant of early) {
  test(`finds a server without a guard: ${plant}`, async (t) => {
    const { failed } = await findFailure({ count: 100 }, plant)
    t.truthy(failed)
    t.deepEqual(failed?.run.violations.filter(({ rule }) => rule === 'error') ?? [], [])
  })
}

test('explains a failure by a history of few lines', async (t) => {
  const { failed } = await findFailure({ count: 100 }, 'rows-not-counted')
  if (!failed) return t.fail()
  const { violation, lines } = await explain(failed.seed, failed.run, 'rows-not-counted')
  t.is(violation.rule, 'a credential is redeemed once')
  t.true(lines.length < 30, lines.join('\n'))
})

test('accepts a proof from the edge of the future once, however late it comes again', async (t) => {
  const cluster = new Cluster(scripted([]), undefined)
  cluster.isCalm = true
  const answers: unknown[] = []
  const form = { grant_type: 'client_credentials', resource: api }
  const proof = { jti: 'proof', iat: Math.floor(cluster.time) + 300 }
  const ask = async () => {
    const learnFrom = (answer: unknown) => answers.push(answer)
    const request = {
      by: 'app',
      key: 'key',
      credential: undefined,
      form,
      proof,
      learnFrom,
    } as const
    cluster.request({ ...request, does: 'redeem', client: 'app' })
    await cluster.settle()
  }
  await ask()
  // The proof is good for all of this second, by clocks that count whole ones.
  cluster.time += 600.9
  cluster.store.removeExpired()
  await ask()
  const granted = { granted: { boundTo: 'key' } }
  t.like(answers, [granted, { refused: 'invalid_grant' }])
})

test('PostgreSQL answers as the simulated store does', async (t) => {
  await using nodes = await openNodes(url.url)
  for (let seed = 1; seed <= 3; seed += 1) {
    t.is(await compare(seed, nodes.databases, { steps: 15 }), undefined)
  }
})
