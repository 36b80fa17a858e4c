import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import test from 'ava'
import Koa from 'koa'
import { koaVerify } from '../../packages/verify/koa.ts'
import { accessToken, dpopProof, verifierWith } from '../support/verify/world.ts'

async function serve(app: Koa) {
  const server = createServer(app.callback())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { origin, [Symbol.asyncDispose]: async () => void server.close() }
}

function makeApp(): Koa {
  const app = new Koa()
  app.use(koaVerify(verifierWith()))
  app.use((ctx) => {
    ctx.body = { sub: ctx.state.auth.claims.sub }
  })
  return app
}

test('lets a valid request through, with what was verified', async (t) => {
  await using server = await serve(makeApp())
  const token = accessToken()
  const headers = { authorization: `DPoP ${token}`, dpop: dpopProof(token) }
  const response = await fetch(`${server.origin}/notes?limit=3`, { headers })
  t.is(response.status, 200)
  t.deepEqual(await response.json(), { sub: 'alice' })
})

test('answers a refused request with its challenges', async (t) => {
  await using server = await serve(makeApp())
  const response = await fetch(`${server.origin}/notes`)
  t.is(response.status, 401)
  t.regex(response.headers.get('www-authenticate') ?? '', /^Bearer, DPoP algs="ES256 /)
  t.is(response.headers.get('access-control-expose-headers'), 'WWW-Authenticate, DPoP-Nonce')
  t.is(response.headers.get('cache-control'), 'no-store')
})
