// What becomes of requests and sessions when something that the gate needs is gone.
import test from 'ava'
import {
  createMemorySessionStore,
  type SessionStore,
} from '../../packages/gate/browser/sessions.ts'
import { startBrowserGate } from '../support/gate-browsers.ts'
import { useTestServer } from '../support/server.ts'

const server = useTestServer(test)
const opened = new AsyncDisposableStack()
test.after.always(() => opened.disposeAsync())

const script = { 'sec-fetch-mode': 'cors', 'sec-fetch-site': 'same-origin' }
const page = {
  'sec-fetch-mode': 'navigate',
  'sec-fetch-dest': 'document',
  'sec-fetch-site': 'same-origin',
}

test('sessions continue while the provider is gone, which is reported', async (t) => {
  let isGone = false
  let refused = 0
  const it = opened.use(
    await startBrowserGate(server, {
      options: {
        fetch: async (...request) => {
          if (isGone) {
            refused += 1
            throw new TypeError('fetch failed')
          }
          return fetch(...request)
        },
      },
    }),
  )
  const browser = it.newBrowser()
  t.is((await browser.signIn()).status, 200)
  isGone = true
  t.is((await browser.send('/a', { headers: script })).status, 200)
  // The ID token runs out, and the provider cannot be asked.
  for (let minutes = 0; minutes < 120; minutes += 50) {
    it.advance(50 * 60_000)
    t.is((await browser.send('/a', { headers: page })).status, 200, `${minutes}`)
  }
  // It is not asked again with each page.
  const before = refused
  t.is((await browser.send('/a', { headers: page })).status, 200)
  t.is(refused, before)
  t.like(
    it.gate.events.find(({ type }) => type === 'sign_in_failed'),
    {
      code: 'provider_unavailable',
    },
  )
  // A new sign-in cannot begin, and says so.
  const stranger = await it.newBrowser().send('/a', { headers: page, redirect: 'manual' })
  const begun = await it
    .newBrowser()
    .send(stranger.headers.get('location') ?? '', { headers: page })
  t.true(begun.status >= 500, `${begun.status}`)
  isGone = false
  t.is((await it.newBrowser().signIn()).status, 200)
})

test('nothing passes by a session while its store is gone, and it does when the store is back', async (t) => {
  let isGone = false
  const memory = createMemorySessionStore({ capacity: 100 })
  const sessions: SessionStore = {
    ...memory,
    find: async (...parameters) => {
      if (isGone) throw new Error('the store is gone')
      return memory.find(...parameters)
    },
  }
  const it = opened.use(await startBrowserGate(server, { options: { sessions } }))
  const browser = it.newBrowser()
  await browser.signIn()
  t.is((await browser.send('/a', { headers: script })).status, 200)
  isGone = true
  it.advance(6000)
  const before = it.application.received.length
  t.is((await browser.send('/a', { headers: script })).status, 503)
  t.is(it.application.received.length, before)
  t.like(it.gate.events.at(-1), { code: 'sessions_unavailable' })
  isGone = false
  t.is((await browser.send('/a', { headers: script })).status, 200)
})
