import anyTest, { type TestFn } from 'ava'
import {
  begin,
  type IdentityProvider,
  ordersClient,
  signIn,
  startIdentityProvider,
} from '../support/journey.ts'

const test = anyTest as TestFn<{ idp: IdentityProvider }>

test.before(async (t) => {
  t.context.idp = await startIdentityProvider([ordersClient], { HOLDFAST_LOGIN_LIMIT: '2' })
})
test.after.always((t) => t.context.idp?.close())

const wrong = { password: 'another password' }

test('a sign-in beyond the limit is not tried, and the page says when to come back', async (t) => {
  const email = 'grace@example.com'
  await t.context.idp.accounts.add({ email, password: 'the password of Grace' })
  const login = await begin(t.context.idp)
  // Each in another spelling of the same email.
  for (const typed of ['GRACE@example.com', ' grace@EXAMPLE.com ']) {
    t.is((await signIn(login, { email: typed, ...wrong })).status, 401)
  }
  // The password is the right one.
  const page = await signIn(login, { email, password: 'the password of Grace' })
  t.is(page.status, 429)
  t.regex(page.headers.get('retry-after') ?? '', /^[1-9]\d*$/)
  t.regex(page.text, /Too many attempts\. Try again in \d+ minutes\./)
})

test('a sign-in within the limit begins the count anew', async (t) => {
  const login = await begin(t.context.idp)
  t.is((await signIn(login, wrong)).status, 401)
  t.is((await signIn(login)).status, 303)
  const again = await begin(t.context.idp)
  t.is((await signIn(again, wrong)).status, 401)
  t.is((await signIn(again)).status, 303)
})

test('the sign-ins of one network have the limit that is set for it', async (t) => {
  const idp = await startIdentityProvider([ordersClient], { HOLDFAST_LOGIN_NETWORK_LIMIT: '2' })
  t.teardown(() => idp.close())
  const login = await begin(idp)
  const statusFor = async (email: string) => (await signIn(login, { email, ...wrong })).status
  t.is(await statusFor('one@example.com'), 401)
  t.is(await statusFor('two@example.com'), 401)
  t.is(await statusFor('three@example.com'), 429)
})
