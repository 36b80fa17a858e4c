import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { exportJWK, generateKeyPair } from 'jose'
import { matchesSecret } from '../../src/clients/client-secret.ts'
import { createClientTable } from '../../src/storage/client-table.ts'
import { openDatabase } from '../../src/storage/database.ts'
import { type Finished, useCommandLine } from '../support/cli.ts'
import { useTestDatabase } from '../support/database.ts'
import { useFolder } from '../support/folder.ts'

const holdfast = useCommandLine(test)
const cwd = useFolder(test)
const database = useTestDatabase(test)
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
const run = (...args: string[]) => runWith({}, ...args)

function done(t: ExecutionContext, { code, stdout, stderr }: Finished): string {
  t.is(stderr, '')
  t.is(code, 0)
  return stdout
}

function failed(t: ExecutionContext, { code, stdout, stderr }: Finished, sentence: RegExp) {
  t.regex(stderr, sentence)
  t.regex(stderr, /^holdfast: [^\n]*\.\n$/)
  t.is(stdout, '')
  t.is(code, 1)
}

async function add(t: ExecutionContext, ...args: string[]) {
  return JSON.parse(done(t, await run('clients', 'add', '--json', ...args)))
}

async function stored(id: string) {
  await using open = await openDatabase(database.url, { onError: () => {} })
  return await createClientTable(open).find(id)
}

test.serial('has no clients, and says how to add one', async (t) => {
  t.regex(done(t, await run('clients', 'list')), /^There are no clients\. .*holdfast clients add/)
})

test.serial('adds a client whose tokens are bound and that has a secret', async (t) => {
  const stdout = done(t, await run('clients', 'add', 'shop', ...redirect, '--name', 'Shop'))
  t.regex(stdout, /^Registered shop\.\n/)
  t.regex(stdout, /^ {2}Tokens +bound by dpop$/m)
  t.regex(stdout, /^ {2}Grants +authorization_code refresh_token$/m)
  t.regex(stdout, /^ {2}Authenticates by +client_secret_basic$/m)
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
  const stdout = done(t, await run('clients', 'renew-secret', 'shop'))
  const [, secret = ''] =
    /^Generated a new secret for shop\.\n\n {2}Secret {2}(\S{43}) {2}\(shown this once\)\n$/.exec(
      stdout,
    ) ?? []
  const metadata = await stored('shop')
  t.not(metadata?.client_secret, before)
  t.true(matchesSecret(secret, metadata?.client_secret))
  failed(t, await run('clients', 'renew-secret', 'nobody'), /There is no client nobody/)
})

test.serial('changes a client by a file, as it is shown', async (t) => {
  const file = path.join(cwd, 'shop.json')
  const shown = JSON.parse(done(t, await run('clients', 'show', 'shop', '--json')))
  await writeFile(file, JSON.stringify({ ...shown, contacts: ['shop@example.com'] }))
  const stdout = done(t, await run('clients', 'change', 'shop', '--metadata', file))
  t.regex(stdout, /^Changed shop\.\n\n {2}Tokens +bound by dpop\n/)
  t.false(stdout.includes('Secret'))
  t.deepEqual((await stored('shop'))?.contacts, ['shop@example.com'])
  t.regex((await stored('shop'))?.client_secret ?? '', /^sha256:/)
  const nobody = await run('clients', 'change', 'nobody', '--metadata', file)
  failed(t, nobody, /There is no client nobody/)
})

test.serial('makes a client_id', async (t) => {
  const { client_id } = await add(t, ...redirect)
  t.regex(client_id, /^[0-9a-f-]{36}$/)
})

test.serial('does not add a client twice', async (t) => {
  failed(t, await run('clients', 'add', 'shop', ...redirect), /The client_id shop is taken/)
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

test.serial('adds a client that authenticates by a key at a URL', async (t) => {
  const uri = 'https://app.example.com/jwks'
  const metadata = await add(t, 'remote', '--auth', 'private_key_jwt', '--jwks-uri', uri)
  t.is(metadata.jwks_uri, uri)
})

test.serial('binds nothing to certificates on a server that none can reach', async (t) => {
  const { code, stderr } = await run('clients', 'add', 'x', '--binding', 'mtls', ...redirect)
  t.is(code, 1)
  t.regex(stderr, /HOLDFAST_MTLS_PORT/)
})

test.serial('adds a device where the device flow is on, and says so where it is off', async (t) => {
  const grant = ['--auth', 'none', '--grant', 'urn:ietf:params:oauth:grant-type:device_code']
  failed(t, await run('clients', 'add', 'tv', ...grant), /needs HOLDFAST_DEVICE_FLOW=on/)
  const { code } = await runWith({ HOLDFAST_DEVICE_FLOW: 'on' }, 'clients', 'add', 'tv', ...grant)
  t.is(code, 0)
  t.deepEqual((await stored('tv'))?.response_types, [])
})

test.serial('wants to know what kind of name a certificate has', async (t) => {
  const { code, stderr } = await run('clients', 'add', 'x', '--certificate-name', 'app.example')
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
  const added = done(t, await run('clients', 'add', 'legacy', ...redirect, '--binding', 'bearer'))
  t.regex(added, /^ {2}Tokens +BEARER, not bound$/m)
  t.regex(done(t, await run('clients', 'list')), /^legacy +BEARER, not bound /m)
  t.regex(done(t, await run('clients', 'show', 'legacy')), /^binding_method +BEARER/m)
})

test.serial('lists clients in columns', async (t) => {
  const [head, ...lines] = done(t, await run('clients', 'list'))
    .trimEnd()
    .split('\n')
  t.regex(head ?? '', /^Client +Name +Tokens +Authenticates by +Grants +Registered by$/)
  t.regex(lines[0] ?? '', /^shop +Shop +bound by dpop +client_secret_basic +authorization_code/)
  const column = head?.indexOf('Tokens') ?? 0
  for (const line of lines) t.regex(line.slice(column), /^(bound by|BEARER)/)
})

test.serial('shows no secret, not even its digest', async (t) => {
  for (const args of [['show', 'shop'], ['show', 'shop', '--json'], ['list', '--json'], ['list']]) {
    const stdout = done(t, await run('clients', ...args))
    t.true(stdout.includes('shop'))
    t.notRegex(stdout, /sha256:|"client_secret"/)
  }
})

test.serial('removes a client, once', async (t) => {
  t.is(done(t, await run('clients', 'remove', 'legacy')), 'Removed legacy.\n')
  t.is(await stored('legacy'), undefined)
  failed(t, await run('clients', 'remove', 'legacy'), /There is no client legacy/)
  failed(t, await run('clients', 'show', 'legacy'), /There is no client legacy/)
})

test.serial('registers nothing that contradicts itself', async (t) => {
  const file = path.join(cwd, 'broken.json')
  await writeFile(file, JSON.stringify({ client_id: 'broken', redirect_uris: ['nowhere'] }))
  const result = await run('clients', 'add', '--metadata', file)
  failed(t, result, /The client cannot be registered: redirect_uris/)
  t.is(await stored('broken'), undefined)
})

test.serial('says what is wrong with a file', async (t) => {
  const missing = path.join(cwd, 'missing.json')
  failed(t, await run('clients', 'add', '--metadata', missing), /missing\.json cannot be read/)
  const list = path.join(cwd, 'list.json')
  await writeFile(list, '[]')
  failed(t, await run('clients', 'add', '--metadata', list), /does not hold a JSON object/)
  await writeFile(list, 'a private key, perhaps')
  const result = await run('clients', 'add', '--jwks', list)
  failed(t, result, /list\.json does not hold a JSON object/)
  t.false(result.stderr.includes('private'))
})

test.serial('adds, lists and removes an API', async (t) => {
  t.regex(done(t, await run('resources', 'list')), /^There are no APIs\. .*holdfast resources add/)
  const uri = 'https://api.example.com'
  const label = ['--scope-label', 'read=See your orders']
  const add = ['resources', 'add', uri, '--scope', 'read', 'write', ...label, '--name', 'Orders']
  t.is(
    done(t, await run(...add)),
    `Registered ${uri}.\n\n  Scopes     read write\n  Signed by  ES256\n`,
  )
  failed(t, await run(...add), /is registered already/)
  t.regex(
    done(t, await run('resources', 'list')),
    /^https:\/\/api\.example\.com +Orders +read write +ES256$/m,
  )
  t.deepEqual(JSON.parse(done(t, await run('resources', 'list', '--json'))), [
    {
      identifier: uri,
      name: 'Orders',
      scopes: ['read', 'write'],
      scopeLabels: { read: 'See your orders' },
      signingAlg: 'ES256',
    },
  ])
  t.is(done(t, await run('resources', 'remove', uri)), `Removed ${uri}.\n`)
  failed(t, await run('resources', 'remove', uri), /There is no API/)
})
