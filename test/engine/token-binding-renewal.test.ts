import test from 'ava'
import { createPerson, obtainCode, post, refreshing } from '../support/flow.ts'
import { useTestServer } from '../support/server.ts'
import { behindProxy, forwarded, newId } from '../support/token-binding.ts'

const server = useTestServer(test, { ...behindProxy, HOLDFAST_KEY_OVERLAP_HOURS: '24' })

async function issued() {
  const client = await server.addClient({ binding_method: 'token-binding' })
  const { exchange } = await obtainCode(createPerson(server), client)
  const old = newId()
  const { body } = await post(server, '/token', exchange, { headers: forwarded(old) })
  const refresh = (token: string, key: typeof old, parameters: Record<string, string> = {}) =>
    post(
      server,
      '/token',
      { ...refreshing(client, token), ...parameters },
      { headers: forwarded(key) },
    )
  return { old, token: body.refresh_token as string, refresh }
}

test('a key that was named by the one before takes over', async (t) => {
  const { old, token, refresh } = await issued()
  const next = newId()
  const { body: named } = await refresh(token, old, { successor: next.tbh })
  const { body: taken } = await refresh(named.refresh_token, next)
  t.is((await refresh(taken.refresh_token, old)).body.error, 'invalid_grant')
  t.is((await refresh(taken.refresh_token, next)).status, 200)
})

test('a key that nobody named does not, nor can it name itself', async (t) => {
  const { old, token, refresh } = await issued()
  const thief = newId()
  const refused = await refresh(token, thief, { successor: thief.tbh })
  t.is(refused.body.error, 'invalid_grant')
  t.is((await refresh(token, thief)).body.error, 'invalid_grant')
  t.is((await refresh(token, old)).status, 200)
})

test('a successor is named by its tbh', async (t) => {
  const { old, token, refresh } = await issued()
  t.is((await refresh(token, old, { successor: newId().id })).body.error, 'invalid_request')
  t.is((await refresh(token, old)).status, 200)
})
