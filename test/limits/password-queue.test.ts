import test from 'ava'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { defaultPasswordCost, passwordQueue } from '../../src/accounts/password.ts'
import { cheapCost, testPassword } from '../support/accounts.ts'
import { callback, createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { begin, signIn } from '../support/journey.ts'
import { useTestServer, type WrapDatabase } from '../support/server.ts'

/** Both threads for passwords are taken for as long as the better hash of one is not stored. */
const { promise: stored, resolve: store } = Promise.withResolvers<void>()
const { promise: bothTaken, resolve: taken } = Promise.withResolvers<void>()
let rehashed = 0
const wrap: WrapDatabase = (database) => ({
  ...database,
  async query(statement) {
    if (statement.text.startsWith('update accounts set password_hash')) {
      rehashed += 1
      if (rehashed === 2) taken()
      await stored
    }
    return database.query(statement)
  },
})
const server = useTestServer(
  test,
  { HOLDFAST_PASSWORD_HASHES: '2' },
  {
    wrap,
    passwordCost: defaultPasswordCost,
    passwordPatienceMs: passwordQueue.patienceMs,
  },
)

test('answers 503 to sign-ins beyond the queue, and refreshes tokens meanwhile', async (t) => {
  const client = await server.addClient()
  const key = await newKey()
  const { exchange } = await obtainCode(createPerson(server), client)
  const { body: tokens } = await post(server, '/token', exchange, { key })

  const email = 'eve@example.com'
  const { accounts } = server.storage
  await createAccounts({ store: accounts, cost: cheapCost }).add({ email, password: testPassword })
  const form = await begin(
    { origin: server.issuer },
    { client_id: client.client_id, redirect_uri: callback },
  )
  const hers = { email, password: testPassword }
  const first = [signIn(form, hers), signIn(form, hers)]
  await bothTaken
  const others = Array.from({ length: passwordQueue.waiting + 4 }, () => signIn(form, hers))
  const page = await Promise.race(others)
  t.is(page.status, 503)
  t.regex(page.headers.get('retry-after') ?? '', /^\d+$/)
  t.true(page.text.includes('Too many people are signing in.'))

  const refreshed = await post(server, '/token', refreshing(client, tokens.refresh_token), { key })
  t.is(refreshed.status, 200)
  t.deepEqual(new Set((await Promise.all(others)).map(({ status }) => status)), new Set([503]))
  store()
  // One of the two forms that are the same is out of date when the other has signed in.
  t.true((await Promise.all(first)).some(({ status }) => status === 303))
})
