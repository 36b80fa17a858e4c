import test from 'ava'
import { createRecorder } from '../support/history.ts'

/** A client that refreshes twice, with what an attacker or a fault does in between. */
function makeHistory() {
  const clock = { now: 1000 }
  const recorder = createRecorder({ graceS: 60, now: () => clock.now })
  recorder.handOut('code', 60)
  let proofs = 0
  const ask = (
    credential: string | undefined,
    status: number | undefined,
    body: { refresh_token?: string; error?: string } = {},
    { key = 'key', proof = `proof ${++proofs}` } = {},
  ) => {
    const end = recorder.begin({ by: key, credential, key, proof })
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
    'a token of a family that has ended',
    'revocation is final',
    ({ clock, ask, refused }) => {
      clock.now += 100
      ask('first', 400, refused)
      ask('second', 200, { refresh_token: 'third' })
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
