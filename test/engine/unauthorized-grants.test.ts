import test from 'ava'
import { basic, createPerson, newKey, obtainCode, post } from '../support/flow.ts'
import { api, useTestServer } from '../support/server.ts'

const server = useTestServer(test)

test('a grant that a client may not use is unauthorized_client', async (t) => {
  const client = await server.addClient({ token_endpoint_auth_method: 'client_secret_basic' })
  const { status, body } = await post(
    server,
    '/token',
    { grant_type: 'client_credentials', resource: api },
    { key: await newKey(), headers: basic(client) },
  )
  t.is(status, 400)
  t.is(body.error, 'unauthorized_client')
})

test('a grant that nobody knows stays unsupported_grant_type', async (t) => {
  const client = await server.addClient()
  const { body } = await post(server, '/token', {
    grant_type: 'password',
    client_id: client.client_id,
  })
  t.is(body.error, 'unsupported_grant_type')
})

test('a client that may not refresh gets its tokens, and no refresh token', async (t) => {
  const client = await server.addClient({ grant_types: ['authorization_code'] })
  const { exchange } = await obtainCode(createPerson(server), client)
  const { status, body } = await post(server, '/token', exchange, { key: await newKey() })
  t.is(status, 200)
  t.false('refresh_token' in body)
})
