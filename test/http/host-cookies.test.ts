import test, { type ExecutionContext } from 'ava'
import Koa from 'koa'
import { CookieJar } from 'tough-cookie'
import { mayCallFrom } from '../../src/engine/provider.ts'
import { hostCookies } from '../../src/http/host-cookies.ts'
import { securityHeaders } from '../../src/http/security-headers.ts'
import { serve } from '../support/serve.ts'

/** Sends cookies to a server that sets some by the engine's names, and answers which it has seen. */
async function exchange(
  t: ExecutionContext,
  { issuer = 'https://id.example', path = '/', cookie = '', set = [] as string[] },
) {
  const app = new Koa().use(hostCookies({ issuer })).use(securityHeaders({ issuer }))
  app.use((ctx) => {
    ctx.body = ctx.get('cookie')
    if (set.length > 0) ctx.set('set-cookie', set)
  })
  const answer = await fetch((await serve(t, app)) + path, { headers: { cookie } })
  return { seen: await answer.text(), set: answer.headers.getSetCookie(), headers: answer.headers }
}

const session = '_session=s; path=/; secure; httponly'
const interaction = (uid: string) => `_interaction=${uid}; path=/interaction/${uid}/proof; secure`

test('a session that a sibling host has planted is not seen, signed or not', async (t) => {
  const cookie = '_session=x; _session.sig=y; __Secure-holdfast_session=x; other=1'
  t.is((await exchange(t, { cookie })).seen, '__Secure-holdfast_session=x; other=1')
  for (const domain of ['example.com', 'id.example.com']) {
    const jar = new CookieJar()
    const planted = `__Host-holdfast_session=x; Domain=${domain}; Path=/; Secure`
    await jar.setCookie(planted, 'https://id.example.com/', { ignoreError: true })
    t.is(await jar.getCookieString('https://id.example.com/'), '')
  }
})

test('sets a session that the browser takes, and reads it', async (t) => {
  const { set } = await exchange(t, { set: [session, '_session.sig=y; path=/; secure'] })
  const jar = new CookieJar()
  for (const each of set) await jar.setCookie(each, 'https://id.example/')
  const cookie = await jar.getCookieString('https://id.example/')
  t.is(cookie, '__Host-holdfast_session=s; __Host-holdfast_session.sig=y')
  t.is((await exchange(t, { cookie })).seen, '_session=s; _session.sig=y')
})

test('tells the interactions of one browser apart', async (t) => {
  const first = await exchange(t, {
    set: [interaction('a'), '_interaction_resume=a; path=/authorize/a'],
  })
  t.deepEqual(first.set, [
    '__Host-holdfast_interaction.a=a; path=/; secure',
    '__Host-holdfast_resume.a=a; path=/',
  ])
  const cookie =
    '__Host-holdfast_interaction.a=a; __Host-holdfast_interaction.b=b; __Host-holdfast_resume.b=b'
  t.is(
    (await exchange(t, { cookie, path: '/interaction/b/login' })).seen,
    '_interaction=b; _interaction_resume=b',
  )
  t.is((await exchange(t, { cookie, path: '/authorize/a' })).seen, '_interaction=a')
  t.is((await exchange(t, { cookie })).seen, '')
})

test('expires the cookies of an interaction that is over', async (t) => {
  const cookie = '__Host-holdfast_interaction.a=a; __Host-holdfast_interaction.a.sig=x'
  const gone = '_interaction_resume=; path=/authorize/a; expires=Thu, 01 Jan 1970 00:00:00 GMT'
  const { set } = await exchange(t, { cookie, set: [gone] })
  t.deepEqual(set.slice(1), [
    '__Host-holdfast_interaction.a=; path=/; max-age=0; secure; httponly',
    '__Host-holdfast_interaction.a.sig=; path=/; max-age=0; secure; httponly',
  ])
})

test('expires the oldest of many interactions', async (t) => {
  const uids = 'abcdefgh'
  const cookie = [...uids].map((uid) => `__Host-holdfast_interaction.${uid}=${uid}`).join('; ')
  const { set } = await exchange(t, { cookie, set: [interaction('i')] })
  t.deepEqual(set.slice(1), ['__Host-holdfast_interaction.a=; path=/; max-age=0; secure; httponly'])
})

test('keeps paths below an issuer with a path, and leaves http alone', async (t) => {
  const set = [interaction('a')]
  const below = await exchange(t, { issuer: 'https://id.example/auth', set })
  t.regex(below.set[0] ?? '', /^__Host-holdfast_browser\..*; path=\/; .*secure; httponly/)
  t.regex(
    below.set[1] ?? '',
    /^__Secure-holdfast_interaction=a\.[\w-]{22}; path=\/interaction\/a\/proof; secure$/,
  )
  const cookie = below.set.map((each) => each.split(';')[0]).join('; ')
  const seen = async (sent: string) =>
    (await exchange(t, { issuer: 'https://id.example/auth', cookie: sent })).seen
  t.regex(await seen(cookie), /; _interaction=a$/)
  t.notRegex(await seen(cookie.replace('=a.', '=b.')), /interaction/)
  t.notRegex(await seen(cookie.replace('_interaction=', '_session=')), /session/)
  t.is(await seen(below.set[1]?.split(';')[0] ?? ''), '')
  t.deepEqual((await exchange(t, { issuer: 'http://id.example', set })).set, set)
})

test('browsers are to come back over https, except to a loopback', async (t) => {
  const hsts = async (issuer: string) =>
    (await exchange(t, { issuer })).headers.get('strict-transport-security')
  t.is(await hsts('https://id.example'), 'max-age=31536000')
  t.is(await hsts('https://localhost:8443'), null)
  t.is(await hsts('http://id.example'), null)
})

test('scripts of an opaque origin may call nothing', (t) => {
  const client = {
    clientAuthMethod: 'none',
    redirectUris: ['com.app:/cb', 'https://app.example/cb'],
  }
  t.false(mayCallFrom(undefined, 'null', client))
  t.true(mayCallFrom(undefined, 'https://app.example', client))
})
