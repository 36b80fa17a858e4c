import test from 'ava'
import { createChallenges } from '../../src/passkeys/challenge.ts'

const key = Buffer.alloc(32, 1)
let now = 1_000_000

const challengesWith = (keys: readonly Uint8Array[] = [key]) =>
  createChallenges({ keys: () => keys, now: () => now })

test.beforeEach(() => {
  now = 1_000_000
})

test.serial('knows a challenge until it ends', (t) => {
  const challenge = challengesWith().make('a page', 60)
  now += 59_999
  t.is(challengesWith().endOf('a page', challenge), 1060)
  now += 1
  t.is(challengesWith().endOf('a page', challenge), undefined)
})

test.serial('knows a challenge by the secret before the first one, and by no other', (t) => {
  const challenge = challengesWith().make('a page', 60)
  const fresh = Buffer.alloc(32, 2)
  t.is(challengesWith([fresh, key]).endOf('a page', challenge), 1060)
  t.is(challengesWith([fresh]).endOf('a page', challenge), undefined)
})

test.serial('rejects a challenge of another purpose', (t) => {
  t.is(challengesWith().endOf('another', challengesWith().make('a page', 60)), undefined)
})

const changes: Record<string, (challenge: string) => string> = {
  'with another end': (challenge) => `AAAB${challenge.slice(4)}`,
  'in another spelling': (challenge) => `${challenge}=`,
  'that is cut off': (challenge) => challenge.slice(0, -4),
  'without a tag': (challenge) => challenge.slice(0, 30),
  'that is empty': () => '',
}
for (const [title, change] of Object.entries(changes)) {
  test.serial(`rejects a challenge ${title}`, (t) => {
    t.is(challengesWith().endOf('a page', change(challengesWith().make('a page', 60))), undefined)
  })
}
