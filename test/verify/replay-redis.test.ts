import test from 'ava'
import { createRedisReplayStore } from '../../packages/verify/replay-redis.ts'
import { startRedis, withRedis } from '../support/verify/redis.ts'
import { refused } from '../support/verify/refused.ts'
import { dpopRequest, start, verifierWith } from '../support/verify/world.ts'

const testRedis = withRedis(test)

testRedis('accepts one of sixteen uses at once on two nodes', async (t) => {
  await using redis = await startRedis()
  const nodes = redis.clients.map((client) => {
    const replay = createRedisReplayStore({ send: (args) => client.sendCommand(args) })
    return verifierWith({ replay, replicas: 2 })
  })
  const request = dpopRequest()
  const uses = Array.from({ length: 16 }, (_, i) => nodes[i % 2]?.verify(request))
  const outcomes = await Promise.allSettled(uses)
  t.is(outcomes.filter(({ status }) => status === 'fulfilled').length, 1)
})

testRedis('keeps a mark for as long as it matters, and holds no jti', async (t) => {
  await using redis = await startRedis()
  const [client] = redis.clients
  const replay = createRedisReplayStore({
    send: (args) => client.sendCommand(args),
    clockDifference: 600,
  })
  t.is(await replay.consume('a secret jti', start + 3600, start), 'fresh')
  t.is(await replay.consume('a secret jti', start + 3600, start), 'replayed')
  const [key = ''] = await client.keys('*')
  t.regex(key, /^holdfast:replay:[\w-]{43}$/)
  const left = await client.pTTL(key)
  t.true(left > 4_000_000 && left <= 4_200_000, `${left}`)
})

testRedis('says so when the server is full or gone', async (t) => {
  await using redis = await startRedis()
  const [client] = redis.clients
  const replay = createRedisReplayStore({ send: (args) => client.sendCommand(args) })
  const verifier = verifierWith({ replay })
  await client.configSet('maxmemory', '1')
  await refused(t, 'replay_store_unavailable', () => verifier.verify(dpopRequest()))
  await client.configSet('maxmemory', '0')
  await t.notThrowsAsync(verifier.verify(dpopRequest()))
  await redis.stop()
  await refused(t, 'replay_store_unavailable', () => verifier.verify(dpopRequest()))
})

test('takes no other reply for a promise to remember', async (t) => {
  const replay = createRedisReplayStore({ send: async () => 'QUEUED' })
  await t.throwsAsync(async () => replay.consume('a', start + 1, start))
})
