import { readdirSync, readFileSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { brotliDecompressSync, gunzipSync } from 'node:zlib'
import anyTest, { type TestFn } from 'ava'
import { request } from 'undici'
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

test('is the Pico of the installed package', (t) => {
  const file = createRequire(import.meta.url).resolve('@picocss/pico/css/pico.classless.min.css')
  t.true(readFileSync('src/pages/assets/pico.css').equals(readFileSync(file)))
})

for (const [accepted, encoding, decode] of [
  ['gzip, deflate, br', 'br', brotliDecompressSync],
  ['gzip, br;q=0', 'gzip', gunzipSync],
  ['identity', undefined, (body: Buffer) => body],
] as const) {
  test(`compresses for Accept-Encoding: ${accepted}`, async (t) => {
    const ask = async (headers: Record<string, string>) => {
      const answer = await request(t.context.idp.origin + urls.pico, { headers })
      return { ...answer, body: Buffer.from(await answer.body.arrayBuffer()) }
    }
    const { headers, body } = await ask({ 'accept-encoding': accepted })
    t.is(headers['content-encoding'], encoding)
    t.is(headers.vary, 'Accept-Encoding')
    t.is(headers['content-length'], String(body.length))
    t.true(decode(body).equals(readFileSync('src/pages/assets/pico.css')))
    if (encoding) t.true(body.length < 15_000)
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

test('has 12 KB of scripts at most, so that no page loads more', (t) => {
  const folder = new URL('../../src/pages/assets/', import.meta.url)
  const scripts = readdirSync(folder).filter((name) => name.endsWith('.js'))
  t.true(scripts.length >= 3)
  const bytes = scripts.map((name) => statSync(new URL(name, folder)).size)
  t.true(bytes.reduce((sum, size) => sum + size) <= 12 * 1024)
})

test('redirects the home page and /.well-known/change-password to My security', async (t) => {
  for (const path of ['/', '/.well-known/change-password']) {
    const { status, location } = await t.context.agent.get(path)
    t.is(status, 303, path)
    t.is(location, `${t.context.idp.origin}/security/sign-in`, path)
  }
})
