import v8 from 'node:v8'
import vm from 'node:vm'
import test from 'ava'
import { VerifyError } from '../../packages/verify/errors.ts'
import { createMemoryReplayStore } from '../../packages/verify/replay.ts'
import {
  accessToken,
  dpopProof,
  dpopRequest,
  start,
  verifierWith,
} from '../support/verify/fixtures.ts'
import { makeKey } from '../support/verify/keys.ts'

v8.setFlagsFromString('--expose_gc')
const collect: () => void = vm.runInNewContext('gc')

function memory(): number {
  collect()
  collect()
  const { heapUsed, external, arrayBuffers } = process.memoryUsage()
  return heapUsed + external + arrayBuffers
}

test('memory stays flat under valid requests, replays and garbage', async (t) => {
  let now = start
  const verifier = verifierWith({
    now: () => now * 1000,
    tokenCacheSize: 100,
    replay: createMemoryReplayStore({ capacity: 1000 }),
  })
  const attempt = (request: Parameters<typeof verifier.verify>[0]) =>
    verifier.verify(request).then(
      () => 'accepted',
      (error) => {
        if (!(error instanceof VerifyError)) throw error
        return error.code
      },
    )

  async function round(): Promise<void> {
    for (let i = 0; i < 300; i++) {
      const token = accessToken({ iat: now, exp: now + 600, pad: 'x'.repeat(1000) })
      const request = dpopRequest(token, dpopProof(token, { iat: now }))
      t.is(await attempt(request), 'accepted')
      t.is(await attempt(request), 'dpop_replayed')
      const stranger = makeKey('EdDSA')
      const proof = dpopProof(token, { iat: now }, {}, stranger)
      t.is(await attempt(dpopRequest(token, proof)), 'dpop_key_mismatch')
      t.is(await attempt(dpopRequest(`${i}.${'x'.repeat(1000)}.x`, proof)), 'token_malformed')
    }
    now += 61
  }

  for (let i = 0; i < 4; i++) await round()
  const before = memory()
  for (let i = 0; i < 6; i++) await round()
  const grown = memory() - before
  t.true(grown < 1_000_000, `${grown} bytes more after 7,200 requests`)
})
