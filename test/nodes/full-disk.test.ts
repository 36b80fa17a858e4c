// A PostgreSQL whose disk is full, and one that has space again.
import { appendFile, rm } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import { createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { createRecorder } from '../support/history.ts'
import { startTestServer } from '../support/server.ts'
import { canMountDisk, startSystemPostgres, testWithPostgres } from '../support/system-postgres.ts'
import { until } from '../support/until.ts'

const nodesTest = testWithPostgres(test)
const run = nodesTest === test && !canMountDisk() ? test.skip : nodesTest

/** Takes all the space that there is. */
async function fill(file: string): Promise<void> {
  for (const size of [1_048_576, 4_096]) {
    const part = Buffer.alloc(size)
    const fits = () =>
      appendFile(file, part).then(
        () => true,
        () => false,
      )
    while (await fits());
  }
}

run('is not ready while the disk is full, loses nothing, and is ready again', async (t) => {
  await using opened = new AsyncDisposableStack()
  const postgres = opened.use(await startSystemPostgres({ diskMb: 128 }))
  const server = opened.use(await startTestServer({ DATABASE_URL: postgres.url('postgres') }))
  const [client, key] = [await server.addClient(), await newKey()]
  const asked = { scope: 'openid offline_access', prompt: 'consent' }
  const history = createRecorder({ graceS: 0 })
  const fetch = history.watch()
  const { exchange } = await obtainCode(createPerson(server, { fetch }), client, asked)
  let token = (await post(server, '/token', exchange, { key, fetch })).body.refresh_token
  const refresh = async () => {
    const { status, body } = await post(server, '/token', refreshing(client, token), { key, fetch })
    token = body.refresh_token ?? token
    return status
  }
  const readiness = async () => {
    const answer = await fetch(`${server.issuer}/readyz`)
    const { reason } = (await answer.json()) as { reason?: string }
    return { status: answer.status, reason }
  }
  t.is(await refresh(), 200)

  const filler = path.join(postgres.folder, 'filler')
  await fill(filler)
  // What still fits into the pages that are there is stored, and answered.
  await until(async () => (await refresh()) === 503)
  t.deepEqual(await readiness(), { status: 503, reason: 'the disk of the database is full' })

  await rm(filler)
  await until(async () => (await readiness()).status === 200)
  t.is(await refresh(), 200, 'a refusal has used nothing up, and no answer was lost')
  const asking = { token, client_id: String(client.client_id) }
  t.true((await post(server, '/introspect', asking, { fetch })).body.active)
  t.deepEqual(history.judge(), [])
})
