import { randomBytes } from 'node:crypto'
import anyTest, { type TestFn } from 'ava'
import type { Account } from '../../src/storage/account-store.ts'
import { limitTestsAtOnce } from '../support/at-once.ts'
import {
  authorizationUrl,
  begin,
  callbackUrl,
  type IdentityProvider,
  interact,
  ordersApi,
  ordersClient,
  signedIn,
  signIn,
  startIdentityProvider,
} from '../support/journey.ts'
import { password } from '../support/server.ts'
import { createUserAgent } from '../support/user-agent.ts'

const test = anyTest as TestFn<{ idp: IdentityProvider; eve: Account }>

limitTestsAtOnce(anyTest)
test.before(async (t) => {
  const idp = await startIdentityProvider([
    ordersClient,
    { ...ordersClient, client_id: 'bearer', client_name: 'Legacy', binding_method: 'bearer' },
    { ...ordersClient, client_id: 'markup', client_name: '<script>alert(1)</script>' },
    {
      ...ordersClient,
      client_id: 'native',
      application_type: 'native',
      redirect_uris: ['com.example.app:/cb'],
    },
  ])
  t.context.eve = await idp.accounts.add({ email: 'eve@example.com', password })
  t.context.idp = idp
})

test.after.always((t) => t.context.idp?.close())
test.afterEach((t) => t.deepEqual(t.context.idp.thrown, []))

const codeOf = async (idp: IdentityProvider, location: string | undefined) => {
  const code = new URL(location ?? '').searchParams.get('code') ?? ''
  return idp.provider.AuthorizationCode.find(code)
}

test('signs in, asks for consent and sends the person on with a code', async (t) => {
  const { idp } = t.context
  const login = await begin(idp, { scope: 'openid email orders:read', resource: ordersApi })
  t.is(login.page.status, 200)
  t.true(login.page.text.includes('<title>Sign in – Holdfast</title>'))
  t.true(login.page.text.includes('Harbour Orders'))

  const consent = await interact(
    login.agent,
    await login.agent.get((await signIn(login)).location ?? ''),
  )
  t.is(consent.page.status, 200)
  t.true(consent.page.text.includes('Allow'))
  t.true(consent.page.text.includes('ada@example.com'))
  t.true(consent.page.text.includes('See your email address'))
  t.true(consent.page.text.includes('Orders'))
  t.regex(consent.page.text, /See your orders &amp; more/)
  t.true(consent.page.text.includes(ordersApi))
  t.true(consent.page.text.includes('rp.example'))
  t.true(consent.page.text.includes('Locked to a key'))

  const posted = await consent.agent.post(`${consent.url}/confirm`, { token: consent.token })
  const { location } = await consent.agent.follow(posted)
  t.true(location?.startsWith(`${callbackUrl}?`))
  t.is(new URL(location ?? '').searchParams.get('state'), 'the state')
  t.like(await codeOf(idp, location), { accountId: idp.ada.id, amr: ['pwd'] })
})

test('grants exactly what was asked for', async (t) => {
  const { idp } = t.context
  const consent = await signedIn(idp, { scope: 'openid orders:read', resource: ordersApi })
  const posted = await consent.agent.post(`${consent.url}/confirm`, { token: consent.token })
  const code = await codeOf(idp, (await consent.agent.follow(posted)).location)
  const grant = await idp.provider.Grant.find(code?.grantId ?? '')
  t.is(grant?.getOIDCScope(), 'openid')
  t.is(grant?.getResourceScope(ordersApi), 'orders:read')
  t.deepEqual(grant?.getOIDCClaims(), [])
})

test('adds to the existing grant, and asks only for what is new', async (t) => {
  const { idp } = t.context
  const first = await signedIn(idp, { scope: 'openid' })
  const before = await codeOf(
    idp,
    (
      await first.agent.follow(
        await first.agent.post(`${first.url}/confirm`, { token: first.token }),
      )
    ).location,
  )
  const second = await begin(idp, { scope: 'openid email' }, first.agent)
  const [asked, allowed] = second.page.text.split('You already let it')
  t.true(asked?.includes('See your email address'))
  t.false(asked?.includes('Know who you are'))
  t.true(allowed?.includes('Know who you are'))
  const posted = await second.agent.post(`${second.url}/confirm`, { token: second.token })
  const after = await codeOf(idp, (await second.agent.follow(posted)).location)
  t.is(after?.grantId, before?.grantId)
})

test('asks again when the client wants consent again, and says what was allowed', async (t) => {
  const { idp } = t.context
  const first = await signedIn(idp, { scope: 'openid' })
  await first.agent.follow(await first.agent.post(`${first.url}/confirm`, { token: first.token }))
  const again = await begin(idp, { scope: 'openid', prompt: 'consent' }, first.agent)
  t.true(again.page.text.includes('nothing that you have not allowed before'))
  const posted = await again.agent.post(`${again.url}/confirm`, { token: again.token })
  t.true((await again.agent.follow(posted)).location?.includes('code='))
})

test('prefills the email that the client hints at', async (t) => {
  const { page } = await begin(t.context.idp, { login_hint: 'ada@example.com"><b>' })
  t.true(page.text.includes('value="ada@example.com&quot;&gt;&lt;b&gt;"'))
})

test('escapes the name of a client', async (t) => {
  const consent = await signedIn(t.context.idp, { client_id: 'markup' })
  t.false(consent.page.text.includes('<script'))
  t.true(consent.page.text.includes('&lt;script&gt;'))
})

test('keeps the direction of its own text beside the name of a client', async (t) => {
  const name = '<bdi>&lt;script&gt;alert(1)&lt;/script&gt;</bdi>'
  const { page } = await begin(t.context.idp, { client_id: 'markup' })
  t.true(page.text.includes(name))
  const consent = await signedIn(t.context.idp, { client_id: 'markup' })
  t.true(consent.page.text.includes(`<h1>Allow ${name}?</h1>`))
})

test('warns of a client whose tokens are not bound', async (t) => {
  const { page } = await signedIn(t.context.idp, { client_id: 'bearer' })
  t.true(page.text.includes('class="warning"'))
  t.true(page.text.includes('not locked to a key'))
})

test('names the app behind a redirect by scheme, and lets the form lead there', async (t) => {
  const { page } = await signedIn(t.context.idp, {
    client_id: 'native',
    redirect_uri: 'com.example.app:/cb',
  })
  t.true(page.text.includes('an app on this device (com.example.app:)'))
  t.regex(
    page.headers.get('content-security-policy') ?? '',
    /form-action 'self' https: com\.example\.app:;/,
  )
})

test('a wrong password shows the form again, with the email kept and the reason linked', async (t) => {
  const login = await begin(t.context.idp)
  const { status, text } = await signIn(login, { password: 'another password' })
  t.is(status, 401)
  t.true(text.includes('<title>Error: Sign in – Holdfast</title>'))
  t.true(text.includes('value="ada@example.com"'))
  t.regex(text, /id="problem" role="alert"/)
  t.regex(text, /id="password"[^>]*aria-describedby="problem"[^>]*autofocus/)
  t.false(text.includes('another password'))
})

test('answers an unknown email as a wrong password', async (t) => {
  const login = await begin(t.context.idp)
  const wrong = await signIn(login, { password: 'another password' })
  const unknown = await signIn(login, { email: 'nobody@example.com' })
  t.is(unknown.status, 401)
  const withoutChallenge = (text: string) => text.replace(/data-passkey-request="[^"]*"/, '')
  t.is(withoutChallenge(unknown.text).replace('nobody@', 'ada@'), withoutChallenge(wrong.text))
})

for (const field of ['email', 'password']) {
  test(`a form without ${field} is shown again`, async (t) => {
    const login = await begin(t.context.idp)
    const { status, text } = await signIn(login, { [field]: '' })
    t.is(status, 400)
    t.true(text.includes('Enter your email and your password.'))
  })
}

test('continues after a second attempt with the right password', async (t) => {
  const login = await begin(t.context.idp)
  await signIn(login, { password: 'another password' })
  t.is((await signIn(login)).status, 303)
})

for (const where of ['sign-in', 'consent']) {
  test(`saying no on the ${where} page tells the client access_denied`, async (t) => {
    const { idp } = t.context
    const at = await (where === 'consent' ? signedIn(idp) : begin(idp))
    const posted = await at.agent.post(`${at.url}/abort`, { token: at.token })
    const { location } = await at.agent.follow(posted)
    t.true(location?.startsWith(callbackUrl))
    t.is(new URL(location ?? '').searchParams.get('error'), 'access_denied')
  })
}

/** State is compressed before it is sealed: this is not shorter for it. */
const noise = () => randomBytes(750).toString('base64url')
const requests: Record<string, Record<string, string>> = {
  'a request': {},
  'a request that no cookie holds': { state: noise(), nonce: noise() },
}
for (const [kind, parameters] of Object.entries(requests)) {
  test(`another account can be used from the consent page of ${kind}`, async (t) => {
    const { idp } = t.context
    const { agent } = await signedIn(idp)
    const consent = await begin(idp, parameters, agent)
    const form = await consent.agent.get(`${consent.url}/login`)
    t.is(form.status, 200)
    const posted = await signIn(consent, { email: 'eve@example.com' })
    t.is(posted.status, 303)
    const eves = await interact(consent.agent, await consent.agent.get(posted.location ?? ''))
    t.true(eves.page.text.includes('eve@example.com'))
    const done = await eves.agent.post(`${eves.url}/confirm`, { token: eves.token })
    const code = await codeOf(idp, (await eves.agent.follow(done)).location)
    t.is(code?.accountId, t.context.eve.id)
  })
}

test('signing in again as the same person keeps the session', async (t) => {
  const { idp } = t.context
  const first = await signedIn(idp)
  const done = await first.agent.post(`${first.url}/confirm`, { token: first.token })
  const before = await codeOf(idp, (await first.agent.follow(done)).location)
  const again = await begin(idp, { prompt: 'login' }, first.agent)
  const after = await codeOf(idp, (await again.agent.follow(await signIn(again))).location)
  t.is(after?.sessionUid, before?.sessionUid)
})

test('a consent page is out of date once someone else signed in in another tab', async (t) => {
  const { idp } = t.context
  const stale = await signedIn(idp)
  const otherTab = await begin(idp, { prompt: 'login' }, stale.agent)
  await stale.agent.follow(await signIn(otherTab, { email: 'eve@example.com' }))
  const { status, text } = await stale.agent.post(`${stale.url}/confirm`, { token: stale.token })
  t.is(status, 400)
  t.true(text.includes('expired_interaction'))
})

test('a sign-in page from before someone else signed in still signs in its own reader', async (t) => {
  const { idp } = t.context
  const first = await begin(idp)
  const otherTab = await begin(idp, {}, first.agent)
  await signIn(otherTab, { email: 'eve@example.com' }).then(first.agent.follow)
  const adas = await interact(
    first.agent,
    await first.agent.get((await signIn(first)).location ?? ''),
  )
  t.true(adas.page.text.includes('ada@example.com'))
})

test('rejects consent by a disabled account in an existing session', async (t) => {
  const { idp } = t.context
  await idp.accounts.add({ email: 'left@example.com', password })
  const login = await begin(idp)
  const posted = await signIn(login, { email: 'left@example.com' })
  const consent = await interact(login.agent, await login.agent.get(posted.location ?? ''))
  t.is(consent.page.status, 200)
  await idp.accounts.disable('left@example.com')
  t.is((await consent.agent.get(consent.url)).status, 400)
  const { status } = await consent.agent.post(`${consent.url}/confirm`, { token: consent.token })
  t.is(status, 400)
})

test('a finished interaction is out of date', async (t) => {
  const login = await begin(t.context.idp)
  await login.agent.follow(await signIn(login))
  const { status, text } = await login.agent.get(login.url)
  t.is(status, 400)
  t.true(text.includes('<title>Error: This page is out of date – Holdfast</title>'))
})

test('rejects an interaction in another browser', async (t) => {
  const login = await begin(t.context.idp)
  const other = createUserAgent(t.context.idp.origin)
  t.is((await other.get(login.url)).status, 400)
  t.is((await signIn({ ...login, agent: other })).status, 400)
})

test('an unknown interaction is out of date', async (t) => {
  const agent = createUserAgent(t.context.idp.origin)
  const { status, text } = await agent.get(`${t.context.idp.origin}/interaction/unknown`)
  t.is(status, 400)
  t.true(text.includes('expired_interaction'))
  t.false(text.includes('at '.concat('async')))
})

test('consent does not stand in for a fresh sign-in', async (t) => {
  const { idp } = t.context
  const first = await signedIn(idp)
  await first.agent.follow(await first.agent.post(`${first.url}/confirm`, { token: first.token }))
  const again = await begin(idp, { prompt: 'login' }, first.agent)
  const { status } = await again.agent.post(`${again.url}/confirm`, { token: again.token })
  t.is(status, 400)
})

test('a session whose account was disabled is no session', async (t) => {
  const { idp } = t.context
  await idp.accounts.add({ email: 'gone@example.com', password })
  const login = await begin(idp)
  const posted = await signIn(login, { email: 'gone@example.com' })
  const consent = await interact(login.agent, await login.agent.get(posted.location ?? ''))
  await consent.agent.follow(
    await consent.agent.post(`${consent.url}/confirm`, { token: consent.token }),
  )
  await idp.accounts.disable('gone@example.com')
  const next = await begin(idp, {}, consent.agent)
  t.true(next.page.text.includes('<title>Sign in – Holdfast</title>'))
})

test('consent cannot be given on the sign-in page', async (t) => {
  const login = await begin(t.context.idp)
  const { status } = await login.agent.post(`${login.url}/confirm`, { token: login.token })
  t.is(status, 400)
})

for (const action of ['login', 'confirm', 'abort']) {
  const attempt = async (idp: IdentityProvider) => {
    const at = await (action === 'login' ? begin(idp) : signedIn(idp))
    const fields = { token: at.token, email: 'ada@example.com', password }
    return { ...at, fields, target: `${at.url}/${action}` }
  }

  test(`${action} accepts a form from its own page`, async (t) => {
    const { agent, target, fields } = await attempt(t.context.idp)
    const headers = { 'sec-fetch-site': 'same-origin', origin: t.context.idp.origin }
    t.is((await agent.post(target, fields, headers)).status, 303)
  })

  for (const [title, headers] of [
    ['another site', { 'sec-fetch-site': 'cross-site' }],
    ['a sibling site', { 'sec-fetch-site': 'same-site' }],
    ['another origin', { origin: 'https://evil.example' }],
    ['an opaque origin', { origin: 'null' }],
  ] as const) {
    test(`${action} rejects a form from ${title}`, async (t) => {
      const { agent, target, fields } = await attempt(t.context.idp)
      const { status, text } = await agent.post(target, fields, headers)
      t.is(status, 403)
      t.true(text.includes('cross_site_request'))
    })
  }

  test(`${action} rejects a form without its token`, async (t) => {
    const { agent, target, fields } = await attempt(t.context.idp)
    const { status, text } = await agent.post(target, { ...fields, token: '' })
    t.is(status, 400)
    t.true(text.includes('invalid_form'))
  })

  test(`${action} rejects the token of another interaction`, async (t) => {
    const other = await begin(t.context.idp)
    const { agent, target, fields } = await attempt(t.context.idp)
    t.is((await agent.post(target, { ...fields, token: other.token })).status, 400)
  })

  test(`${action} rejects a repeated field`, async (t) => {
    const { agent, target, fields } = await attempt(t.context.idp)
    const twice = new URLSearchParams(fields)
    twice.append('email', 'eve@example.com')
    t.is((await agent.post(target, twice)).status, 400)
  })

  test(`${action} rejects more than 16 kB`, async (t) => {
    const { agent, target, fields } = await attempt(t.context.idp)
    const { status, text } = await agent.post(target, { ...fields, filler: 'x'.repeat(16 * 1024) })
    t.is(status, 413)
    t.true(text.includes('form_too_large'))
  })

  test(`${action} reads nothing but a form`, async (t) => {
    const { agent, target, fields } = await attempt(t.context.idp)
    t.is((await agent.post(target, fields, { 'content-type': 'text/plain' })).status, 400)
  })
}

test('a session is not asked for its password again', async (t) => {
  const consent = await signedIn(t.context.idp)
  await consent.agent.follow(
    await consent.agent.post(`${consent.url}/confirm`, { token: consent.token }),
  )
  const { location } = await consent.agent.get(authorizationUrl(t.context.idp.origin))
  t.true(location?.startsWith(`${callbackUrl}?code=`))
})
