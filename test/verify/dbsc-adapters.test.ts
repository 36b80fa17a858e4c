import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import test from 'ava'
import express from 'express'
import Koa from 'koa'
import type { DbscRegistration } from '../../packages/verify/dbsc.ts'
import { expressDbsc } from '../../packages/verify/dbsc-express.ts'
import { koaDbsc } from '../../packages/verify/dbsc-koa.ts'
import { createDbscSessions, type DbscSessions } from '../../packages/verify/dbsc-sessions.ts'
import { createMemoryReplayStore } from '../../packages/verify/replay.ts'
import { refreshProof, registrationProof } from '../support/verify/dbsc.ts'

const apps: Record<string, (dbsc: DbscSessions) => RequestListener> = {
  koa(dbsc) {
    const app = new Koa()
    app.silent = true
    app.use(koaDbsc(dbsc, (ctx) => ctx.get('x-session') || undefined))
    app.use((ctx) => {
      ctx.body = 'the site'
    })
    return app.callback()
  },
  express(dbsc) {
    const app = express()
    app.use(expressDbsc(dbsc, (request) => request.get('x-session')))
    app.use((_request, response) => void response.send('the site'))
    return app
  },
}

function makeSite(broken = false) {
  const keys = new Map<string, DbscRegistration>()
  return createDbscSessions({
    origin: 'https://app.example',
    secret: Buffer.alloc(32, 1),
    replays: createMemoryReplayStore({ capacity: 100 }),
    wellKnown: () => ({ provider_origin: 'https://op.example' }),
    bindings: {
      insert: async (session, registration) => Boolean(keys.set(session, registration)),
      async find(session) {
        if (broken) throw new Error('the database is gone')
        return keys.get(session)
      },
    },
  })
}

async function serve(listener: RequestListener) {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const send = (path: string, headers: Record<string, string> = {}, method = 'POST') =>
    fetch(`http://127.0.0.1:${port}${path}`, { method, headers: { 'x-session': 's1', ...headers } })
  return { send, [Symbol.asyncDispose]: async () => void server.close() }
}

for (const [name, makeApp] of Object.entries(apps)) {
  test(`${name}: registers a key and refreshes with it`, async (t) => {
    const dbsc = makeSite()
    await using site = await serve(makeApp(dbsc))
    const [, jti, authorization] =
      /challenge="(.+)";authorization="(.+)"/.exec(dbsc.offer('s1')) ?? []
    const registered = await site.send('/dbsc/registration', {
      'secure-session-response': registrationProof({ jti, authorization }),
    })
    t.is(registered.status, 200)
    t.like(await registered.json(), { session_identifier: 's1' })
    const id = { 'sec-secure-session-id': 's1' }
    const asked = await site.send('/dbsc/refresh', id)
    t.is(asked.status, 403)
    const [, challenge] =
      /^"([^"]+)"/.exec(asked.headers.get('secure-session-challenge') ?? '') ?? []
    const proof = { 'secure-session-response': refreshProof({ jti: challenge }) }
    const refreshed = await site.send('/dbsc/refresh', { ...id, ...proof })
    t.is(refreshed.status, 200)
    const [companion] = refreshed.headers.getSetCookie()
    t.is(typeof dbsc.provenAt('s1', companion?.split(';')[0]), 'number')
  })

  test(`${name}: refuses as the core does`, async (t) => {
    await using site = await serve(makeApp(makeSite()))
    const registration = await site.send('/dbsc/registration')
    t.is(registration.status, 403)
    t.like(await registration.json(), { error: 'dbsc_missing' })
    t.is((await site.send('/dbsc/refresh')).status, 400)
    const gone = await site.send('/dbsc/refresh', { 'sec-secure-session-id': '"gone"' })
    t.deepEqual(await gone.json(), { session_identifier: 'gone', continue: false })
  })

  test(`${name}: serves the well-known document, and leaves the rest to the site`, async (t) => {
    await using site = await serve(makeApp(makeSite()))
    const wellKnown = await site.send('/.well-known/device-bound-sessions', {}, 'GET')
    t.regex(wellKnown.headers.get('content-type') ?? '', /^application\/json/)
    t.deepEqual(await wellKnown.json(), { provider_origin: 'https://op.example' })
    t.is(await (await site.send('/', {}, 'GET')).text(), 'the site')
  })

  test(`${name}: an error of the store is a 5xx, after which browsers try again`, async (t) => {
    await using site = await serve(makeApp(makeSite(true)))
    t.is((await site.send('/dbsc/refresh', { 'sec-secure-session-id': 's1' })).status, 500)
  })
}
