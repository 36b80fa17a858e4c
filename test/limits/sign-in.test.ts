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

test('an email and a username of one account have no more attempts than one', async (t) => {
  const idp = await startIdentityProvider([ordersClient], {
    HOLDFAST_LOGIN_LIMIT: '3',
    HOLDFAST_USERNAMES: 'on',
  })
  t.teardown(() => idp.close())
  const credentials = { password: 'the password of Grace' }
  await idp.accounts.add({ email: 'grace@example.com', username: 'Grace.H', ...credentials })
  const statusFor = async (email: string, { password }: { password: string }) =>
    (await signIn(await begin(idp), { email, password })).status
  t.is(await statusFor(' GRACE.h ', credentials), 303)
  t.is(await statusFor('grace.h', wrong), 401)
  t.is(await statusFor('Grace@example.com', wrong), 401)
  t.is(await statusFor('GRACE.H', wrong), 401)
  for (const email of ['grace@example.com', 'grace.h'])
    t.is(await statusFor(email, credentials), 429)
  // One that nobody has is answered alike, and has a count of its own.
  for (let count = 0; count < 3; count += 1) t.is(await statusFor('nobody', wrong), 401)
  t.is(await statusFor('nobody', wrong), 429)
  const page = await signIn(await begin(idp), { email: 'somebody', ...wrong })
  t.regex(page.text, /<label for="email">Email or username<\/label>\s*<input[^>]* type="text"/)
})

test('takes no username where usernames are off', async (t) => {
  const { idp } = t.context
  const credentials = { password: 'the password of Ida' }
  await idp.accounts.add({ email: 'ida@example.com', username: 'ida', ...credentials })
  const login = await begin(idp)
  t.is((await signIn(login, { email: 'ida', ...credentials })).status, 401)
  t.is((await signIn(login, { email: 'ida@example.com', ...credentials })).status, 303)
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
