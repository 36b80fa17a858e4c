import test from 'ava'
import { createKeyObserver } from '../../src/keys/key-metrics.ts'
import type { KeyRing, KeySchedule } from '../../src/keys/key-ring.ts'
import { recordingEvents } from '../support/events.ts'

const signing = (kid: string, signsFrom: number): KeySchedule => ({
  key: {
    kid,
    purpose: 'ES256',
    generation: 1,
    createdAt: 0,
    signsFrom,
    retiredAt: undefined,
    jwe: '',
  },
  state: 'signing',
  signsUntil: undefined,
  endsAt: undefined,
})

function observed() {
  const { events, metrics, logged } = recordingEvents()
  const ring = { keys: [signing('k1', 1000)], unreadable: [] as string[] }
  const observe = createKeyObserver(
    {
      now: () => 61_000,
      scheduled: () => ring.keys,
      unreadable: () => ring.unreadable,
    } satisfies Partial<KeyRing>,
    { events, metrics },
  )
  return { ring, observe, logged, metrics }
}

test('tells the age of the key that signs', async (t) => {
  const { observe, metrics } = observed()
  observe()
  t.regex(
    await metrics.registry.metrics(),
    /^holdfast_signing_key_age_seconds\{purpose="ES256"\} 60$/m,
  )
})

test('says once that another key signs, or that one cannot be opened', async (t) => {
  const { observe, ring, logged, metrics } = observed()
  observe()
  t.deepEqual(logged, [])
  ring.keys = [signing('k2', 60_000)]
  ring.unreadable = ['k3']
  observe()
  observe()
  t.deepEqual(
    logged.map((line) => (line as { event: string }).event),
    ['key.signs', 'keys.unreadable'],
  )
  t.regex(await metrics.registry.metrics(), /^holdfast_keys_unreadable 1$/m)
})
