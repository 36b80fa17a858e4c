import test from 'ava'
import { logBearerClients } from '../../src/observability/events.ts'
import { createLog } from '../../src/observability/log.ts'
import { createPerson, newKey, obtainCode, post } from '../support/flow.ts'
import { useTestServer } from '../support/server.ts'

const server = useTestServer(test)

test('clients with bearer tokens are named at start, and no others', (t) => {
  const lines: string[] = []
  const log = createLog('info', { write: (line) => lines.push(line) })
  const createdAt = new Date()
  logBearerClients(
    [
      { metadata: { client_id: 'loose', binding_method: 'bearer' }, createdAt },
      { metadata: { client_id: 'bound' }, createdAt },
    ],
    log,
  )
  t.deepEqual(
    lines.map((line) => JSON.parse(line).client),
    ['loose'],
  )
})

test('a refusal is logged with its reason, and without the token', async (t) => {
  const client = await server.addClient()
  const { exchange, code } = await obtainCode(createPerson(server), client)
  const refused = await post(
    server,
    '/token',
    { ...exchange, code_verifier: 'w'.repeat(43) },
    {
      key: await newKey(),
    },
  )
  t.is(refused.body.error, 'invalid_grant')
  const line = server.logged
    .map((text) => JSON.parse(text))
    .find((entry) => entry.client === client.client_id)
  t.like(line, { event: 'grant.error', error: 'invalid_grant', grantType: 'authorization_code' })
  t.regex(line.detail, /code_verifier does not match/)
  t.false(server.logged.some((text) => text.includes(code)))
})
