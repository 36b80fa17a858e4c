import anyTest, { type TestFn } from 'ava'
import {
  type IdentityProvider,
  ordersClient,
  signedIn,
  startIdentityProvider,
} from '../support/journey.ts'

const test = anyTest as TestFn<{ idp: IdentityProvider }>

test.before(async (t) => {
  t.context.idp = await startIdentityProvider([ordersClient])
})
test.after.always((t) => t.context.idp?.close())

test('a page loads nothing of others, runs nothing, is framed by nobody and kept by nobody', async (t) => {
  const { page } = await signedIn(t.context.idp)
  t.is(
    page.headers.get('content-security-policy'),
    "default-src 'none'; script-src 'none'; style-src 'self'; img-src 'self'; " +
      "form-action 'self' https:; frame-ancestors 'none'; base-uri 'none'",
  )
  t.is(page.headers.get('cache-control'), 'no-store')
  t.is(page.headers.get('x-content-type-options'), 'nosniff')
  t.is(page.headers.get('referrer-policy'), 'same-origin')
  t.is(page.headers.get('cross-origin-opener-policy'), 'same-origin')
})

test('a page has no script, no style and no event handler of its own', async (t) => {
  const { page } = await signedIn(t.context.idp)
  t.false(/<script|<style|\sstyle=|\son\w+=|javascript:/i.test(page.text))
})

test("the engine's self-submitting form may run its own script and post to the client", async (t) => {
  const consent = await signedIn(t.context.idp, { response_mode: 'form_post' })
  const posted = await consent.agent.post(`${consent.url}/confirm`, { token: consent.token })
  const { headers, text } = await consent.agent.follow(posted)
  t.true(text.includes('https://rp.example/callback'))
  const policy = headers.get('content-security-policy') ?? ''
  t.regex(policy, /script-src [^;]*'sha256-/)
  t.regex(policy, /form-action 'self' https:/)
  t.regex(policy, /default-src 'none'/)
})
