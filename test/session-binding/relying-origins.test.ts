import test from 'ava'
import { createRelyingOrigins } from '../../src/session-binding/relying-origins.ts'
import { createStatementCounter } from '../support/counting.ts'
import { useTestServer } from '../support/server.ts'

const counter = createStatementCounter()
let now = 0
const server = useTestServer(test, {}, { wrap: counter.wrap, now: () => now })

test.serial('reads the clients once for many requests, and no others than it names', async (t) => {
  const web = { application_type: 'web' } as const
  await server.addClient({ ...web, redirect_uris: ['https://other.example/callback'] })
  await server.addClient({
    ...web,
    redirect_uris: ['https://rp.example/callback', 'https://rp.example/other'],
    session_policy: { federation: true },
  })
  const read = createRelyingOrigins(server.storage.clients, { now: () => now })
  counter.names.length = 0
  t.deepEqual(await Promise.all([read(), read(), read()]), Array(3).fill(['https://rp.example']))
  t.deepEqual(counter.names, ['client-federated-redirect-uris'])

  await server.addClient({
    ...web,
    redirect_uris: ['https://later.example/callback'],
    session_policy: { federation: true },
  })
  t.deepEqual(await read(), ['https://rp.example'])
  now += 60_000
  t.deepEqual(await read(), ['https://later.example', 'https://rp.example'])
})

test.serial('answers the document without reading all clients', async (t) => {
  counter.names.length = 0
  const url = `${server.issuer}/.well-known/device-bound-sessions`
  const answers = await Promise.all(Array.from({ length: 20 }, () => fetch(url)))
  t.true(answers.every(({ status }) => status === 200))
  t.true(counter.names.length <= 1)
})
