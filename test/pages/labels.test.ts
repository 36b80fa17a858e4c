import { readdir, readFile } from 'node:fs/promises'
import test from 'ava'
import { bindingLabels } from '../../src/pages/binding-labels.ts'
import { browserLabel } from '../../src/pages/browser-labels.ts'
import en from '../../src/pages/messages/en.json' with { type: 'json' }
import { createMessages, english, type MessageKey } from '../../src/pages/messages.ts'
import { redirectLabel } from '../../src/pages/redirect-labels.ts'
import type { MessageLabel } from '../../src/pages/views.ts'

const root = new URL('../../', import.meta.url)
const views = new URL('src/pages/views/', root)

const shown = (label: MessageLabel) => (typeof label === 'string' ? label : english.text(label))

for (const method of ['dpop', 'mtls', 'token-binding']) {
  test(`says that tokens of ${method} are locked to a key`, (t) => {
    t.true(bindingLabels(method).bound)
  })
}

for (const method of ['bearer', undefined, '', 'DPoP', 'constructor', ['dpop']]) {
  test(`warns of ${JSON.stringify(method) ?? 'no method'}`, (t) => {
    t.false(bindingLabels(method).bound)
    t.regex(english.text(bindingLabels(method).label), /Warning/)
  })
}

for (const [uri, label] of [
  ['https://rp.example/callback', 'rp.example'],
  ['https://rp.example:8443/callback', 'rp.example:8443'],
  ['https://accounts.google.com@evil.example/', 'evil.example'],
  ['https://xn--pple-43d.example/', 'xn--pple-43d.example'],
  ['https://раypal.example/', 'xn--ypal-43d9g.example'],
  ['http://127.0.0.1:8080/cb', 'an app on this device (127.0.0.1:8080)'],
  ['http://[::1]:8080/cb', 'an app on this device ([::1]:8080)'],
  ['com.example.app:/cb', 'an app on this device (com.example.app:)'],
] as const) {
  test(`names the place of ${uri} as ${label}`, (t) => {
    t.is(shown(redirectLabel(uri)), label)
  })
}

for (const [userAgent, label] of [
  ['Mozilla/5.0 (X11; Linux x86_64) AppleWebKit Chrome/156.0 Safari/537', 'Chrome on Linux'],
  ['Mozilla/5.0 (X11; Linux x86_64) AppleWebKit Chrome/156.0 Edg/156.0', 'Edge on Linux'],
  ['Mozilla/5.0 (iPhone) AppleWebKit Version/26 Safari/605', 'Safari on iOS'],
  ['Mozilla/5.0 (Windows NT 10.0; rv:150.0) Gecko Firefox/150.0', 'Firefox on Windows'],
  ['curl/8', 'Unknown browser'],
] as const) {
  test(`names ${userAgent} as ${label}`, (t) => {
    t.is(shown(browserLabel(userAgent)), label)
  })
}

test('chooses the plural form by the number', (t) => {
  const wait = (minutes: number) => english.text('sign_in.limited', { minutes })
  t.true(wait(1).endsWith('in a minute.'))
  t.true(wait(2).endsWith('in 2 minutes.'))
  t.true(english.html('sign_in.limited', { minutes: 1 }).endsWith('in a minute.'))
})

test('escapes values in HTML, in messages among them as well', (t) => {
  const evil = `<img src=x onerror=alert(1)>"'&`
  const escaped = '&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;'
  t.is(english.html('consent.heading', { client: evil }), `Allow <bdi>${escaped}</bdi>?`)
  const redirect = { key: 'client.on_this_device', values: { address: evil } } as const
  t.true(english.html('consent.next', { redirect }).includes(`an app on this device (${escaped})`))
  t.true(english.html('interstitial.lead', {}, `"${evil}`).includes(`<a href="&quot;${escaped}">`))
})

test('does not read braces and tags of a value as a message', (t) => {
  t.is(english.text('consent.title', { client: '{email} <b>x</b>' }), 'Allow {email} <b>x</b>?')
})

test('refuses a file with an invalid message', (t) => {
  const texts = { ...en, 'sign_in.heading': 'Sign {in' }
  t.throws(() => createMessages({ language: 'en', locale: 'en', texts }))
})

test('each message is used, and templates name only messages that exist', async (t) => {
  const names = await readdir(new URL('src/', root), { recursive: true })
  const files = names.filter((name) => /\.(ts|eta)$/.test(name))
  const texts = await Promise.all(
    files.map((name) => readFile(new URL(name, new URL('src/', root)), 'utf8')),
  )
  const source = texts.join('\n')
  // Some are named by what happened, and some by the state of a page, with a heading for each.
  const composed =
    /^(event|error\.[a-z_]+)\.|^(sign_up|email_change)\.(ask|sent|confirm|used_up|has_account|no_mail|done|taken)(_heading)?$/
  const unused = Object.keys(en).filter(
    (key) => !source.includes(`'${key}'`) && !composed.test(key),
  )
  t.deepEqual(unused, [])
  const templates = texts.filter((_, index) => files[index]?.endsWith('.eta')).join('\n')
  const named = [...templates.matchAll(/'([a-z_]+(?:\.[a-z_]+)+|close_window)'/g)].map(
    ([, key]) => key,
  )
  t.true(named.length > 50)
  t.deepEqual(
    named.filter((key) => !((key as MessageKey) in en)),
    [],
  )
})

test('templates hold no text of their own', async (t) => {
  for (const name of await readdir(views)) {
    const text = (await readFile(new URL(name, views), 'utf8'))
      .replace(/<%[\s\S]*?%>/g, '')
      .replace(/<[^>]*>/g, '')
    t.deepEqual(text.match(/\p{L}+/gu) ?? [], name === 'layout.eta' ? ['Holdfast'] : [], name)
  }
})
