import test from 'ava'
import Koa from 'koa'
import { healthChecks } from '../../src/http/health.ts'
import { routed } from '../support/routed.ts'
import { serve } from '../support/serve.ts'

function startWith(t: Parameters<typeof serve>[0], ping: () => Promise<void>) {
  return serve(t, new Koa().use(routed()).use(healthChecks({ ping, deadline: 50 })))
}

test('is live whatever the database does, and never asks it', async (t) => {
  let asked = 0
  const origin = await startWith(t, async () => {
    asked += 1
  })
  const answer = await fetch(`${origin}/livez`)
  t.is(answer.status, 200)
  t.deepEqual(await answer.json(), { status: 'ok' })
  t.is(asked, 0)
})

test('is ready when the database answers', async (t) => {
  const origin = await startWith(t, async () => {})
  const answer = await fetch(`${origin}/readyz`)
  t.is(answer.status, 200)
  t.deepEqual(await answer.json(), { status: 'ok' })
})

test('is not ready when the database fails', async (t) => {
  const origin = await startWith(t, () => Promise.reject(new Error('password of the database')))
  const answer = await fetch(`${origin}/readyz`)
  t.is(answer.status, 503)
  t.deepEqual(await answer.json(), { status: 'unavailable' })
})

test('is not ready when the database says nothing', async (t) => {
  const origin = await startWith(t, () => new Promise(() => {}))
  t.is((await fetch(`${origin}/readyz`)).status, 503)
})

test('asks the database once for all that ask at the same time', async (t) => {
  let asked = 0
  let arrived = 0
  const { promise, resolve } = Promise.withResolvers<void>()
  const app = new Koa().use(routed())
  app.use((_ctx, next) => {
    const answered = next()
    arrived += 1
    if (arrived === 3) resolve()
    return answered
  })
  app.use(
    healthChecks({
      ping: () => {
        asked += 1
        return promise
      },
    }),
  )
  const origin = await serve(t, app)
  const answers = await Promise.all([1, 2, 3].map(() => fetch(`${origin}/readyz`)))
  t.deepEqual(
    answers.map(({ status }) => status),
    [200, 200, 200],
  )
  t.is(asked, 1)
})

test('leaves every other address alone', async (t) => {
  const origin = await startWith(t, async () => {})
  t.is((await fetch(`${origin}/livez/deeper`)).status, 404)
})
