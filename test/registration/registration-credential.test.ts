import type { VerifyError } from '@holdfast/verify'
import test from 'ava'
import { makeProof } from '../../src/doctor/proof.ts'
import { createRegistrationCredentials } from '../../src/registration/registration-credential.ts'
import { newKey } from '../support/flow.ts'

const credentials = createRegistrationCredentials({
  nonces: undefined,
  now: () => Math.floor(Date.now() / 1000),
  markOnce: async () => true,
})
const token = 'Ab-_'.repeat(10).padEnd(43, 'x')

const read = (presented: string, scheme = 'Bearer') =>
  credentials.read({
    method: 'POST',
    uri: 'https://id.example/register',
    rawHeaders: ['Authorization', `${scheme} ${presented}`],
  })

test('reads a token of 43 characters of base64url', (t) => {
  t.deepEqual(read(token), { token, scheme: 'Bearer', proof: undefined })
})

for (const [what, presented] of [
  ['too short', token.slice(1)],
  ['too long', `${token}x`],
  ['of base64', token.replace('-', '+')],
  ['with dots', token.replace('-', '.')],
  ['without end', 'x'.repeat(10_000)],
] as const) {
  for (const scheme of ['Bearer', 'DPoP']) {
    test(`rejects a ${scheme} token that is ${what} before anything is looked up`, (t) => {
      t.like(
        t.throws(() => read(presented, scheme)),
        {
          name: 'VerifyError',
          code: 'token_inactive',
        },
      )
    })
  }
}

for (const [windowS, code] of [
  [60, 'dpop_expired'],
  [300, undefined],
] as const) {
  test(`judges a proof of 61 seconds ago by a window of ${windowS} seconds`, async (t) => {
    const keys = await newKey()
    const made = Math.floor(Date.now() / 1000)
    const { read: readAt } = createRegistrationCredentials({
      nonces: undefined,
      now: () => made + 61,
      proofWindowS: windowS,
      markOnce: async () => true,
    })
    const uri = 'https://id.example/register'
    const dpop = await makeProof(keys, { method: 'POST', url: uri, accessToken: token })
    const rawHeaders = ['Authorization', `DPoP ${token}`, 'DPoP', dpop]
    const request = { method: 'POST', uri, rawHeaders }
    if (code === undefined) t.truthy(readAt(request).proof)
    else t.is(t.throws<VerifyError>(() => readAt(request))?.code, code)
  })
}
