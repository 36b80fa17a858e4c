import test, { type ExecutionContext } from 'ava'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { createAccountTable } from '../../src/storage/account-table.ts'
import { openDatabase } from '../../src/storage/database.ts'
import { authenticated } from '../support/accounts.ts'
import { type Finished, useCommandLine } from '../support/cli.ts'
import { useTestDatabase } from '../support/database.ts'
import { useFolder } from '../support/folder.ts'

const holdfast = useCommandLine(test)
const cwd = useFolder(test)
const database = useTestDatabase(test)

const run = (args: string[], options: { stdin?: string } = {}) =>
  holdfast({ cwd, env: { DATABASE_URL: database.url } }, ['accounts', ...args], options)

function done(t: ExecutionContext, { code, stdout, stderr }: Finished): string {
  t.is(stderr, '')
  t.is(code, 0)
  return stdout
}

function failed(t: ExecutionContext, { code, stdout, stderr }: Finished, sentence: string) {
  t.is(stderr, `holdfast: ${sentence}\n`)
  t.is(stdout, '')
  t.is(code, 1)
}

/** Whether somebody can sign in with a password. */
async function signsIn(email: string, password: string): Promise<boolean> {
  await using open = await openDatabase(database.url, { onError: () => {} })
  const accounts = createAccounts({ store: createAccountTable(open) })
  return (await authenticated(accounts, email, password)) !== undefined
}

const printedPassword = (stdout: string) =>
  /^ {2}Password {2}(\S+) {2}\(shown/m.exec(stdout)?.[1] ?? ''

test.serial('has no accounts, and says how to add one', async (t) => {
  t.regex(done(t, await run(['list'])), /^There are no accounts\. .*holdfast accounts add EMAIL\n$/)
  t.deepEqual(JSON.parse(done(t, await run(['list', '--json']))), [])
})

test.serial('adds an account with a password that signs in', async (t) => {
  const stdout = done(t, await run(['add', 'Ada@Example.com', '--name', 'Ada Lovelace']))
  t.regex(stdout, /^Added ada@example\.com\.\n/)
  t.true(await signsIn('ada@example.com', printedPassword(stdout)))
})

test.serial(
  'adds an account with a password from standard input, and does not print it',
  async (t) => {
    const password = 'a passphrase with spaces '
    const stdout = done(
      t,
      await run(['add', 'bob@example.com', '--password-stdin'], { stdin: `${password}\r\n` }),
    )
    t.is(stdout, 'Added bob@example.com.\n')
    t.true(await signsIn('bob@example.com', password))
  },
)

test.serial('adds an account and tells of it in JSON', async (t) => {
  const account = JSON.parse(done(t, await run(['add', 'cleo@example.com', '--json'])))
  t.deepEqual(Object.keys(account).sort(), ['createdAt', 'disabled', 'email', 'id', 'password'])
  t.true(await signsIn('cleo@example.com', account.password))
})

test.serial('does not add an account twice', async (t) => {
  const result = await run(['add', 'ADA@example.com'])
  failed(t, result, 'An account for ada@example.com exists already.')
})

test.serial('does not add an account with a password that is too short', async (t) => {
  const result = await run(['add', 'dan@example.com', '--password-stdin'], { stdin: 'short\n' })
  t.is(result.code, 1)
  t.regex(result.stderr, /^holdfast: .*15 characters\.\n$/)
  t.notRegex(done(t, await run(['list'])), /dan@/)
})

for (const email of ['nobody', 'a b@example.com', '@example.com', 'ada@']) {
  test.serial(`does not add an account for ${email}`, async (t) => {
    const { code, stderr } = await run(['add', email])
    t.is(code, 1)
    t.regex(stderr, /^holdfast: .*email address such as.*\.\n$/)
  })
}

test.serial('lists accounts in columns', async (t) => {
  const [head, ...lines] = done(t, await run(['list']))
    .trimEnd()
    .split('\n')
  t.regex(head ?? '', /^Email +Name +Since +State$/)
  t.is(lines.length, 3)
  t.regex(lines[0] ?? '', /^ada@example\.com +Ada Lovelace +\d{4}-\d\d-\d\d +active$/)
  const column = head?.indexOf('State') ?? 0
  for (const line of lines) t.is(line.indexOf('active'), column)
})

test.serial('lists accounts in JSON, without hashes of passwords', async (t) => {
  const list = JSON.parse(done(t, await run(['list', '--json'])))
  t.deepEqual(
    list.map(({ email }: { email: string }) => email),
    ['ada@example.com', 'bob@example.com', 'cleo@example.com'],
  )
  t.notRegex(JSON.stringify(list), /argon2/)
})

test.serial('disables and enables an account', async (t) => {
  const stdin = 'correct horse battery staple\n'
  done(t, await run(['set-password', 'ada@example.com', '--password-stdin'], { stdin }))
  t.is(done(t, await run(['disable', 'ada@example.com'])), 'Disabled ada@example.com.\n')
  t.false(await signsIn('ada@example.com', stdin.trim()))
  t.regex(done(t, await run(['list'])), /^ada@example\.com .* disabled$/m)
  t.is(done(t, await run(['enable', 'ada@example.com'])), 'Enabled ada@example.com.\n')
  t.true(await signsIn('ada@example.com', stdin.trim()))
})

test.serial('sets a new password, and the old one is over', async (t) => {
  const before = 'correct horse battery staple'
  t.true(await signsIn('ada@example.com', before))
  const stdout = done(t, await run(['set-password', 'ada@example.com']))
  t.regex(stdout, /^Set the password of ada@example\.com\.\n/)
  t.false(await signsIn('ada@example.com', before))
  t.true(await signsIn('ada@example.com', printedPassword(stdout)))
  const { password } = JSON.parse(done(t, await run(['set-password', 'ada@example.com', '--json'])))
  t.true(await signsIn('ada@example.com', password))
})

for (const command of ['disable', 'enable', 'set-password', 'sign-out']) {
  test.serial(`cannot ${command} an account that is not there`, async (t) => {
    failed(
      t,
      await run([command, 'nobody@example.com']),
      'There is no account for nobody@example.com.',
    )
  })
}
