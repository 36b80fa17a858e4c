import test, { type ExecutionContext } from 'ava'
import { keyPurposes } from '../../src/keys/key-purpose.ts'
import { freePort } from '../../src/net/free-port.ts'
import { type Finished, serve, useCommandLine } from '../support/cli.ts'
import { useTestDatabase } from '../support/database.ts'
import { useFolder } from '../support/folder.ts'
import { query } from '../support/query.ts'
import { until } from '../support/until.ts'

const holdfast = useCommandLine(test)
const cwd = useFolder(test)
const database = useTestDatabase(test)
const secret = 'the secret of the installation of this file'

const run = (args: string[], env: Record<string, string> = {}) =>
  holdfast(
    {
      cwd,
      env: {
        DATABASE_URL: database.url,
        HOLDFAST_LOG_LEVEL: 'warn',
        HOLDFAST_SECRET: secret,
        ...env,
      },
    },
    args,
  )

function done(t: ExecutionContext, { code, stdout, stderr }: Finished): string {
  t.is(stderr, '')
  t.is(code, 0)
  return stdout
}

function failed(t: ExecutionContext, { code, stdout, stderr }: Finished, sentence: RegExp) {
  t.regex(stderr, sentence)
  t.is(stderr.trimEnd().split('\n').length, 1, stderr)
  t.is(stdout, '')
  t.is(code, 1)
}

interface Listed {
  kid: string
  purpose: string
  state: string
  signsFrom: string
}

const list = async (t: ExecutionContext, env = {}): Promise<Listed[]> =>
  JSON.parse(done(t, await run(['keys', 'list', '--json'], env)))

test.serial('lists a key for each purpose', async (t) => {
  done(t, await run(['migrate']))
  const listed = await list(t)
  t.deepEqual(
    listed.map(({ purpose, state }) => `${purpose} ${state}`),
    keyPurposes.map((purpose) => `${purpose} signing`),
  )
  const table = done(t, await run(['keys', 'list']))
  t.regex(table, /^Purpose +Key +State +Signs from +Signs until +Ends\n/)
  for (const { kid } of listed) t.true(table.includes(kid))
  t.false(/"[dk]":|private|jwe/.test(JSON.stringify(listed)))
})

test.serial('rotates what is named, or all', async (t) => {
  const [next, ...others] = JSON.parse(
    done(t, await run(['keys', 'rotate', 'ES256', '--json'])),
  ) as Listed[]
  t.like(next, { purpose: 'ES256', state: 'published' })
  t.deepEqual(others, [])
  const table = done(t, await run(['keys', 'rotate']))
  t.regex(table, /^Purpose +Next key +Signs from\n/)
  t.true(table.includes(next?.kid ?? ''))
  t.is((await list(t)).filter(({ state }) => state === 'published').length, 8)
})

test.serial('publishes a key for as long as it is configured', async (t) => {
  await query(
    database.url,
    "delete from signing_keys where signs_from > now() and purpose = 'EdDSA'",
  )
  const hours = { HOLDFAST_KEY_PUBLISH_HOURS: '48' }
  const [next] = JSON.parse(done(t, await run(['keys', 'rotate', 'EdDSA', '--json'], hours))) as [
    Listed & { createdAt: string },
  ]
  t.is(Date.parse(next.signsFrom) - Date.parse(next.createdAt), 48 * 3_600_000)
})

test.serial('retires a key in its time, or now, and says what follows', async (t) => {
  const of = async (purpose: string) =>
    (await list(t)).filter((key) => key.purpose === purpose).map(({ kid }) => kid)
  const [cookie = '', next] = await of('cookie')
  t.regex(
    done(t, await run(['keys', 'retire', cookie])),
    /will be retired once everything it signed has expired\.\n\n {2}Next key +\S+\n {2}Signs until +\d{4}-.*Z\n {2}Ends +\d{4}-.*Z\n$/,
  )
  const stdout = done(t, await run(['keys', 'retire', cookie, '--now']))
  t.regex(stdout, new RegExp(`^Retired ${cookie}\\.\\n\\n +Next key +${next}\\n`))
  t.regex(stdout, /must sign in again/)
  failed(t, await run(['keys', 'retire', 'nobody']), /^holdfast: There is no key nobody\.$/m)
})

test.serial('every change is in the audit trail, with who made it', async (t) => {
  const lines = done(t, await run(['audit', '--json']))
    .trim()
    .split('\n')
  const events = lines.map((line) => JSON.parse(line) as { event: string; actor: string })
  t.deepEqual(
    new Set(events.map(({ event }) => event)),
    new Set(['key.made', 'key.advanced', 'key.retired']),
  )
  for (const { actor } of events) t.regex(actor, /^command line of /)
  t.false(lines.some((line) => /"[dk]":/.test(line)))
})

test.serial('names a damaged key, which can be retired', async (t) => {
  const [{ kid = '' } = {}] = await list(t)
  await query(database.url, 'update signing_keys set jwe = $1 where kid = $2', ['damaged', kid])
  const words = new RegExp(`The key ${kid} .* holdfast keys retire ${kid} --now\\.$`, 'm')
  failed(t, await run(['serve']), words)
  t.regex(done(t, await run(['keys', 'list'])), new RegExp(`${kid} +signing, unreadable`))
  done(t, await run(['keys', 'retire', kid, '--now']))
  done(t, await run(['accounts', 'list']))
})

test.serial('another secret changes nothing', async (t) => {
  const before = await list(t)
  const env = { HOLDFAST_SECRET: 'a secret that this database never had' }
  for (const args of [['keys', 'rotate'], ['keys', 'list'], ['serve']]) {
    failed(
      t,
      await run(args, env),
      /^holdfast: The keys .* under another secret\. .*HOLDFAST_SECRET/,
    )
  }
  t.deepEqual(await list(t), before)
})

test.serial('a server that has both secrets is all it takes to change them', async (t) => {
  const env = { HOLDFAST_SECRET: 'the next secret of this installation' }
  const both = { ...env, HOLDFAST_SECRET_PREVIOUS: secret }
  const before = await list(t, both)
  const envelopes = async () =>
    (await query(database.url, 'select jwe from signing_keys where retired_at is null')).map(
      ({ jwe }) => jwe,
    )
  const old = new Set(await envelopes())
  const server = await serve({
    cwd,
    env: {
      DATABASE_URL: database.url,
      HOLDFAST_TLS: 'off',
      HOLDFAST_PORT: String(await freePort()),
      HOLDFAST_LOG_LEVEL: 'silent',
      ...both,
    },
  })
  await until(async () => !(await envelopes()).some((jwe) => old.has(jwe)))
  await server.end('SIGTERM')
  t.deepEqual(await list(t, env), before)
  failed(t, await run(['keys', 'list']), /under another secret/)
})
