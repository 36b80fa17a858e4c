import { hash } from 'node:crypto'
import { once } from 'node:events'
import { readFile, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import {
  calculateJwkThumbprint,
  decodeProtectedHeader,
  EmbeddedJWK,
  exportJWK,
  generateKeyPair,
  type JWK,
  jwtVerify,
} from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { matchesSecret } from '../../src/clients/client-secret.ts'
import { cibaGrant } from '../../src/clients/grant-types.ts'
import { actorOfCommand } from '../../src/commands/command.ts'
import { keyPurposes } from '../../src/keys/key-purpose.ts'
import { freePort } from '../../src/net/free-port.ts'
import { createAccountTable } from '../../src/storage/account-table.ts'
import { createClientTable } from '../../src/storage/client-table.ts'
import { openDatabase } from '../../src/storage/database.ts'
import { authenticated } from '../support/accounts.ts'
import { type Finished, serve, start, useCommandLine } from '../support/cli.ts'
import { useTestDatabase } from '../support/database.ts'
import { createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { useFolder } from '../support/folder.ts'
import { query } from '../support/query.ts'
import { email, useTestServer } from '../support/server.ts'
import { until } from '../support/until.ts'

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

const printedLink = (stdout: string) =>
  /^ {2}Link +(http\S+\/link\/[\w-]{43}) {2}\(shown this once\)$/m.exec(stdout)?.[1]

test.serial('has no accounts, and says how to add one', async (t) => {
  t.regex(done(t, await run(['list'])), /^There are no accounts\. .*holdfast accounts add EMAIL\n$/)
  t.deepEqual(JSON.parse(done(t, await run(['list', '--json']))), [])
})

test.serial('adds an account without a password, and prints a link', async (t) => {
  const stdout = done(t, await run(['add', 'Ada@Example.com', '--name', 'Ada Lovelace']))
  t.regex(stdout, /^Added ada@example\.com\.\n/)
  t.truthy(printedLink(stdout))
  t.regex(stdout, /^ {2}Works until +\d{4}-\d\d-\d\d \d\d:\d\d UTC, once/m)
  const again = done(t, await run(['invite', 'ada@example.com']))
  t.truthy(printedLink(again))
  t.not(printedLink(again), printedLink(stdout))
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
  const args = ['add', 'cleo@example.com', '--email-verified', '--json']
  const account = JSON.parse(done(t, await run(args)))
  t.true(account.emailVerified)
  const members = ['createdAt', 'disabled', 'email', 'emailVerified', 'expiresAt', 'id', 'link']
  t.deepEqual(Object.keys(account).sort(), [...members, 'mailed'])
  t.false(account.mailed)
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

test.serial('changes what an account says of its person', async (t) => {
  const change = ['change', 'ada@example.com', '--json']
  const person = [
    '--given-name',
    'Ada',
    '--group',
    'staff',
    '--group',
    'editors',
    '--email-verified',
  ]
  const changed = JSON.parse(done(t, await run([...change, ...person, '--attribute', 'unit=a=b'])))
  t.like(changed, { givenName: 'Ada', emailVerified: true, attributes: { unit: 'a=b' } })
  t.deepEqual(changed.groups, ['staff', 'editors'])
  const less = ['--given-name', '', '--no-email-verified', '--attribute', 'unit=']
  const next = JSON.parse(done(t, await run([...change, ...less])))
  for (const gone of ['givenName', 'emailVerified', 'attributes']) t.false(gone in next, gone)
  t.like(next, { name: 'Ada Lovelace', groups: ['staff', 'editors'] })
  const phone = ['--phone', '+49 30 123456', '--phone-verified', '--country', 'Germany']
  const called = JSON.parse(done(t, await run([...change, ...phone])))
  t.like(called, { phone: '+4930123456', phoneVerified: true, country: 'Germany' })
  const other = JSON.parse(done(t, await run([...change, '--phone', '+49 30 7', '--country', ''])))
  t.is(other.phone, '+49307')
  // It was another phone that was verified.
  t.false('phoneVerified' in other || 'country' in other)
  failed(
    t,
    await run(['change', 'ada@example.com', '--zoneinfo', 'Moon']),
    'Invalid account: zoneinfo must be a time zone such as Europe/Berlin.',
  )
})

test.serial('imports accounts once, exports them, and removes one', async (t) => {
  const file = path.join(cwd, 'people.jsonl')
  const bcrypt = '$2b$04$YdYY9Nvwv9P5ZK99jZDgZul9lPdI/lFgkg4L8aHBoWP5RpRtNr6XC'
  const dora = JSON.stringify({ email: 'dora@example.com', passwordHash: bcrypt })
  await writeFile(file, `${dora}\n{"email":"\u009b31m"}\nnot JSON\n`)
  const { code, stdout, stderr } = await run(['import', file])
  t.is(code, 1)
  t.is(stdout, '')
  const [second = '', third, last] = stderr.split('\n')
  t.true(second.startsWith(`${file}:2: Expected an email address`), second)
  t.is(third, `${file}:3: must be one JSON object that names each member once`)
  t.is(last, `holdfast: 2 lines of ${file} had problems, and nothing was imported.`)

  await writeFile(file, `${dora}\n`)
  const dry = JSON.parse(done(t, await run(['import', file, '--dry-run', '--json'])))
  t.deepEqual(dry, { file, lines: 1, added: 1, existing: 0, problems: 0, imported: false })
  t.is(done(t, await run(['import', file])), '1 account added, 0 there already.\n')
  t.true(await signsIn('dora@example.com', 'correct horse battery'))
  const out = path.join(cwd, 'export.jsonl')
  t.is(done(t, await run(['export', out])), `4 accounts exported to ${out}.\n`)
  t.regex(await readFile(out, 'utf8'), /"email":"dora@example.com"/)
  t.is(
    done(t, await run(['remove', 'dora@example.com'])),
    'Removed dora@example.com: ended 0 sessions and 0 grants.\n',
  )
  failed(t, await run(['remove', 'dora@example.com']), 'There is no account for dora@example.com.')
})

test.serial('lists accounts in columns', async (t) => {
  const [head, ...lines] = done(t, await run(['list']))
    .trimEnd()
    .split('\n')
  t.regex(head ?? '', /^Email +Name +Groups +Since +State$/)
  t.is(lines.length, 3)
  t.regex(
    lines[0] ?? '',
    /^ada@example\.com +Ada Lovelace +staff, editors +\d{4}-\d\d-\d\d +active$/,
  )
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
  const stdin = 'another long secret\n'
  const set = ['set-password', 'ada@example.com', '--password-stdin']
  t.is(done(t, await run(set, { stdin })), 'Set the password of ada@example.com.\n')
  t.false(await signsIn('ada@example.com', before))
  t.true(await signsIn('ada@example.com', stdin.trim()))
  const reset = done(t, await run(['reset', 'ada@example.com', '--passkeys']))
  t.regex(reset, /^Reset ada@example\.com: ended 0 sessions and 0 grants\.\n/)
  t.truthy(printedLink(reset))
  t.false(await signsIn('ada@example.com', stdin.trim()))
})

test.serial('lists the passkeys of an account, and removes none that is not there', async (t) => {
  t.is(done(t, await run(['passkeys', 'ada@example.com'])), 'The account has no passkeys.\n')
  const unknown = '5f0c2b0e-6d0b-4a0e-9f43-0d6d3c1c9d7e'
  const refused = await run(['passkeys', 'ada@example.com', '--remove', unknown])
  failed(t, refused, `ada@example.com has no passkey ${unknown}.`)
})

const absent = ['disable', 'enable', 'invite', 'reset', 'sign-out', 'passkeys']
for (const command of [...absent, 'set-password --password-stdin']) {
  test.serial(`cannot ${command} an account that is not there`, async (t) => {
    failed(
      t,
      await run([...command.split(' '), 'nobody@example.com']),
      'There is no account for nobody@example.com.',
    )
  })
}
const redirect = ['--redirect-uri', 'https://app.example.com/callback']

const runWith = (env: Record<string, string>, ...args: string[]) =>
  holdfast(
    {
      cwd,
      env: {
        DATABASE_URL: database.url,
        HOLDFAST_SECRET: 'a secret of at least 32 characters',
        ...env,
      },
    },
    args,
  )
const runClients = (...args: string[]) => runWith({}, ...args)

function failsPlainly(t: ExecutionContext, { code, stdout, stderr }: Finished, sentence: RegExp) {
  t.regex(stderr, sentence)
  t.regex(stderr, /^holdfast: [^\n]*\.\n$/)
  t.is(stdout, '')
  t.is(code, 1)
}

async function add(t: ExecutionContext, ...args: string[]) {
  return JSON.parse(done(t, await runClients('clients', 'add', '--json', ...args)))
}

async function stored(id: string) {
  await using open = await openDatabase(database.url, { onError: () => {} })
  return await createClientTable(open).find(id)
}

test.serial('has no clients, and says how to add one', async (t) => {
  t.regex(
    done(t, await runClients('clients', 'list')),
    /^There are no clients\. .*holdfast clients add/,
  )
})

test.serial('adds a client whose tokens are bound and that has a secret', async (t) => {
  const stdout = done(t, await runClients('clients', 'add', 'shop', ...redirect, '--name', 'Shop'))
  t.regex(stdout, /^Registered shop\.\n/)
  t.regex(stdout, /^ {2}Tokens +bound by dpop$/m)
  t.regex(stdout, /^ {2}Grants +authorization_code refresh_token$/m)
  t.regex(stdout, /^ {2}Authenticates by +client_secret_basic or client_secret_post$/m)
  const secret = /^ {2}Secret +(\S{43}) {2}\(shown this once\)$/m.exec(stdout)?.[1] ?? ''
  const metadata = await stored('shop')
  t.true(matchesSecret(secret, metadata?.client_secret))
  t.like(metadata, {
    client_name: 'Shop',
    binding_method: 'dpop',
    dpop_bound_access_tokens: true,
    response_types: ['code'],
    application_type: 'web',
  })
})

test.serial('makes a new secret, and stores none', async (t) => {
  const before = (await stored('shop'))?.client_secret
  const stdout = done(t, await runClients('clients', 'renew-secret', 'shop'))
  const [, secret = ''] =
    /^Generated a new secret for shop\.\n\n {2}Secret {2}(\S{43}) {2}\(shown this once\)\n$/.exec(
      stdout,
    ) ?? []
  const metadata = await stored('shop')
  t.not(metadata?.client_secret, before)
  t.true(matchesSecret(secret, metadata?.client_secret))
  failsPlainly(
    t,
    await runClients('clients', 'renew-secret', 'nobody'),
    /There is no client nobody/,
  )
})

test.serial('changes a client by a file, as it is shown', async (t) => {
  const file = path.join(cwd, 'shop.json')
  const shown = JSON.parse(done(t, await runClients('clients', 'show', 'shop', '--json')))
  await writeFile(file, JSON.stringify({ ...shown, contacts: ['shop@example.com'] }))
  const stdout = done(t, await runClients('clients', 'change', 'shop', '--metadata', file))
  t.regex(stdout, /^Changed shop\.\n\n {2}Tokens +bound by dpop\n/)
  t.false(stdout.includes('Secret'))
  t.deepEqual((await stored('shop'))?.contacts, ['shop@example.com'])
  t.regex((await stored('shop'))?.client_secret ?? '', /^sha256:/)
  const nobody = await runClients('clients', 'change', 'nobody', '--metadata', file)
  failsPlainly(t, nobody, /There is no client nobody/)
})

test.serial('makes a client_id', async (t) => {
  const { client_id } = await add(t, ...redirect)
  t.regex(client_id, /^[0-9a-f-]{36}$/)
})

test.serial('does not add a client twice', async (t) => {
  failsPlainly(
    t,
    await runClients('clients', 'add', 'shop', ...redirect),
    /The client_id shop is taken/,
  )
})

test.serial('adds a public client, without a secret', async (t) => {
  const metadata = await add(t, 'public', '--auth', 'none', ...redirect)
  t.is(metadata.token_endpoint_auth_method, 'none')
  t.is(metadata.client_secret, undefined)
})

test.serial('adds a native client with loopback redirect URIs', async (t) => {
  const uris = ['http://127.0.0.1/callback', 'com.example.app:/callback']
  const args = uris.flatMap((uri) => ['--redirect-uri', uri])
  const metadata = await add(t, 'phone', '--native', '--auth', 'none', ...args)
  t.is(metadata.application_type, 'native')
  t.deepEqual(metadata.redirect_uris, uris)
})

test.serial('adds a client that authenticates by its key', async (t) => {
  const { publicKey } = await generateKeyPair('ES256')
  const keys = { keys: [{ ...(await exportJWK(publicKey)), kid: 'one', alg: 'ES256' }] }
  const file = path.join(cwd, 'keys.json')
  await writeFile(file, JSON.stringify(keys))
  const metadata = await add(t, 'job', '--auth', 'private_key_jwt', '--jwks', file)
  t.deepEqual(metadata.jwks, keys)
  t.deepEqual(metadata.grant_types, ['client_credentials'])
  t.is(metadata.client_secret, undefined)
})

test.serial('adds a client with keys at a URL that is notified of decisions', async (t) => {
  const uri = 'https://app.example.com/jwks'
  const endpoint = 'https://app.example.com/ciba'
  const ping = ['--grant', cibaGrant, '--notification-endpoint', endpoint]
  const metadata = await add(t, 'remote', '--auth', 'private_key_jwt', '--jwks-uri', uri, ...ping)
  t.like(metadata, {
    jwks_uri: uri,
    backchannel_token_delivery_mode: 'ping',
    backchannel_client_notification_endpoint: endpoint,
  })
})

test.serial('binds nothing to certificates on a server that none can reach', async (t) => {
  const { code, stderr } = await runClients('clients', 'add', 'x', '--binding', 'mtls', ...redirect)
  t.is(code, 1)
  t.regex(stderr, /HOLDFAST_MTLS_PORT/)
})

test.serial('adds a device where the device flow is on, and says so where it is off', async (t) => {
  const grant = ['--auth', 'none', '--grant', 'urn:ietf:params:oauth:grant-type:device_code']
  failsPlainly(
    t,
    await runClients('clients', 'add', 'tv', ...grant),
    /needs HOLDFAST_DEVICE_FLOW=on/,
  )
  const { code } = await runWith({ HOLDFAST_DEVICE_FLOW: 'on' }, 'clients', 'add', 'tv', ...grant)
  t.is(code, 0)
  t.deepEqual((await stored('tv'))?.response_types, [])
})

test.serial('wants to know what kind of name a certificate has', async (t) => {
  const { code, stderr } = await runClients(
    'clients',
    'add',
    'x',
    '--certificate-name',
    'app.example',
  )
  t.is(code, 2)
  t.regex(stderr, /dns:/)
})

test.serial('adds a client from a metadata file', async (t) => {
  const file = path.join(cwd, 'client.json')
  await writeFile(
    file,
    JSON.stringify({
      client_id: 'from-file',
      client_name: 'Von Datei',
      redirect_uris: ['https://file.example.com/callback'],
      token_endpoint_auth_method: 'none',
    }),
  )
  const metadata = await add(t, '--metadata', file)
  t.like(metadata, { client_id: 'from-file', client_name: 'Von Datei', binding_method: 'dpop' })
  const named = await add(t, 'another-name', '--metadata', file)
  t.is(named.client_id, 'another-name')
})

test.serial('shows plainly that the tokens of a client are bound to nothing', async (t) => {
  const added = done(
    t,
    await runClients('clients', 'add', 'legacy', ...redirect, '--binding', 'bearer'),
  )
  t.regex(added, /^ {2}Tokens +BEARER, not bound$/m)
  t.regex(done(t, await runClients('clients', 'list')), /^legacy +BEARER, not bound /m)
  t.regex(done(t, await runClients('clients', 'show', 'legacy')), /^binding_method +BEARER/m)
})

test.serial('lists clients in columns', async (t) => {
  const [head, ...lines] = done(t, await runClients('clients', 'list'))
    .trimEnd()
    .split('\n')
  t.regex(head ?? '', /^Client +Name +Tokens +Authenticates by +Grants +Profile +Registered by$/)
  t.regex(
    lines[0] ?? '',
    /^shop +Shop +bound by dpop +client_secret_basic or client_secret_post +authorization_code/,
  )
  const column = head?.indexOf('Tokens') ?? 0
  for (const line of lines) t.regex(line.slice(column), /^(bound by|BEARER)/)
})

test.serial('shows no secret, not even its digest', async (t) => {
  for (const args of [['show', 'shop'], ['show', 'shop', '--json'], ['list', '--json'], ['list']]) {
    const stdout = done(t, await runClients('clients', ...args))
    t.true(stdout.includes('shop'))
    t.notRegex(stdout, /sha256:|"client_secret"/)
  }
})

test.serial('removes a client, once', async (t) => {
  t.is(done(t, await runClients('clients', 'remove', 'legacy')), 'Removed legacy.\n')
  t.is(await stored('legacy'), undefined)
  failsPlainly(t, await runClients('clients', 'remove', 'legacy'), /There is no client legacy/)
  failsPlainly(t, await runClients('clients', 'show', 'legacy'), /There is no client legacy/)
})

test.serial('registers nothing that contradicts itself', async (t) => {
  const file = path.join(cwd, 'broken.json')
  await writeFile(file, JSON.stringify({ client_id: 'broken', redirect_uris: ['nowhere'] }))
  const result = await runClients('clients', 'add', '--metadata', file)
  failsPlainly(t, result, /The client cannot be registered: redirect_uris/)
  t.is(await stored('broken'), undefined)
})

test.serial('says what is wrong with a file', async (t) => {
  const missing = path.join(cwd, 'missing.json')
  failsPlainly(
    t,
    await runClients('clients', 'add', '--metadata', missing),
    /missing\.json cannot be read/,
  )
  const list = path.join(cwd, 'list.json')
  await writeFile(list, '[]')
  failsPlainly(
    t,
    await runClients('clients', 'add', '--metadata', list),
    /does not hold a JSON object/,
  )
  await writeFile(list, 'a private key, perhaps')
  const result = await runClients('clients', 'add', '--jwks', list)
  failsPlainly(t, result, /list\.json does not hold a JSON object/)
  t.false(result.stderr.includes('private'))
})

test.serial('adds, lists and removes an API', async (t) => {
  t.regex(
    done(t, await runClients('resources', 'list')),
    /^There are no APIs\. .*holdfast resources add/,
  )
  const uri = 'https://api.example.com'
  const label = ['--scope-label', 'read=See your orders']
  const add = ['resources', 'add', uri, '--scope', 'read', 'write', ...label, '--name', 'Orders']
  t.is(
    done(t, await runClients(...add)),
    `Registered ${uri}.\n\n  Scopes     read write\n  Signed by  ES256\n`,
  )
  failsPlainly(t, await runClients(...add), /is registered already/)
  t.regex(
    done(t, await runClients('resources', 'list')),
    /^https:\/\/api\.example\.com +Orders +read write +ES256$/m,
  )
  t.deepEqual(JSON.parse(done(t, await runClients('resources', 'list', '--json'))), [
    {
      identifier: uri,
      name: 'Orders',
      scopes: ['read', 'write'],
      openScopes: [],
      scopeLabels: { read: 'See your orders' },
      signingAlg: 'ES256',
      authorizationDetailsTypes: {},
    },
  ])
  const file = path.join(cwd, 'types.json')
  const payment = { label: 'Pay', members: { to: { kind: 'string' } } }
  await writeFile(file, JSON.stringify({ payment }))
  t.regex(done(t, await runClients('resources', 'types', uri, file)), /Types +payment$/m)
  const [listed] = JSON.parse(done(t, await runClients('resources', 'list', '--json')))
  t.deepEqual(listed.authorizationDetailsTypes, { payment })
  const elsewhere = ['resources', 'types', 'https://other.example', file]
  failsPlainly(t, await runClients(...elsewhere), /There is no API/)
  await writeFile(file, JSON.stringify({ payment: { label: 'Pay' } }))
  const wrong = await runClients('resources', 'types', uri, file)
  t.is(wrong.code, 2)
  t.regex(wrong.stderr, /invalid at payment\.members/)
  t.is(done(t, await runClients('resources', 'remove', uri)), `Removed ${uri}.\n`)
  failsPlainly(t, await runClients('resources', 'remove', uri), /There is no API/)
})
const keysDatabase = useTestDatabase(test)
const secret = 'the secret of the installation of this file'

const runKeys = (args: string[], env: Record<string, string> = {}) =>
  holdfast(
    {
      cwd,
      env: {
        DATABASE_URL: keysDatabase.url,
        HOLDFAST_LOG_LEVEL: 'warn',
        HOLDFAST_SECRET: secret,
        ...env,
      },
    },
    args,
  )

function failsInLine(t: ExecutionContext, { code, stdout, stderr }: Finished, sentence: RegExp) {
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
  JSON.parse(done(t, await runKeys(['keys', 'list', '--json'], env)))

test.serial('lists a key for each purpose', async (t) => {
  done(t, await runKeys(['migrate']))
  const listed = await list(t)
  t.deepEqual(
    listed.map(({ purpose, state }) => `${purpose} ${state}`),
    keyPurposes.map((purpose) => `${purpose} signing`),
  )
  const table = done(t, await runKeys(['keys', 'list']))
  t.regex(table, /^Purpose +Key +State +Signs from +Signs until +Ends\n/)
  for (const { kid } of listed) t.true(table.includes(kid))
  t.false(/"[dk]":|private|jwe/.test(JSON.stringify(listed)))
})

test.serial('rotates what is named, or all', async (t) => {
  const [next, ...others] = JSON.parse(
    done(t, await runKeys(['keys', 'rotate', 'ES256', '--json'])),
  ) as Listed[]
  t.like(next, { purpose: 'ES256', state: 'published' })
  t.deepEqual(others, [])
  const table = done(t, await runKeys(['keys', 'rotate']))
  t.regex(table, /^Purpose +New key +Signs from\n/)
  t.true(table.includes(next?.kid ?? ''))
  t.is((await list(t)).filter(({ state }) => state === 'published').length, 8)
})

test.serial('publishes a key for as long as it is configured', async (t) => {
  await query(
    keysDatabase.url,
    "delete from signing_keys where signs_from > now() and purpose = 'EdDSA'",
  )
  const hours = { HOLDFAST_KEY_PUBLISH_HOURS: '48' }
  const [next] = JSON.parse(
    done(t, await runKeys(['keys', 'rotate', 'EdDSA', '--json'], hours)),
  ) as [Listed & { createdAt: string }]
  t.is(Date.parse(next.signsFrom) - Date.parse(next.createdAt), 48 * 3_600_000)
})

test.serial('retires a key on schedule, or now, and says what follows', async (t) => {
  const of = async (purpose: string) =>
    (await list(t)).filter((key) => key.purpose === purpose).map(({ kid }) => kid)
  const [cookie = '', next] = await of('cookie')
  t.regex(
    done(t, await runKeys(['keys', 'retire', cookie])),
    /will be retired once everything it signed has expired\.\n\n {2}Next key +\S+\n {2}Signs until +\d{4}-.*Z\n {2}Ends +\d{4}-.*Z\n$/,
  )
  const stdout = done(t, await runKeys(['keys', 'retire', cookie, '--now']))
  t.regex(stdout, new RegExp(`^Retired ${cookie}\\.\\n\\n +Next key +${next}\\n`))
  t.regex(stdout, /must sign in again/)
  failsInLine(
    t,
    await runKeys(['keys', 'retire', 'nobody']),
    /^holdfast: There is no key nobody\.$/m,
  )
})

test.serial('every change is in the audit trail, with who made it', async (t) => {
  const lines = done(t, await runKeys(['audit', '--json']))
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
  await query(keysDatabase.url, 'update signing_keys set jwe = $1 where kid = $2', ['damaged', kid])
  const words = new RegExp(`The key ${kid} .* holdfast keys retire ${kid} --now\\.$`, 'm')
  failsInLine(t, await runKeys(['serve']), words)
  t.regex(done(t, await runKeys(['keys', 'list'])), new RegExp(`${kid} +signing, unreadable`))
  done(t, await runKeys(['keys', 'retire', kid, '--now']))
  done(t, await runKeys(['accounts', 'list']))
})

test.serial('another secret changes nothing', async (t) => {
  const before = await list(t)
  const env = { HOLDFAST_SECRET: 'a secret that this database never had' }
  for (const args of [['keys', 'rotate'], ['keys', 'list'], ['serve']]) {
    failsInLine(
      t,
      await runKeys(args, env),
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
    (await query(keysDatabase.url, 'select jwe from signing_keys where retired_at is null')).map(
      ({ jwe }) => jwe,
    )
  const old = new Set(await envelopes())
  const server = await serve({
    cwd,
    env: {
      DATABASE_URL: keysDatabase.url,
      HOLDFAST_TLS: 'off',
      HOLDFAST_PORT: String(await freePort()),
      HOLDFAST_LOG_LEVEL: 'silent',
      ...both,
    },
  })
  await until(async () => !(await envelopes()).some((jwe) => old.has(jwe)))
  await server.end('SIGTERM')
  t.deepEqual(await list(t, env), before)
  failsInLine(t, await runKeys(['keys', 'list']), /under another secret/)
})
const tokensDatabase = useTestDatabase(test)

const runTokens = (...args: string[]) =>
  holdfast(
    {
      cwd,
      env: {
        DATABASE_URL: tokensDatabase.url,
        HOLDFAST_SECRET: 'a secret of at least 32 characters',
      },
    },
    ['registration-tokens', ...args],
  )

test.serial('has no tokens, and says how to make one', async (t) => {
  t.regex(done(t, await runTokens('list')), /^There are no .*holdfast registration-tokens add NAME/)
})

test.serial('makes a token that is shown once, and says what it allows', async (t) => {
  const stdout = done(t, await runTokens('add', 'Shop team', '--redirect-host', 'shop.example.com'))
  t.regex(stdout, /^Generated a registration token for Shop team\.\n/)
  t.regex(stdout, /^ {2}Token +[\w-]{43} {2}\(shown this once\)$/m)
  t.regex(stdout, /^ {2}Tokens +dpop mtls token-binding$/m)
  t.regex(stdout, /^ {2}Redirects +shop\.example\.com$/m)
  const token = /^ {2}Token +(\S+)/m.exec(stdout)?.[1] ?? ''
  const list = done(t, await runTokens('list'))
  t.regex(list, /Shop team +1 of 1/)
  t.false(list.includes(token))
})

test.serial('creates an invitation that is shown once, lists and revokes it', async (t) => {
  const env = { DATABASE_URL: tokensDatabase.url, HOLDFAST_SECRET: issuedSecret }
  const invitations = (...args: string[]) => holdfast({ cwd, env }, ['invitations', ...args])
  t.regex(done(t, await invitations('list')), /^There are no .*holdfast invitations create NAME/)
  const options = ['--group', 'students', 'crew', '--uses', '30', '--expires', '14d']
  const stdout = done(t, await invitations('create', 'Spring course', ...options))
  t.regex(stdout, /^Created an invitation for Spring course\.\n/)
  t.regex(stdout, /^ {2}Code +[\da-z-]{27} {2}\(shown this once\)$/m)
  t.regex(stdout, /^ {2}Link +https:\/\/localhost:9443\/sign-up\?code=[\da-z-]{27}$/m)
  t.regex(stdout, /^ {2}Groups +students, crew$/m)
  const [, code = ''] = /^ {2}Code +(\S+)/m.exec(stdout) ?? []
  const list = done(t, await invitations('list'))
  t.regex(list, /Spring course +30 of 30 .* students, crew/)
  t.false(list.includes(code))
  const [listed] = JSON.parse(done(t, await invitations('list', '--json')))
  t.is(done(t, await invitations('revoke', listed.id)), `Revoked ${listed.id}.\n`)
  const again = await invitations('revoke', listed.id)
  t.is(again.code, 1)
  t.regex(again.stderr, /^holdfast: There is no invitation/)
})

test.serial('says that a bearer token is one', async (t) => {
  const stdout = done(t, await runTokens('add', 'open', '--bearer', '--binding', 'dpop', 'bearer'))
  t.regex(stdout, /^ {2}Key +none: bearer$/m)
  t.regex(stdout, /^ {2}Tokens +dpop bearer$/m)
})

test.serial('says that clients of a conformant token are bearer clients', async (t) => {
  const stdout = done(t, await runTokens('add', 'suite', '--conformant'))
  t.regex(stdout, /^ {2}Tokens +dpop mtls token-binding bearer$/m)
  t.regex(stdout, /^ {2}Unless named +bearer \(conformant\)$/m)
  t.regex(done(t, await runTokens('list')), /suite .* none: bearer, conformant/)
})

test.serial('makes and removes a token, as JSON', async (t) => {
  const made = JSON.parse(
    done(t, await runTokens('add', 'fleet', '--uses', '500', '--expires', '30d', '--json')),
  )
  t.like(made, { name: 'fleet', uses: 500, usesLeft: 500, bearer: false, jkt: null })
  const lifetime = Date.parse(made.expiresAt) - Date.parse(made.createdAt)
  t.true(Math.abs(lifetime - 30 * 24 * 60 * 60 * 1000) < 60_000)
  t.is(done(t, await runTokens('remove', made.id)), `Removed ${made.id}.\n`)
  const again = await runTokens('remove', made.id)
  t.is(again.code, 1)
  t.regex(again.stderr, /^holdfast: There is no registration token/)
})

for (const [title, args, words] of [
  ['a malformed key', ['--key', 'abc'], /jkt: must be a thumbprint/],
  ['a bearer token of a key', ['--bearer', '--key', `${'x'.repeat(42)}A`], /choose one/],
  ['a malformed scope', ['--scope', 'a"b'], /must be a scope/],
  ['a scope of no API', ['--scope', 'openid', 'mcp:tools'], /mcp:tools is not a scope of/],
  ['a URL as a host', ['--redirect-host', 'https://a.example'], /must be a host/],
] as const) {
  test.serial(`makes no token for ${title}`, async (t) => {
    const { code, stdout, stderr } = await runTokens('add', 'x', ...args)
    t.is(code, 2)
    t.is(stdout, '')
    t.regex(stderr, words)
  })
}

const issuedSecret = 'a secret of at least 32 characters'
const server = useTestServer(test, { HOLDFAST_SECRET: issuedSecret })

const runBeside = (...args: string[]) =>
  holdfast({ cwd, env: { DATABASE_URL: server.databaseUrl, HOLDFAST_SECRET: issuedSecret } }, args)

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
  const list = JSON.parse(
    done(t, await runBeside('sessions', 'list', '--account', email, '--json')),
  )
  const session = list.find(({ clients }: { clients: string[] }) => clients.includes(of(client)))
  t.is(session.binding, null)
  t.is(session.address, '127.0.0.1')
  t.is(session.email, email)
  const text = done(t, await runBeside('sessions', 'list'))
  t.regex(text, /^Session +Account +Since +Until +Bound by +Address +Clients$/m)
  t.regex(text, new RegExp(`^${session.id} +${email} +\\S{17} +\\S{17} +127`, 'm'))

  t.is(done(t, await runBeside('sessions', 'end', session.id)), `Ended ${session.id}.\n`)
  t.is((await refresh()).body.error, 'invalid_grant')
  t.false(done(t, await runBeside('sessions', 'list')).includes(session.id))
  const again = await runBeside('sessions', 'end', session.id)
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
  t.is(done(t, await runBeside('sessions', 'end', id)), `Ended ${id}.\n`)
  const { stdout } = await runBeside('sessions', 'end', id, '--json')
  t.is(stdout, '')
})

test.serial('lists grants, and ends the tokens of one', async (t) => {
  const { client, refresh } = await signIn()
  const args = ['tokens', 'list', '--client', of(client)]
  const [grant, ...more] = JSON.parse(done(t, await runBeside(...args, '--json')))
  t.deepEqual(more, [])
  t.is(grant.email, email)
  t.regex(done(t, await runBeside(...args)), new RegExp(`^${grant.id} +${email} .* openid$`, 'm'))
  t.is(done(t, await runBeside('tokens', 'revoke', grant.id)), `Revoked ${grant.id}.\n`)
  t.is((await refresh()).body.error, 'invalid_grant')
  t.is((await runBeside('tokens', 'revoke', grant.id)).code, 1)
})

test.serial('signs a person out everywhere, and ends their tokens', async (t) => {
  const { refresh } = await signIn({ scope: 'openid offline_access', prompt: 'consent' })
  const answer = JSON.parse(
    done(t, await runBeside('accounts', 'sign-out', email, '--tokens', '--json')),
  )
  t.is(answer.email, email)
  t.true(answer.ended >= 1 && answer.revoked >= 1)
  t.is((await refresh()).body.error, 'invalid_grant')
})

test.serial('reads the audit trail, as text and one JSON object a line', async (t) => {
  const { client } = await signIn()
  await server.flushAudit()
  const args = ['audit', '--client', of(client)]
  const rows = done(t, await runBeside(...args, '--json'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  t.true(rows.some(({ event }) => event === 'tokens.issued'))
  t.true(rows.every((row) => row.client === of(client)))
  const text = done(t, await runBeside(...args, '--event', 'tokens.issued'))
  t.regex(text, /^\d{4}-\S+ +tokens\.issued +.*client=/)
  t.is(text.trim().split('\n').length, 1)
})

test.serial('exports the audit trail, and verifies that the file is unchanged', async (t) => {
  const file = path.join(cwd, 'audit.jsonl')
  await server.storage.audit.append([
    { at: new Date(Date.now() - 600_000), event: 'key.resealed', details: { exported: true } },
  ])
  const soon = new Date().toISOString()
  const times = ['--from', '2001-01-01', '--to', new Date(Date.now() - 120_000).toISOString()]
  t.is((await runBeside('audit', 'export', file, '--from', '2001-01-01', '--to', soon)).code, 2)
  const { events, kid } = JSON.parse(
    done(t, await runBeside('audit', 'export', file, ...times, '--json')),
  )
  const lines = (await readFile(file, 'utf8')).trim().split('\n')
  t.is(lines.length, events)
  t.true(lines.some((line) => JSON.parse(line).details.exported === true))
  t.is((await runBeside('audit', 'export', file, ...times)).code, 1)
  t.regex(done(t, await runBeside('audit', 'verify', file)), /^Unchanged: \d+ events /)
  done(t, await runBeside('audit', 'verify', file, '--kid', kid))
  t.regex((await runBeside('audit', 'verify', file, '--kid', 'other')).stderr, /is not one of this/)
  const signature = await readFile(`${file}.jws`, 'utf8')
  const [header = '', payload = '', ...rest] = signature.split('.')
  const less = Buffer.from(payload, 'base64url')
    .toString()
    .replace(/"events":\d+/, '"events":0')
  const forged = [header, Buffer.from(less).toString('base64url'), ...rest].join('.')
  await writeFile(`${file}.jws`, forged)
  t.regex((await runBeside('audit', 'verify', file)).stderr, /signature in .* is not valid/)
  await writeFile(`${file}.jws`, signature)
  await writeFile(file, (await readFile(file, 'utf8')).replace('true', 'fals'))
  t.regex((await runBeside('audit', 'verify', file)).stderr, /differs from what was signed/)
})

test.serial(
  'an account has an id and an email, and the audit trail is found by either',
  async (t) => {
    await signIn()
    await server.flushAudit()
    const [account] = JSON.parse(done(t, await runBeside('accounts', 'list', '--json')))
    const byId = done(t, await runBeside('audit', '--account', account.id))
    t.regex(byId, /login\.succeeded/)
    t.is(done(t, await runBeside('audit', '--account', email)), byId)
    const nobody = await runBeside('audit', '--account', 'nobody@example.com')
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
  const text = done(t, await runBeside('audit', '--event', 'client_crl.expired'))
  t.regex(text, /client=a\ufffd\[2Jb\ufffdc/)
  t.notRegex(text.trimEnd(), /\p{Cc}/u)
})

test.serial('audit names an event whose id is beyond 2^53', async (t) => {
  await query(
    server.databaseUrl,
    `insert into audit_events (id, at, event, details) overriding system value
     values (9007199254740993, now(), 'key.removed', '{}')`,
  )
  const { code, stderr } = await runBeside('audit', '--event', 'key.removed')
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
  const environment = {
    cwd,
    env: { DATABASE_URL: server.databaseUrl, HOLDFAST_SECRET: issuedSecret },
  }
  const child = start(environment, ['audit', '--event', 'key.resealed', '--follow'])
  const ended = once(child, 'exit')
  child.stdout?.once('data', () => child.stdout?.destroy())
  t.deepEqual(await ended, [0, null])
})

for (const time of ['5', 'yesterday', '2026-13-01', '31.12.2026', '2026-01-31T12:00']) {
  test.serial(`rejects --since ${time}`, async (t) => {
    const { code, stdout, stderr } = await runBeside('audit', '--since', time)
    t.is(code, 2)
    t.is(stdout, '')
    t.is(
      stderr,
      `holdfast: --since ${time} is no time such as 2026-01-31 or 2026-01-31T12:00:00Z.\n`,
    )
  })
}

test('names a user without a name by number', (t) => {
  const nameless = () => {
    throw new Error('ENOENT: no such file or directory, uv_os_get_passwd')
  }
  t.is(actorOfCommand(nameless), `command line of user ${process.getuid?.()}`)
})
const proof = (...args: string[]) => holdfast({ cwd, env: {} }, ['proof', ...args])

test('makes a key file and a proof by it, and uses the file again', async (t) => {
  const key = path.join(cwd, 'key.jwk')
  const first = await proof('--key', key, '--new-key', 'post', 'https://id.example/token?a=b#c')
  t.is(first.stderr, '')
  t.is((await stat(key)).mode & 0o777, 0o600)
  const { payload } = await jwtVerify(first.stdout.trim(), EmbeddedJWK, { typ: 'dpop+jwt' })
  t.like(payload, { htm: 'POST', htu: 'https://id.example/token' })
  t.false('ath' in payload || 'nonce' in payload)

  const args = ['--nonce', 'n', '--token', 'the token', '--json', 'GET', 'https://api.example/x']
  const { stdout } = await proof('--key', key, ...args)
  const second = JSON.parse(stdout)
  const jwk = decodeProtectedHeader(second.proof).jwk as JWK
  t.deepEqual(jwk, decodeProtectedHeader(first.stdout.trim()).jwk)
  t.false('d' in jwk)
  t.is(second.jkt, await calculateJwkThumbprint(jwk))
  const verified = await jwtVerify(second.proof, EmbeddedJWK)
  t.like(verified.payload, { nonce: 'n', ath: hash('sha256', 'the token', 'base64url') })

  const again = await proof('--key', key, '--new-key', 'GET', 'https://api.example/x')
  t.is(again.code, 1)
  t.is(again.stderr, `holdfast: ${key} exists. Leave out --new-key to use it.\n`)
})

test('rejects a file that is missing or has no private key, without quoting it', async (t) => {
  const file = path.join(cwd, 'other.jwk')
  const refused = async (reason: RegExp) => {
    const { code, stderr } = await proof('--key', file, 'GET', 'https://api.example/x')
    t.is(code, 1)
    t.regex(stderr, reason)
  }
  await refused(/does not exist\. --new-key makes it\.$/m)
  await writeFile(file, 'a secret, and not JSON')
  await refused(/^holdfast: \S+ is not a private JWK of the curve P-256 \(kty, crv, x, y, d\)\.$/m)
  await writeFile(file, '{"kty":"EC","crv":"P-256","x":"a","y":"b"}')
  await refused(/is not a private JWK/)
})
