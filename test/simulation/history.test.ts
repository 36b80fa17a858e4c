import test from 'ava'
import { createRecorder, type Use } from '../support/history.ts'
import { findFailure } from './seeds.ts'

/** A client that refreshes twice, with what an attacker or a fault does in between. */
function makeHistory() {
  const clock = { now: 1000 }
  const recorder = createRecorder({ graceS: 60, now: () => clock.now })
  recorder.handOut('code', 60)
  recorder.handOut('device code', 600, { kind: 'device code', key: 'key' })
  recorder.handOut('other code', 60)
  recorder.handOut('kept', 1000, { kind: 'refresh token', key: 'key', isKept: true })
  let proofs = 0
  const ask = (
    credential: string | undefined,
    status: number | undefined,
    body: { refresh_token?: string; error?: string; active?: boolean } = {},
    {
      key = 'key',
      proof = `proof ${++proofs}`,
      does = 'redeem' as Use['does'],
      lacksSecret = false,
    } = {},
  ) => {
    const end = recorder.begin({ does, by: key, credential, key, proof, lacksSecret })
    clock.now += 1
    end(status === undefined ? undefined : { status, body })
  }
  const refused = { error: 'invalid_grant' }
  ask('code', 200, { refresh_token: 'first' }, { proof: 'proof of the code' })
  ask('first', 200, { refresh_token: 'second' })
  return { clock, ask, refused, rules: () => recorder.judge().map(({ rule }) => rule) }
}

test('accepts a history of a server that is correct', (t) => {
  const { clock, ask, refused, rules } = makeHistory()
  ask('first', 200, { refresh_token: 'second' })
  ask('second', 503)
  ask('second', 200, { refresh_token: 'third' })
  ask('first', 400, refused)
  ask('third', 400, refused, { key: 'key of a thief' })
  ask('third', undefined)
  clock.now += 100
  ask('third', 400, refused)
  ask('third', 400, refused)
  ask('device code', 400, { error: 'authorization_pending' })
  ask('device code', 400, refused, { key: 'key of a thief' })
  ask('device code', 200, { refresh_token: 'of the device' })
  ask('of the device', 200, {}, { does: 'revoke' })
  ask('of the device', 200, { active: false }, { does: 'inspect' })
  ask('other code', 400, refused, { lacksSecret: true })
  ask('kept', 200)
  ask('kept', 200)
  ask('kept', 400, refused, { key: 'key of a thief' })
  ask('kept', 200, {}, { does: 'revoke' })
  ask('kept', 400, refused)
  t.deepEqual(rules(), [])
})

type Doctor = (history: ReturnType<typeof makeHistory>) => void

const doctored: readonly [string, string, Doctor][] = [
  ['a code that was good twice', 'a credential is redeemed once', ({ ask }) => ask('code', 200)],
  [
    'a second successor',
    'a credential is redeemed once',
    ({ ask }) => ask('first', 200, { refresh_token: 'another' }),
  ],
  [
    'a refresh that was repeated too late',
    'a credential is redeemed once',
    ({ clock, ask }) => {
      clock.now += 100
      ask('first', 200, { refresh_token: 'second' })
    },
  ],
  [
    'a proof that was good twice',
    'a proof is good once',
    ({ ask }) => ask(undefined, 200, {}, { proof: 'proof of the code' }),
  ],
  [
    'a token that was good for a thief',
    'only its own key uses a credential',
    ({ ask }) => ask('second', 200, { refresh_token: 'third' }, { key: 'key of a thief' }),
  ],
  [
    'a token that was lost',
    'an answered grant is never lost',
    ({ ask, refused }) => ask('second', 400, refused),
  ],
  [
    'a refusal in the grace period',
    'an answered grant is never lost',
    ({ ask, refused }) => ask('first', 400, refused),
  ],
  [
    'a code that was good without its verifier',
    'only its own key uses a credential',
    ({ ask }) => ask('other code', 200, {}, { lacksSecret: true }),
  ],
  [
    'a token that is kept, and lost by its first use',
    'an answered grant is never lost',
    ({ ask, refused }) => {
      ask('kept', 200)
      ask('kept', 400, refused)
    },
  ],
  [
    'a token of a family that has ended',
    'revocation is final',
    ({ clock, ask, refused }) => {
      clock.now += 100
      ask('first', 400, refused)
      ask('second', 200, { refresh_token: 'third' })
    },
  ],
  [
    'a device code that was good for a thief',
    'only its own key uses a credential',
    ({ ask }) => ask('device code', 200, {}, { key: 'key of a thief' }),
  ],
  [
    'a token that was revoked and is good',
    'revocation is final',
    ({ ask }) => {
      ask('second', 200, {}, { does: 'revoke' })
      ask('second', 200, { active: true }, { does: 'inspect' })
    },
  ],
]

for (const [what, rule, doctor] of doctored) {
  test(`rejects a history with ${what}`, (t) => {
    const made = makeHistory()
    doctor(made)
    t.deepEqual(made.rules(), [rule])
  })
}

// A short part of `npm run simulate`; simulation.test.ts has more of it.
test('keeps every rule by ten seeds, and finds a row count that nobody looks at', async (t) => {
  const { requests, failed } = await findFailure({ count: 10 })
  t.is(failed, undefined)
  t.true(requests > 200)
  t.truthy((await findFailure({ count: 10 }, 'rows-not-counted')).failed)
})
