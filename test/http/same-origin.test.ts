import test from 'ava'
import type { Middleware } from 'koa'
import { sameOrigin } from '../../src/http/same-origin.ts'

const publicOrigin = 'https://id.example'

function post(headers: Record<string, string>): unknown {
  const ctx = { get: (name: string) => headers[name] ?? '' } as Parameters<Middleware>[0]
  return sameOrigin({ publicOrigin })(ctx, async () => 'passed')
}

for (const [title, headers] of [
  ['our own page', { 'sec-fetch-site': 'same-origin', origin: publicOrigin }],
  ['a reload by the person', { 'sec-fetch-site': 'none' }],
  ['our own page in an older browser', { origin: publicOrigin }],
  ['no browser', {}],
] as const) {
  test(`lets a form through from ${title}`, async (t) => {
    t.is(await post(headers), 'passed')
  })
}

for (const [title, headers] of [
  ['another site', { 'sec-fetch-site': 'cross-site', origin: publicOrigin }],
  ['a sibling site', { 'sec-fetch-site': 'same-site' }],
  ['another origin', { origin: 'https://evil.example' }],
  ['our host without TLS', { origin: 'http://id.example' }],
  ['an origin that begins as ours', { origin: 'https://id.example.evil.example' }],
  ['an opaque origin', { origin: 'null' }],
] as const) {
  test(`refuses a form from ${title}`, (t) => {
    t.like(
      t.throws(() => post(headers)),
      { code: 'cross_site_request', status: 403 },
    )
  })
}
