import test, { type ExecutionContext } from 'ava'
import { type Finished, useCommandLine } from '../support/cli.ts'
import { useTestDatabase } from '../support/database.ts'
import { useFolder } from '../support/folder.ts'

const holdfast = useCommandLine(test)
const cwd = useFolder(test)
const database = useTestDatabase(test)

const run = (...args: string[]) =>
  holdfast(
    {
      cwd,
      env: {
        DATABASE_URL: database.url,
        HOLDFAST_SECRET: 'a secret of at least 32 characters',
      },
    },
    ['registration-tokens', ...args],
  )

function done(t: ExecutionContext, { code, stdout, stderr }: Finished): string {
  t.is(stderr, '')
  t.is(code, 0)
  return stdout
}

test.serial('has no tokens, and says how to make one', async (t) => {
  t.regex(done(t, await run('list')), /^There are no .*holdfast registration-tokens add NAME/)
})

test.serial('makes a token that is shown once, and says what it allows', async (t) => {
  const stdout = done(t, await run('add', 'Shop team', '--redirect-host', 'shop.example.com'))
  t.regex(stdout, /^Generated a registration token for Shop team\.\n/)
  t.regex(stdout, /^ {2}Token +[\w-]{43} {2}\(shown this once\)$/m)
  t.regex(stdout, /^ {2}Tokens +dpop mtls token-binding$/m)
  t.regex(stdout, /^ {2}Redirects +shop\.example\.com$/m)
  const token = /^ {2}Token +(\S+)/m.exec(stdout)?.[1] ?? ''
  const list = done(t, await run('list'))
  t.regex(list, /Shop team +1 of 1/)
  t.false(list.includes(token))
})

test.serial('says that a bearer token is one', async (t) => {
  const stdout = done(t, await run('add', 'open', '--bearer', '--binding', 'dpop', 'bearer'))
  t.regex(stdout, /^ {2}Key +none: bearer$/m)
  t.regex(stdout, /^ {2}Tokens +dpop bearer$/m)
})

test.serial('makes and removes a token, as JSON', async (t) => {
  const made = JSON.parse(
    done(t, await run('add', 'fleet', '--uses', '500', '--expires', '30d', '--json')),
  )
  t.like(made, { name: 'fleet', uses: 500, usesLeft: 500, bearer: false, jkt: null })
  const lifetime = Date.parse(made.expiresAt) - Date.parse(made.createdAt)
  t.true(Math.abs(lifetime - 30 * 24 * 60 * 60 * 1000) < 60_000)
  t.is(done(t, await run('remove', made.id)), `Removed ${made.id}.\n`)
  const again = await run('remove', made.id)
  t.is(again.code, 1)
  t.regex(again.stderr, /^holdfast: There is no registration token/)
})

for (const [title, args, words] of [
  ['a key that is none', ['--key', 'abc'], /jkt: must be a thumbprint/],
  ['a bearer token of a key', ['--bearer', '--key', `${'x'.repeat(42)}A`], /choose one/],
  ['a scope that is none', ['--scope', 'a"b'], /must be a scope/],
  ['a URL as a host', ['--redirect-host', 'https://a.example'], /must be a host/],
] as const) {
  test.serial(`makes no token for ${title}`, async (t) => {
    const { code, stdout, stderr } = await run('add', 'x', ...args)
    t.is(code, 2)
    t.is(stdout, '')
    t.regex(stderr, words)
  })
}
