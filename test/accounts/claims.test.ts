import test from 'ava'
import { accountClaims, createFindAccount } from '../../src/accounts/claims.ts'

const ada = {
  id: 'id-1',
  email: 'ada@example.com',
  name: 'Ada',
  disabled: false,
  createdAt: new Date(0),
}

type Context = Parameters<ReturnType<typeof createFindAccount>>[0]

test('an account becomes the standard claims, with an email nobody has verified', (t) => {
  t.deepEqual(accountClaims(ada), {
    sub: 'id-1',
    email: 'ada@example.com',
    email_verified: false,
    name: 'Ada',
  })
})

test('an account without a name claims none', (t) => {
  const { name: _, ...nameless } = ada
  t.false('name' in accountClaims(nameless))
})

test('finds an active account', async (t) => {
  const findAccount = createFindAccount({ findActive: async () => ada })
  t.like(await findAccount({} as Context, 'id-1'), { accountId: 'id-1' })
})

test('finds no disabled account', async (t) => {
  const findAccount = createFindAccount({ findActive: async () => undefined })
  t.is(await findAccount({} as Context, 'id-1'), undefined)
})
