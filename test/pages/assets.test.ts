import anyTest, { type TestFn } from 'ava'
import { loadAssets } from '../../src/pages/assets.ts'
import { type IdentityProvider, startIdentityProvider } from '../support/journey.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

const test = anyTest as TestFn<{ idp: IdentityProvider; agent: UserAgent }>
const { urls } = loadAssets()

test.before(async (t) => {
  t.context.idp = await startIdentityProvider()
  t.context.agent = createUserAgent(t.context.idp.origin)
})
test.after.always((t) => t.context.idp?.close())

for (const [name, type] of [
  ['pico', 'text/css; charset=utf-8'],
  ['holdfast', 'text/css; charset=utf-8'],
  ['mark', 'image/svg+xml'],
] as const) {
  test(`serves ${name} for a year, by an address with its hash`, async (t) => {
    t.regex(urls[name], new RegExp(`^/assets/${name}\\.[\\w-]{16}\\.(css|svg)$`))
    const { status, headers, text } = await t.context.agent.get(urls[name])
    t.is(status, 200)
    t.is(headers.get('content-type'), type)
    t.is(headers.get('cache-control'), 'public, max-age=31536000, immutable')
    t.is(headers.get('x-content-type-options'), 'nosniff')
    t.false(/@import|https?:\/\/(?!www\.w3\.org)/.test(text.replace(/\/\*.*?\*\//gs, '')))
  })
}

for (const path of [
  '/assets/',
  '/assets/mark.svg',
  '/assets/..%2fassets.ts',
  '/assets/__proto__',
]) {
  test(`has no ${path}`, async (t) => {
    t.is((await t.context.agent.get(path)).status, 404)
  })
}
