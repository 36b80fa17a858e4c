import test, { type ExecutionContext } from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import { type Finished, holdfast } from '../support/cli.ts'
import { createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { useFolder } from '../support/folder.ts'
import { email, useTestServer } from '../support/server.ts'

const HOLDFAST_SECRET = 'a secret of at least 32 characters'
const server = useTestServer(test, { HOLDFAST_SECRET })
const cwd = useFolder(test)

const run = (...args: string[]) =>
  holdfast({ cwd, env: { DATABASE_URL: server.databaseUrl, HOLDFAST_SECRET } }, args)

function done(t: ExecutionContext, { code, stdout, stderr }: Finished): string {
  t.is(stderr, '')
  t.is(code, 0)
  return stdout
}

async function signIn(parameters: Record<string, string> = {}) {
  const client = await server.addClient()
  const key = await newKey()
  const { exchange } = await obtainCode(createPerson(server), client, parameters)
  const { body } = await post(server, '/token', exchange, { key })
  const refresh = () => post(server, '/token', refreshing(client, body.refresh_token), { key })
  return { client, refresh }
}

const of = ({ client_id }: ClientMetadata) => client_id

test.serial('lists the sessions that are alive, and ends one', async (t) => {
  const { client, refresh } = await signIn()
  const list = JSON.parse(done(t, await run('sessions', 'list', '--account', email, '--json')))
  const session = list.find(({ clients }: { clients: string[] }) => clients.includes(of(client)))
  t.is(session.binding, null)
  t.is(session.address, '127.0.0.1')
  const text = done(t, await run('sessions', 'list'))
  t.regex(text, /^Session +Account +Since +Until +Bound by +Address +Clients$/m)
  t.true(text.includes(session.id))

  t.is(done(t, await run('sessions', 'end', session.id)), `Ended ${session.id}.\n`)
  t.is((await refresh()).body.error, 'invalid_grant')
  t.false(done(t, await run('sessions', 'list')).includes(session.id))
  const again = await run('sessions', 'end', session.id)
  t.is(again.code, 1)
  t.regex(again.stderr, /^holdfast: There is no session/)
})

test.serial('lists grants, and ends the tokens of one', async (t) => {
  const { client, refresh } = await signIn()
  const args = ['tokens', 'list', '--client', of(client)]
  const [grant, ...more] = JSON.parse(done(t, await run(...args, '--json')))
  t.deepEqual(more, [])
  t.regex(done(t, await run(...args)), new RegExp(`^${grant.id} .* openid$`, 'm'))
  t.is(done(t, await run('tokens', 'revoke', grant.id)), `Revoked ${grant.id}.\n`)
  t.is((await refresh()).body.error, 'invalid_grant')
  t.is((await run('tokens', 'revoke', grant.id)).code, 1)
})

test.serial('signs a person out everywhere, and ends their tokens', async (t) => {
  const { refresh } = await signIn({ scope: 'openid offline_access', prompt: 'consent' })
  const answer = JSON.parse(done(t, await run('accounts', 'sign-out', email, '--tokens', '--json')))
  t.is(answer.email, email)
  t.true(answer.ended >= 1 && answer.revoked >= 1)
  t.is((await refresh()).body.error, 'invalid_grant')
})

test.serial('reads the audit trail, as text and one JSON object a line', async (t) => {
  const { client } = await signIn()
  await server.flushAudit()
  const args = ['audit', '--client', of(client)]
  const rows = done(t, await run(...args, '--json'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  t.true(rows.some(({ event }) => event === 'tokens.issued'))
  t.true(rows.every((row) => row.client === of(client)))
  const text = done(t, await run(...args, '--event', 'tokens.issued'))
  t.regex(text, /^\d{4}-\S+ +tokens\.issued +.*client=/)
  t.is(text.trim().split('\n').length, 1)
})
