import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import { runProgram } from '../../packages/gate/program.ts'
import { runGate } from '../../packages/gate/running.ts'
import { openTestDatabase } from '../support/database.ts'
import { useFolder } from '../support/folder.ts'
import { now } from '../support/gate.ts'
import { sendRequest } from '../support/raw-request.ts'
import { accessToken, audience, dpopProof, jwks } from '../support/verify/fixtures.ts'
import { startRedis, withRedis } from '../support/verify/redis.ts'

const folder = useFolder(test)

/** Starts two gates with one store. */
async function startTwo(opened: AsyncDisposableStack, name: string, url: string) {
  const here = path.join(folder, name)
  await mkdir(here)
  await runProgram(['key', path.join(here, 'gate.pem')], { write() {}, writeError() {} })
  const file = path.join(here, 'gate.yaml')
  const settings = {
    listen: { port: 0 },
    replicas: 2,
    replay: { [name]: url },
    issuer: { url: 'https://as.example', jwksUri: 'https://as.example/jwks' },
    signing: { keyFiles: ['gate.pem'] },
    applications: [{ origin: audience, upstream: { url: 'http://127.0.0.1:1' } }],
  }
  await writeFile(file, JSON.stringify(settings))
  const options = { now, fetch: async () => Response.json(jwks) }
  return [
    opened.use(await runGate(file, options)),
    opened.use(await runGate(file, options)),
  ] as const
}

/** The status of a request: 502 where the gate let it through to the application, which is not there. */
async function statusOf({ port }: { port: number }, token: string, proof: string) {
  const headers = [`Authorization: DPoP ${token}`, `DPoP: ${proof}`]
  const answer = await sendRequest(`http://127.0.0.1:${port}`, {
    ...{ target: '/notes', host: 'api.example', headers },
  })
  return answer.status
}

withRedis(test)('two gates with one Redis use a proof up once, and none without it', async (t) => {
  await using opened = new AsyncDisposableStack()
  const redis = opened.use(await startRedis())
  const [first, second] = await startTwo(opened, 'redis', redis.url)
  const token = accessToken()
  const proof = dpopProof(token)
  t.is(await statusOf(first, token, proof), 502)
  t.is(await statusOf(second, token, proof), 401)
  await redis.stop()
  t.is(await statusOf(second, token, dpopProof(token)), 503)
})

test('two gates with one PostgreSQL use a proof up once', async (t) => {
  await using opened = new AsyncDisposableStack()
  const { url } = opened.use(await openTestDatabase())
  const [first, second] = await startTwo(opened, 'postgres', url)
  const token = accessToken()
  const proof = dpopProof(token)
  const statuses = await Promise.all([first, second].map((gate) => statusOf(gate, token, proof)))
  t.deepEqual(statuses.sort(), [401, 502])
})
