import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'
import { parseConfig } from '../src/config/config.ts'
import { freePort } from '../src/http/free-port.ts'
import { createLog } from '../src/observability/log.ts'
import { startServer } from '../src/server.ts'
import { openStorage } from '../src/storage/open-storage.ts'
import { createPerson, newKey, obtainCode, post, refreshing } from './support/flow.ts'
import { startTestServer, type TestServer } from './support/server.ts'

const run = promisify(execFile)

test('a copy of the data folder is a backup: refresh tokens and keys go on', async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-backup-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const [kept, restored] = ['kept', 'restored'].map((name) => path.join(folder, name))
  const environment = {
    DATABASE_URL: '',
    HOLDFAST_PORT: String(await freePort()),
    HOLDFAST_TLS: 'off',
  }
  const key = await newKey()

  const before = await startTestServer({ ...environment, HOLDFAST_DATA: kept ?? '' })
  const client = await before.addClient()
  const { exchange } = await obtainCode(createPerson(before), client)
  const { body: tokens } = await post(before, '/token', exchange, { key })
  const keysBefore = await keysOf(before)
  await before[Symbol.asyncDispose]()

  await run('cp', ['-a', kept ?? '', restored ?? ''])
  await rm(kept ?? '', { recursive: true })

  const config = parseConfig({ ...environment, HOLDFAST_DATA: restored ?? '' })
  await using storage = await openStorage({ ...config, onError: () => {} })
  await using after = await startServer(config, storage, createLog('silent'))
  const server = after as TestServer
  t.deepEqual(await keysOf(server), keysBefore)
  const { status, body } = await post(
    server,
    '/token',
    refreshing(client, tokens.refresh_token),
    { key },
  )
  t.is(status, 200)
  t.truthy(body.refresh_token)
})

async function keysOf({ issuer }: Pick<TestServer, 'issuer'>): Promise<unknown> {
  return (await fetch(`${issuer}/jwks`)).json()
}
