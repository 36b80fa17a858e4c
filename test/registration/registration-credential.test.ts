import test from 'ava'
import { createRegistrationCredentials } from '../../src/registration/registration-credential.ts'

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
