import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
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
