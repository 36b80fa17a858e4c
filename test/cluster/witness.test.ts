import test from 'ava'
import { createWitness } from './witness.ts'

/** A server with answers that a test sets, on a clock that moves with each request. */
function witnessOf(t: { teardown(work: () => void): void }) {
  const { fetch } = globalThis
  t.teardown(() => {
    globalThis.fetch = fetch
  })
  const clock = { now: 0 }
  const witness = createWitness({ patienceMs: 60_000, now: () => clock.now })
  const ask = (url: string, status: number | undefined, tookMs: number) => {
    globalThis.fetch = async () => {
      clock.now += tookMs
      if (status === undefined) throw new Error('the connection broke')
      return new Response(null, { status })
    }
    return witness.fetch(url).catch(() => undefined)
  }
  return { witness, ask }
}

test('counts the time between two tokens, and neither refusals nor pages as service', async (t) => {
  const { witness, ask } = witnessOf(t)
  await ask('https://idp/token', 200, 1000)
  await ask('https://idp/token', 503, 2000)
  await ask('https://idp/authorize', 200, 3000)
  await ask('https://idp/token', undefined, 4000)
  await ask('https://idp/token', 200, 500)
  t.deepEqual(witness.testify(), {
    answers: { 200: 3, 503: 1, none: 1 },
    withoutService_s: 9.5,
    longestWait_s: 4,
  })
  witness.begin()
  t.deepEqual(witness.testify(), { answers: {}, withoutService_s: 0, longestWait_s: 0 })
})

test('counts the time since the last token when none comes any more', async (t) => {
  const { witness, ask } = witnessOf(t)
  await ask('https://idp/token', 200, 1000)
  await ask('https://idp/token', 503, 7000)
  t.is(witness.testify().withoutService_s, 7)
})
