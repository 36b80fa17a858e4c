import test from 'ava'
import type { CredentialLookup } from '../../src/storage/credential-lookup.ts'
import type { FoundToken } from '../../src/token-endpoint/presented-token.ts'
import { findOnStandbyFirst } from '../../src/token-endpoint/standby-introspection.ts'

const token = (jti: string, isActive: boolean): FoundToken => ({
  kind: 'JWT',
  claims: { jti, sub: 'ada', client_id: 'app', exp: 9 },
  isActive,
})
const entry = { id: 'ab', expiresAt: 9 }
const lookup = {} as CredentialLookup

/** Asks with a primary that knows the token as it is now, and a standby that answers as given. */
function ask(answer: () => Promise<FoundToken | undefined>, { isRead = true } = {}) {
  return findOnStandbyFirst(
    async () => token('primary', false),
    () => (isRead ? lookup : undefined),
    () => answer,
  )
}
const active = async () => token('standby', true)

test('returns a token that is active at the standby', async (t) => {
  t.deepEqual(await ask(active)('token', 1), token('standby', true))
})

test('asks the primary while the standby must not be read', async (t) => {
  t.deepEqual(await ask(active, { isRead: false })('token', 1), token('primary', false))
})

test('asks the primary where a one-time value is to be recorded', async (t) => {
  t.deepEqual(await ask(active)('token', 1, entry), token('primary', false))
})

for (const [what, answer] of [
  ['does not know the token', async () => undefined],
  ['knows it as ended', async () => token('standby', false)],
  ['fails', () => Promise.reject(new Error('gone'))],
] as const) {
  test(`asks the primary where the standby ${what}`, async (t) => {
    t.deepEqual(await ask(answer)('token', 1), token('primary', false))
  })
}
