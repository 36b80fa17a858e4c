import { once } from 'node:events'
import { createConnection } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import Koa from 'koa'
import { isPath, pathOfIssuer, publicPath } from '../../src/http/public-path.ts'
import { serve } from '../support/serve.ts'

/** What the application sees of a request; null for one that does not reach it. */
async function seen(t: ExecutionContext, issuer: string, arrivalPath: string, target: string) {
  const app = new Koa()
  app.use(publicPath({ issuer, arrivalPath }))
  app.use((ctx) => {
    const { mountPath } = ctx as unknown as { mountPath: string }
    ctx.body = { path: ctx.path, originalUrl: ctx.originalUrl, mountPath }
  })
  const { port } = new URL(await serve(t, app))
  // fetch would tidy the target up.
  const socket = createConnection(Number(port), '127.0.0.1')
  socket.write(`GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
  let text = ''
  socket.on('data', (chunk) => {
    text += chunk
  })
  await once(socket, 'close')
  return text.startsWith('HTTP/1.1 200') ? JSON.parse(text.slice(text.indexOf('{'))) : null
}

const issuer = 'https://example.org/auth'
const at = (path: string, mountPath: string, search = '') => ({
  path,
  originalUrl: `${mountPath}${path}${search}`,
  mountPath,
})

test('a path that is kept', async (t) => {
  t.deepEqual(await seen(t, issuer, '/auth', '/auth/token?x=1'), at('/token', '/auth', '?x=1'))
  t.deepEqual(await seen(t, issuer, '/auth', '/auth'), at('/', '/auth'))
})

test('a path that was stripped', async (t) => {
  t.deepEqual(await seen(t, issuer, '', '/token?x=1'), at('/token', '/auth', '?x=1'))
})

test('a path that was replaced', async (t) => {
  t.deepEqual(await seen(t, issuer, '/in/here', '/in/here/token'), at('/token', '/auth'))
  t.is(await seen(t, issuer, '/in/here', '/auth/token'), null)
})

test('a path that a proxy has added to an origin', async (t) => {
  t.deepEqual(await seen(t, 'https://example.org', '/in', '/in/token'), at('/token', ''))
})

test('no path at all', async (t) => {
  t.deepEqual(await seen(t, 'https://example.org', '', '/token'), at('/token', ''))
})

for (const target of [
  '/',
  '/token',
  '/authority/token',
  '/AUTH/token',
  '/%61uth/token',
  '/x/auth',
]) {
  test(`${target} is not below the path`, async (t) => {
    t.is(await seen(t, issuer, '/auth', target), null)
  })
}

for (const arrivalPath of ['/auth', '']) {
  const how = arrivalPath ? 'kept' : 'stripped'
  for (const document of ['oauth-authorization-server', 'openid-configuration']) {
    test(`${document} at the origin, with the path ${how}`, async (t) => {
      const place = `/.well-known/${document}`
      t.is((await seen(t, issuer, arrivalPath, `${place}/auth`)).path, place)
    })
  }

  test(`device-bound-sessions at the origin, with the path ${how}`, async (t) => {
    const place = '/.well-known/device-bound-sessions'
    t.is((await seen(t, issuer, arrivalPath, place)).path, place)
  })
}

test('a request line with an address says nothing of the public one', async (t) => {
  const target = 'http://evil.example/auth/token?x=1'
  t.is((await seen(t, issuer, '/auth', target)).originalUrl, '/auth/token?x=1')
})

test('an escaped path stays as the client wrote it', async (t) => {
  const target = '/auth/admin/resources/https%3A%2F%2Fapi'
  t.is((await seen(t, issuer, '/auth', target)).originalUrl, target)
})

test('metadata of another issuer of the origin is not ours', async (t) => {
  const place = '/.well-known/oauth-authorization-server'
  t.is(await seen(t, issuer, '/auth', place), null)
  t.is(await seen(t, issuer, '/auth', `${place}/other`), null)
})

test('paths that an issuer may have', (t) => {
  for (const path of ['/auth', '/t/a-1', '/v1.0', '/_x']) t.true(isPath(path), path)
  for (const path of ['', '/', 'auth', '/auth/', '//a', '/..', '/.x', '/a b', '/a%20', '/a?b']) {
    t.false(isPath(path), path)
  }
  t.is(pathOfIssuer('https://example.org'), '')
  t.is(pathOfIssuer('https://example.org/a/b'), '/a/b')
})
