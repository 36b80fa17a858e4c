import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import test, { type ExecutionContext } from 'ava'
import { parseConfig } from '../src/config/config.ts'
import { freePort } from '../src/net/free-port.ts'
import { createLog } from '../src/observability/log.ts'
import { startServer } from '../src/server.ts'
import { openStorage } from '../src/storage/open-storage.ts'
import { createPerson, newKey, obtainCode, post, refreshing } from './support/flow.ts'
import { startTestServer, type TestServer } from './support/server.ts'
import { startSystemPostgres, testWithPostgres } from './support/system-postgres.ts'

const run = promisify(execFile)

interface Places {
  readonly kept: Record<string, string>
  readonly restored: Record<string, string>
}

/** Issues a refresh token, makes `restored` of `kept`, and goes on there with that token. */
async function survives(t: ExecutionContext, places: Places, restore: () => Promise<unknown>) {
  const environment = {
    HOLDFAST_PORT: String(await freePort()),
    HOLDFAST_SECRET: 'the secret of this installation, which is no part of a dump',
    HOLDFAST_TLS: 'off',
  }
  const key = await newKey()
  const before = await startTestServer({ ...environment, ...places.kept })
  const client = await before.addClient()
  const { exchange } = await obtainCode(createPerson(before), client)
  const { body: tokens } = await post(before, '/token', exchange, { key })
  const keysBefore = await keysOf(before)
  await before[Symbol.asyncDispose]()

  await restore()

  const config = parseConfig({ ...environment, ...places.restored })
  await using storage = await openStorage({ ...config, onError: () => {} })
  await using after = await startServer(config, storage, createLog('silent'))
  const server = after as TestServer
  t.deepEqual(await keysOf(server), keysBefore)
  const refresh = refreshing(client, tokens.refresh_token)
  t.is((await post(server, '/token', refresh, { key })).status, 200)
  t.is((await post(server, '/token', refresh, { key: await newKey() })).status, 400)
  const events = await storage.audit.list({ client: client.client_id, limit: 10 })
  t.true(events.some(({ event }) => event === 'login.succeeded'))
}

async function keysOf({ issuer }: Pick<TestServer, 'issuer'>): Promise<unknown> {
  return (await fetch(`${issuer}/jwks`)).json()
}

async function temporaryFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-backup-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

test('restores tokens, keys and events from a copy of the data folder', async (t) => {
  const folder = await temporaryFolder(t)
  const [kept, restored] = [path.join(folder, 'kept'), path.join(folder, 'restored')]
  const places = {
    kept: { DATABASE_URL: '', HOLDFAST_DATA: kept },
    restored: { HOLDFAST_DATA: restored },
  }
  await survives(t, places, async () => {
    await run('cp', ['-a', kept, restored])
    await rm(kept, { recursive: true })
  })
})

testWithPostgres(test)('a dump is a backup: tokens, keys and events go on', async (t) => {
  await using postgres = await startSystemPostgres()
  const [kept, restored] = [postgres.url('kept'), postgres.url('restored')]
  await postgres.run('createdb', `--maintenance-db=${postgres.url('postgres')}`, 'kept')
  const folder = await temporaryFolder(t)
  const places = {
    kept: { DATABASE_URL: kept },
    restored: { DATABASE_URL: restored, HOLDFAST_DATA: folder },
  }
  await survives(t, places, async () => {
    await postgres.run('pg_dump', '--format=custom', '--file=dump', kept)
    await postgres.run('createdb', `--maintenance-db=${postgres.url('postgres')}`, 'restored')
    await postgres.run('pg_restore', '--exit-on-error', `--dbname=${restored}`, 'dump')
    await postgres.run('dropdb', `--maintenance-db=${postgres.url('postgres')}`, 'kept')
  })
})
