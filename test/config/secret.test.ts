import { execFile } from 'node:child_process'
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'
import { ConfigError, parseConfig } from '../../src/config/config.ts'
import {
  encryptionKeyOf,
  firstSecretOf,
  installationSecrets,
  readOrMakeSecret,
} from '../../src/config/secret.ts'
import { SecretError } from '../../src/config/secret-error.ts'
import { useFolder } from '../support/folder.ts'

const folder = useFolder(test)

let folders = 0
/** A data folder that is not there yet. */
function dataFolder() {
  folders += 1
  return path.join(folder, String(folders), 'data')
}

test('makes the data folder and a secret of 256 bits at first start', async (t) => {
  const secret = await readOrMakeSecret(dataFolder())
  t.is(Buffer.from(secret, 'base64url').length, 32)
})

test('makes another secret for another data folder', async (t) => {
  t.not(await readOrMakeSecret(dataFolder()), await readOrMakeSecret(dataFolder()))
})

test('reads the secret back at the next start', async (t) => {
  const data = dataFolder()
  t.is(await readOrMakeSecret(data), await readOrMakeSecret(data))
})

test('lets nobody else read the secret, and leaves no other file', async (t) => {
  const data = dataFolder()
  await readOrMakeSecret(data)
  t.deepEqual(await readdir(data), ['secret'])
  if (process.platform !== 'win32') {
    t.is((await stat(path.join(data, 'secret'))).mode & 0o777, 0o600)
  }
})

test('gives many first starts at once the same whole secret', async (t) => {
  for (let round = 0; round < 20; round += 1) {
    const data = dataFolder()
    const secrets = await Promise.all(Array.from({ length: 16 }, () => readOrMakeSecret(data)))
    t.is(new Set(secrets).size, 1)
    t.is(secrets[0], (await readFile(path.join(data, 'secret'), 'utf8')).trim())
    t.is(secrets[0]?.length, 43)
  }
})

test('refuses a secret file that a crash has left empty', async (t) => {
  const data = dataFolder()
  await readOrMakeSecret(data)
  await writeFile(path.join(data, 'secret'), '\n')
  const error = await t.throwsAsync(readOrMakeSecret(data), { instanceOf: SecretError })
  t.is(error?.code, 'data_folder_unusable')
})

test('says that a data folder below a file cannot be used', async (t) => {
  const file = path.join(folder, 'a-file')
  await writeFile(file, '')
  const error = await t.throwsAsync(readOrMakeSecret(path.join(file, 'data')), {
    instanceOf: SecretError,
  })
  t.is(error?.code, 'data_folder_unusable')
  t.regex(error?.message ?? '', /HOLDFAST_DATA/)
})

test('derives a key for each purpose, and none is another', (t) => {
  const keys = [
    encryptionKeyOf('one secret'),
    ...['cookie', 'form-token'].map((purpose) => firstSecretOf('one secret', purpose)),
  ].map((key) => key.toString('hex'))
  t.is(new Set(keys).size, 3)
  for (const key of keys) t.is(key.length, 64)
})

test('derives the same keys from the same secret, and others from another', (t) => {
  t.deepEqual(encryptionKeyOf('one secret'), encryptionKeyOf('one secret'))
  t.notDeepEqual(encryptionKeyOf('one secret'), encryptionKeyOf('another secret'))
})

test('the secret of the installation comes before the one it had', async (t) => {
  const places = { dataFolder: dataFolder(), secret: 'new', previousSecret: 'old' }
  t.deepEqual(await installationSecrets(places), ['new', 'old'])
  t.deepEqual(await installationSecrets({ ...places, previousSecret: undefined }), ['new'])
  const [made, previous] = await installationSecrets({ ...places, secret: undefined })
  t.is(made, await readOrMakeSecret(places.dataFolder))
  t.is(previous, 'old')
})

const secret = 'a secret of more than thirty-two characters'
const files: Readonly<Record<string, string>> = {
  '/run/secrets/url': 'postgresql://user:pass@db.example/holdfast\n',
  '/run/secrets/secret': `${secret}\n`,
  '/run/secrets/short': 'short',
  '/run/secrets/empty': '\n',
}

const filesReadFile = (file: string) => {
  const text = files[file]
  if (text === undefined) throw Object.assign(new Error('no such file'), { code: 'ENOENT' })
  return text
}

test('secrets come from files, without the end of their line', (t) => {
  const config = parseConfig(
    { DATABASE_URL_FILE: '/run/secrets/url', HOLDFAST_SECRET_FILE: '/run/secrets/secret' },
    { readFile: filesReadFile },
  )
  t.is(config.databaseUrl, 'postgresql://user:pass@db.example/holdfast')
  t.is(config.secret, secret)
})

for (const [title, env, problem] of [
  [
    'both are set',
    { HOLDFAST_SECRET: secret, HOLDFAST_SECRET_FILE: '/run/secrets/secret' },
    /^HOLDFAST_SECRET and HOLDFAST_SECRET_FILE are both set/,
  ],
  [
    'the file is not there',
    { DATABASE_URL_FILE: '/run/secrets/other' },
    /^DATABASE_URL_FILE cannot be read \(ENOENT\)/,
  ],
  [
    'the file is empty',
    { HOLDFAST_SECRET_FILE: '/run/secrets/empty' },
    /^HOLDFAST_SECRET_FILE is empty/,
  ],
  [
    'what it holds is wrong',
    { HOLDFAST_SECRET_FILE: '/run/secrets/short' },
    /^HOLDFAST_SECRET must/,
  ],
  ['the name is misspelt', { HOLDFAST_SECRETS_FILE: '/x' }, /^HOLDFAST_SECRETS_FILE is not/],
] as const) {
  test(`refuses a start when ${title}`, (t) => {
    const error = t.throws(() => parseConfig(env, { readFile: filesReadFile }), {
      instanceOf: ConfigError,
    })
    t.is(error?.problems.length, 1)
    t.regex(error?.problems[0] ?? '', problem)
    t.false(error?.message.includes(secret))
  })
}

const run = promisify(execFile)

const script = `
  import { readConfig } from ${JSON.stringify(new URL('../../src/config/env.ts', import.meta.url))}
  try { console.log(JSON.stringify(readConfig())) } catch (error) { console.log(JSON.stringify(error)) }
`

/** What readConfig returns or throws in a process whose current folder is `cwd`. */
async function read(cwd: string, env: Record<string, string> = {}) {
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script], {
    cwd,
    env: { PATH: process.env.PATH, NODE_OPTIONS: process.env.NODE_OPTIONS, ...env },
  })
  return JSON.parse(stdout)
}

test('does without a file .env', async (t) => {
  const config = await read(folder, { HOLDFAST_PORT: '8001' })
  t.is(config.listen.port, 8001)
})

test('reads .env, and the environment wins', async (t) => {
  const cwd = path.join(folder, 'with-env')
  await mkdir(cwd)
  await writeFile(path.join(cwd, '.env'), 'HOLDFAST_PORT=8002\nHOLDFAST_LOG_LEVEL=warn\n')
  const config = await read(cwd, { HOLDFAST_LOG_LEVEL: 'error' })
  t.is(config.listen.port, 8002)
  t.is(config.logLevel, 'error')
})

test('finds mistakes in .env as in the environment', async (t) => {
  const cwd = path.join(folder, 'with-mistakes')
  await mkdir(cwd)
  await writeFile(path.join(cwd, '.env'), 'HOLDFAST_PROT=8002\n')
  const error = await read(cwd, { HOLDFAST_TLS: 'x' })
  t.is(error.name, 'ConfigError')
  t.deepEqual(
    error.problems.map((text: string) => text.split(' ')[0]),
    ['HOLDFAST_TLS', 'HOLDFAST_PROT'],
  )
})

test('says so when .env cannot be read', async (t) => {
  const cwd = path.join(folder, 'with-folder')
  await mkdir(path.join(cwd, '.env'), { recursive: true })
  const error = await read(cwd)
  t.is(error.name, 'ConfigError')
  t.regex(error.problems[0], /^\.env cannot be read \(\w+\)\.$/)
})
