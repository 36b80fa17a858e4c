import { once } from 'node:events'
import test, { type ExecutionContext } from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import { actorOfCommand } from '../../src/commands/command.ts'
import { type Finished, start, useCommandLine } from '../support/cli.ts'
import { createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { useFolder } from '../support/folder.ts'
import { query } from '../support/query.ts'
import { email, useTestServer } from '../support/server.ts'

const HOLDFAST_SECRET = 'a secret of at least 32 characters'
const server = useTestServer(test, { HOLDFAST_SECRET })
const holdfast = useCommandLine(test)
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
  t.is(session.email, email)
  const text = done(t, await run('sessions', 'list'))
  t.regex(text, /^Session +Account +Since +Until +Bound by +Address +Clients$/m)
  t.regex(text, new RegExp(`^${session.id} +${email} +\\S{17} +\\S{17} +127`, 'm'))

  t.is(done(t, await run('sessions', 'end', session.id)), `Ended ${session.id}.\n`)
  t.is((await refresh()).body.error, 'invalid_grant')
  t.false(done(t, await run('sessions', 'list')).includes(session.id))
  const again = await run('sessions', 'end', session.id)
  t.is(again.code, 1)
  t.regex(again.stderr, /^holdfast: There is no session/)
})

test.serial('a session whose id begins as an option does is ended', async (t) => {
  await signIn()
  const id = `-x${'y'.repeat(41)}`
  await query(
    server.databaseUrl,
    'update browser_sessions set uid = $1 where uid = (select max(uid) from browser_sessions where ended_at is null)',
    [id],
  )
  t.is(done(t, await run('sessions', 'end', id)), `Ended ${id}.\n`)
  const { stdout } = await run('sessions', 'end', id, '--json')
  t.is(stdout, '')
})

test.serial('lists grants, and ends the tokens of one', async (t) => {
  const { client, refresh } = await signIn()
  const args = ['tokens', 'list', '--client', of(client)]
  const [grant, ...more] = JSON.parse(done(t, await run(...args, '--json')))
  t.deepEqual(more, [])
  t.is(grant.email, email)
  t.regex(done(t, await run(...args)), new RegExp(`^${grant.id} +${email} .* openid$`, 'm'))
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

test.serial(
  'an account has an id and an email, and the audit trail is found by either',
  async (t) => {
    await signIn()
    await server.flushAudit()
    const [account] = JSON.parse(done(t, await run('accounts', 'list', '--json')))
    const byId = done(t, await run('audit', '--account', account.id))
    t.regex(byId, /login\.succeeded/)
    t.is(done(t, await run('audit', '--account', email)), byId)
    const nobody = await run('audit', '--account', 'nobody@example.com')
    t.is(nobody.code, 1)
    t.is(nobody.stderr, 'holdfast: There is no account for nobody@example.com.\n')
  },
)

test.serial('nothing in the audit trail moves the cursor of who reads it', async (t) => {
  const details = { detail: '\u009b31m' }
  const client = 'a\u001b[2Jb\u009bc'
  await server.storage.audit.append([
    { at: new Date(), event: 'client_crl.expired', client, details },
  ])
  const text = done(t, await run('audit', '--event', 'client_crl.expired'))
  t.regex(text, /client=a\ufffd\[2Jb\ufffdc/)
  t.notRegex(text.trimEnd(), /\p{Cc}/u)
})

test.serial('audit names an event whose id is beyond 2^53', async (t) => {
  await query(
    server.databaseUrl,
    `insert into audit_events (id, at, event, details) overriding system value
     values (9007199254740993, now(), 'key.removed', '{}')`,
  )
  const { code, stderr } = await run('audit', '--event', 'key.removed')
  t.is(code, 1)
  t.regex(stderr, /^holdfast: The audit event 9007199254740993 has an id above /)
})

test.serial('ends when nobody reads it any more', async (t) => {
  const details = { padding: 'x'.repeat(1000) }
  const rows = Array.from({ length: 500 }, () => ({
    at: new Date(),
    event: 'key.resealed',
    details,
  }))
  await server.storage.audit.append(rows)
  const environment = { cwd, env: { DATABASE_URL: server.databaseUrl, HOLDFAST_SECRET } }
  const child = start(environment, ['audit', '--event', 'key.resealed', '--follow'])
  const ended = once(child, 'exit')
  child.stdout?.once('data', () => child.stdout?.destroy())
  t.deepEqual(await ended, [0, null])
})

for (const time of ['5', 'yesterday', '2026-13-01', '31.12.2026', '2026-01-31T12:00']) {
  test.serial(`--since ${time} is no time`, async (t) => {
    const { code, stdout, stderr } = await run('audit', '--since', time)
    t.is(code, 2)
    t.is(stdout, '')
    t.is(
      stderr,
      `holdfast: --since ${time} is no time such as 2026-01-31 or 2026-01-31T12:00:00Z.\n`,
    )
  })
}

test('a user who has no name is told by number', (t) => {
  const nameless = () => {
    throw new Error('ENOENT: no such file or directory, uv_os_get_passwd')
  }
  t.is(actorOfCommand(nameless), `command line of user ${process.getuid?.()}`)
})
