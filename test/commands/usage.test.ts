import { readFile } from 'node:fs/promises'
import test from 'ava'
import { asTime } from '../../src/commands/audit.ts'
import { CommandError } from '../../src/commands/command.ts'
import { gateCommand } from '../../src/commands/gate.ts'
import { runProgram } from '../../src/commands/program.ts'
import { holdfast } from '../support/cli.ts'
import { useFolder } from '../support/folder.ts'

/** What a process would print and end with. Nothing here comes as far as the environment. */
async function run(...args: string[]) {
  const printed = { stdout: '', stderr: '' }
  const code = await runProgram(args, {
    write: (text) => {
      printed.stdout += text
    },
    writeError: (text) => {
      printed.stderr += text
    },
  })
  return { code, ...printed }
}

const commands = [
  '',
  'serve',
  'accounts',
  'accounts add',
  'accounts change',
  'accounts list',
  'accounts remove',
  'accounts import',
  'accounts export',
  'accounts disable',
  'accounts enable',
  'accounts invite',
  'accounts installations',
  'accounts reset',
  'accounts set-password',
  'accounts sign-out',
  'accounts passkeys',
  'claims',
  'claims list',
  'claims replace',
  'clients',
  'clients add',
  'clients list',
  'clients show',
  'clients change',
  'clients logo',
  'clients renew-secret',
  'clients remove',
  'invitations',
  'invitations create',
  'invitations list',
  'invitations revoke',
  'registration-tokens',
  'registration-tokens add',
  'registration-tokens list',
  'registration-tokens remove',
  'resources',
  'resources add',
  'resources list',
  'resources remove',
  'resources types',
  'sessions',
  'sessions list',
  'sessions end',
  'tokens',
  'tokens list',
  'tokens revoke',
  'keys',
  'keys list',
  'keys rotate',
  'keys retire',
  'keys reset',
  'mail',
  'mail test',
  'audit',
  'config',
  'config check',
  'migrate',
  'openapi',
  'doctor',
  'doctor code',
  'gate',
  'proof',
]

for (const command of commands) {
  test(`explains itself: holdfast ${command} --help`.replace('  ', ' '), async (t) => {
    const { code, stdout, stderr } = await run(...command.split(' ').filter(Boolean), '--help')
    t.is(code, 0)
    t.is(stderr, '')
    t.true(stdout.startsWith(`Usage: holdfast ${command}`.trimEnd()))
    t.regex(stdout, /\n\n[A-Z][^\n]+/)
    for (const line of stdout.split('\n')) {
      if (!line.startsWith('  $ ')) t.true(line.length <= 90, line)
    }
  })
}

test('names every command in a help', async (t) => {
  const found: string[] = ['']
  for (const group of [
    '',
    'accounts',
    'claims',
    'clients',
    'invitations',
    'registration-tokens',
    'resources',
    'sessions',
    'tokens',
    'keys',
    'mail',
    'config',
    'doctor',
  ]) {
    const { stdout } = await run(...(group ? [group] : []), '--help')
    const [, list = ''] = /\nCommands:\n([\s\S]*?)\n\n/.exec(stdout) ?? []
    for (const [, name] of list.matchAll(/^ {2}(\S+)/gm)) found.push(`${group} ${name}`.trim())
  }
  t.deepEqual(found.sort(), [...commands].sort())
})

const wrong: [string, RegExp][] = [
  ['', /^Usage: holdfast/],
  ['accounts', /^Usage: holdfast accounts/],
  ['serv', /^holdfast: Unknown command 'serv'\n\(Did you mean serve\?\)/],
  ['serve --bogus', /^holdfast: Unknown option '--bogus'/],
  [
    'accounts add',
    /^holdfast: Missing required argument 'email'\nTry: holdfast accounts add --help/,
  ],
  ['clients show', /^holdfast: Missing required argument 'client_id'/],
  ['clients change shop', /^holdfast: Required option '--metadata <file>'/],
  ['clients show one two', /^holdfast: Too many arguments/],
  ['audit --event login.fail', /^holdfast: --event login\.fail does .* login\.failed, /],
  [
    'audit --counted --event login.succeeded',
    /login\.succeeded does not exist\. .* rate\.limited, /,
  ],
  ['doctor --code x', /^holdfast: --code is for another machine: give --url as well/],
  ['doctor --gate http://app.example', /^holdfast: --gate must be an https URL/],
  ['doctor --gate https://app.example --code x', /^holdfast: --gate needs neither --url nor/],
  ['doctor --gate https://app.example --upstream x', /^holdfast: --upstream must be an http or/],
  ['doctor --upstream http://app.example', /^holdfast: --forward-auth and --upstream are for/],
  ['doctor --url https://id.example/x/', /^holdfast: --url must be the https issuer/],
  ['resources add https://api.example', /^holdfast: Required option '--scope/],
  ['resources add nonsense --scope read', /^holdfast: nonsense is not an absolute URI/],
  ['resources add https://api.example/#x --scope read', /^holdfast: .* without a fragment/],
  ['resources add https://a.example --scope a --scope-label =x', /--scope-label =x is not SCOPE=/],
  ['resources add https://api.example --scope a"b', /^holdfast: "a"b" is not a scope/],
  [
    'clients add --auth password',
    /^holdfast: Option '--auth <method>' .* none, client_secret_basic/,
  ],
  [
    'clients add --binding tls',
    /^holdfast: Option '--binding <method>' .* dpop, mtls, token-binding, bearer/,
  ],
  ['resources add https://api.example --scope a --alg none', /^holdfast: .* ES256, EdDSA, RS256/],
  ['clients add --id-token-alg HS256', /^holdfast: .* ES256, EdDSA, RS256, PS256/],
  ['keys rotate ES512', /^holdfast: .* ES256, EdDSA, RS256, PS256, cookie/],
  ['keys retire', /^holdfast: Missing required argument 'key'/],
  ['keys reset', /^holdfast: .* all users must sign in again\. .* holdfast keys reset --yes\.\n$/],
  ['proof POST https://id.example/token', /^holdfast: Required option '--key/],
  ['proof --key none.jwk POST id.example', /^holdfast: id\.example is not an http or https URL/],
  ['registration-tokens add', /^holdfast: Missing required argument 'name'/],
  ['registration-tokens add x --expires 2y', /^holdfast: .* Expected a duration from 1m to 365d\./],
  ['registration-tokens add x --expires 0m', /^holdfast: .* Expected a duration from 1m to 365d\./],
  ['registration-tokens add x --uses 0', /^holdfast: .* Expected 1 to 10000\./],
  ['registration-tokens add x --grant password', /^holdfast: .* authorization_code/],
  ['clients add --grant implicit', /^holdfast: Option '--grant <type>' .* authorization_code/],
  ['clients add --jwks a.json --jwks-uri https://a.example', /^holdfast: .* cannot be used with/],
  [
    'clients add --metadata a.json --native',
    /^holdfast: --metadata and --native cannot be used together\.\n$/,
  ],
  [
    'clients add --metadata a.json --binding dpop',
    /^holdfast: --metadata and --binding cannot be used together\.\n$/,
  ],
]

for (const [args, words] of wrong) {
  test(`is wrong usage: holdfast ${args}`, async (t) => {
    const { code, stdout, stderr } = await run(...args.split(' ').filter(Boolean))
    t.is(code, 2, stderr)
    t.is(stdout, '')
    t.regex(stderr, words)
    t.notRegex(stderr, /^ +at /m)
  })
}

const cwd = useFolder(test)

test('is a program with exit codes', async (t) => {
  const help = await holdfast({ cwd, env: {} }, ['--help'])
  t.deepEqual(help, await run('--help'))
  const wrong = await holdfast({ cwd, env: {} }, ['serv'])
  t.deepEqual(wrong, await run('serv'))
  const { version } = JSON.parse(await readFile('package.json', 'utf8'))
  for (const flag of ['--version', '-V']) {
    const shown = await holdfast({ cwd, env: {} }, [flag])
    t.deepEqual(shown, { code: 0, stdout: `${version}\n`, stderr: '' })
  }
})

test('takes a duration as the time that audit begins at', (t) => {
  const now = () => Date.UTC(2026, 0, 31, 12)
  t.is(asTime('2h', now).toISOString(), '2026-01-31T10:00:00.000Z')
  t.is(asTime('7d', now).toISOString(), '2026-01-24T12:00:00.000Z')
  t.throws(() => asTime('2 weeks', now))
})

test('leads to the gate with the arguments that it gets, and ends with its exit code', async (t) => {
  const missing = await run('gate', 'check', '--config', 'nowhere/gate.yaml')
  t.is(missing.code, 1)
  t.is(missing.stderr, 'nowhere/gate.yaml cannot be read (ENOENT).\n')
  const unknown = await run('gate', '--bogus')
  t.is(unknown.code, 2)
})

test('says how to install the gate where it is missing', async (t) => {
  const missing = () => {
    throw new Error('cannot be found')
  }
  const gate = gateCommand({ write() {}, writeError() {} }, () => {}, missing)
  await t.throwsAsync(gate.parseAsync(['check'], { from: 'user' }), {
    instanceOf: CommandError,
    message: 'The gate is a package of its own: npm install @holdfast/gate.',
  })
})
