import { hash } from 'node:crypto'
import { stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import {
  calculateJwkThumbprint,
  decodeProtectedHeader,
  EmbeddedJWK,
  type JWK,
  jwtVerify,
} from 'jose'
import { useCommandLine } from '../support/cli.ts'
import { useFolder } from '../support/folder.ts'

const cwd = useFolder(test)
const holdfast = useCommandLine(test)
const proof = (...args: string[]) => holdfast({ cwd, env: {} }, ['proof', ...args])

test('makes a key file and a proof by it, and uses the file again', async (t) => {
  const key = path.join(cwd, 'key.jwk')
  const first = await proof('--key', key, '--new-key', 'post', 'https://id.example/token?a=b#c')
  t.is(first.stderr, '')
  t.is((await stat(key)).mode & 0o777, 0o600)
  const { payload } = await jwtVerify(first.stdout.trim(), EmbeddedJWK, { typ: 'dpop+jwt' })
  t.like(payload, { htm: 'POST', htu: 'https://id.example/token' })
  t.false('ath' in payload || 'nonce' in payload)

  const args = ['--nonce', 'n', '--token', 'the token', '--json', 'GET', 'https://api.example/x']
  const { stdout } = await proof('--key', key, ...args)
  const second = JSON.parse(stdout)
  const jwk = decodeProtectedHeader(second.proof).jwk as JWK
  t.deepEqual(jwk, decodeProtectedHeader(first.stdout.trim()).jwk)
  t.false('d' in jwk)
  t.is(second.jkt, await calculateJwkThumbprint(jwk))
  const verified = await jwtVerify(second.proof, EmbeddedJWK)
  t.like(verified.payload, { nonce: 'n', ath: hash('sha256', 'the token', 'base64url') })

  const again = await proof('--key', key, '--new-key', 'GET', 'https://api.example/x')
  t.is(again.code, 1)
  t.is(again.stderr, `holdfast: ${key} exists. Leave out --new-key to use it.\n`)
})

test('rejects a file that is missing or has no private key, without quoting it', async (t) => {
  const file = path.join(cwd, 'other.jwk')
  const refused = async (reason: RegExp) => {
    const { code, stderr } = await proof('--key', file, 'GET', 'https://api.example/x')
    t.is(code, 1)
    t.regex(stderr, reason)
  }
  await refused(/does not exist\. --new-key makes it\.$/m)
  await writeFile(file, 'a secret, and not JSON')
  await refused(/^holdfast: \S+ is not a private JWK of the curve P-256 \(kty, crv, x, y, d\)\.$/m)
  await writeFile(file, '{"kty":"EC","crv":"P-256","x":"a","y":"b"}')
  await refused(/is not a private JWK/)
})
