import anyTest, { type TestFn } from 'ava'
import { limitTestsAtOnce } from '../support/at-once.ts'
import {
  authorizationUrl,
  type IdentityProvider,
  ordersClient,
  signedIn,
  startIdentityProvider,
} from '../support/journey.ts'

const test = anyTest as TestFn<{ idp: IdentityProvider }>

limitTestsAtOnce(anyTest)
test.before(async (t) => {
  t.context.idp = await startIdentityProvider([ordersClient])
})
test.after.always((t) => t.context.idp?.close())

/** A signed-in browser at the sign-out page. */
async function signingOut(idp: IdentityProvider, query = '') {
  const { agent, url, token } = await signedIn(idp)
  await agent.follow(await agent.post(`${url}/confirm`, { token }))
  const page = await agent.get(`/session/end${query}`)
  const xsrf = /name="xsrf" value="([^"]+)"/.exec(page.text)?.[1] ?? ''
  return { agent, page, xsrf }
}

test('asks before it signs out', async (t) => {
  const { page, xsrf } = await signingOut(t.context.idp)
  t.is(page.status, 200)
  t.true(page.text.includes('<title>Sign out? – Holdfast</title>'))
  t.true(page.text.includes('Stay signed in'))
  t.truthy(xsrf)
})

test('signs out and says so', async (t) => {
  const { agent, xsrf } = await signingOut(t.context.idp)
  const done = await agent.follow(await agent.post('/session/end/confirm', { xsrf, logout: 'yes' }))
  t.true(done.text.includes('You are signed out'))
  const { location } = await agent.get(authorizationUrl(t.context.idp.origin))
  t.true(location?.includes('/interaction/'))
})

test('staying signed in changes nothing and says so', async (t) => {
  const { agent, xsrf } = await signingOut(t.context.idp)
  const done = await agent.follow(await agent.post('/session/end/confirm', { xsrf }))
  t.true(done.text.includes('You are still signed in'))
  const { location } = await agent.get(authorizationUrl(t.context.idp.origin))
  t.true(location?.includes('code='))
})

test('can sign out of one client alone', async (t) => {
  const { agent, page, xsrf } = await signingOut(t.context.idp, '?client_id=orders')
  t.regex(page.text, /Only sign out of <bdi>Harbour Orders/)
  const done = await agent.follow(await agent.post('/session/end/confirm', { xsrf }))
  t.true(done.text.includes('You are still signed in'))
  t.true(done.text.includes('Harbour Orders'))
})

test('lets the form lead back to the client that asked', async (t) => {
  const query = '?client_id=orders&post_logout_redirect_uri=https://rp.example/bye'
  const { agent, page, xsrf } = await signingOut(t.context.idp, query)
  t.regex(page.headers.get('content-security-policy') ?? '', /form-action 'self' https:;/)
  const { location } = await agent.post('/session/end/confirm', { xsrf, logout: 'yes' })
  t.is(location, 'https://rp.example/bye')
})

test('signs nobody out without the token of the form', async (t) => {
  const { agent } = await signingOut(t.context.idp)
  const { status, text } = await agent.post('/session/end/confirm', { xsrf: 'no', logout: 'yes' })
  t.is(status, 400)
  t.true(text.includes('invalid_request'))
})
