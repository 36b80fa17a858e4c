import test from 'ava'
import type { LoginAttempt } from '../../src/limits/login-limits.ts'
import { startIdentityProvider } from '../support/identity-provider.ts'
import { begin, CLIENT, signIn } from '../support/journey.ts'

test('a sign-in beyond the limit is not tried, and the page says when to come back', async (t) => {
  const admitted: LoginAttempt[] = []
  const succeeded: LoginAttempt[] = []
  const idp = await startIdentityProvider({
    clients: [CLIENT],
    limits: {
      admit: async (attempt) => {
        admitted.push(attempt)
        return { limit: 'login', retryAfter: 125 }
      },
      succeeded: async (attempt) => void succeeded.push(attempt),
    },
  })
  t.teardown(() => idp.close())
  // The password is the right one.
  const page = await signIn(await begin(idp))
  t.is(page.status, 429)
  t.is(page.headers.get('retry-after'), '125')
  t.true(page.text.includes('Too many attempts. Try again in 3 minutes.'))
  t.is<string | undefined, string>(admitted[0]?.email, 'ada@example.com')
  t.deepEqual(succeeded, [])
})

test('a sign-in within the limit is told of its success', async (t) => {
  const succeeded: LoginAttempt[] = []
  const idp = await startIdentityProvider({
    clients: [CLIENT],
    limits: {
      admit: async () => undefined,
      succeeded: async (attempt) => void succeeded.push(attempt),
    },
  })
  t.teardown(() => idp.close())
  t.is((await signIn(await begin(idp))).status, 303)
  t.is(succeeded.length, 1)
})
