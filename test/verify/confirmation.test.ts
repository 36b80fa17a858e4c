import { createHash } from 'node:crypto'
import test from 'ava'
import {
  confirmCertificate,
  confirmTokenBinding,
  parseConfirmation,
} from '../../packages/verify/confirmation.ts'
import { refused } from '../support/verify/refused.ts'
import { accessToken, bearerRequest, verifierWith } from '../support/verify/world.ts'

const certificate = Buffer.from('a certificate')
const providedId = Buffer.from('a token binding ID')
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('base64url')
const x = sha256(Buffer.from('x'))

test('reads no confirmation from a token without cnf', (t) => {
  t.deepEqual(parseConfirmation(undefined), [])
})

test('reads every member that must be proven', (t) => {
  t.deepEqual(parseConfirmation({ jkt: x, 'x5t#S256': x, tbh: x, 'kc-jkt-type': 'dpop' }), [
    { method: 'dpop', jkt: x },
    { method: 'mtls', thumbprint: x },
    { method: 'token-binding', tbh: x },
  ])
})

for (const cnf of [
  null,
  'jkt',
  1,
  [x],
  { jkt: 1 },
  { jkt: [x] },
  { jkt: '' },
  { jkt: x.slice(1) },
  { jkt: `${x}=` },
  { jkt: null },
  { 'x5t#S256': {} },
  { tbh: `${x}A` },
  { jkt: x, tbh: 1 },
]) {
  test(`refuses the malformed cnf ${JSON.stringify(cnf)}`, async (t) => {
    await refused(t, 'confirmation_malformed', () => parseConfirmation(cnf))
  })
}

for (const cnf of [
  {},
  { jwk: {} },
  { kid: 'a' },
  { x5t: x },
  { JKT: x },
  { 'kc-jkt-type': 'dpop' },
  { jkt: x, 'tbh#S512': x },
  JSON.parse('{"__proto__":{"jkt":"x"}}'),
]) {
  test(`refuses the unknown cnf ${JSON.stringify(cnf)}`, async (t) => {
    await refused(t, 'confirmation_unknown', () => parseConfirmation(cnf))
  })
}

test('ignores only members that are named harmless', (t) => {
  t.is(parseConfirmation({ jkt: x, note: 1 }, ['note']).length, 1)
})

test('confirms a certificate by its bytes and by its thumbprint', async (t) => {
  const thumbprint = sha256(certificate)
  t.notThrows(() => confirmCertificate(thumbprint, certificate))
  t.notThrows(() => confirmCertificate(thumbprint, { thumbprint }))
  await refused(t, 'certificate_missing', () => confirmCertificate(thumbprint, undefined))
  await refused(t, 'certificate_mismatch', () => confirmCertificate(x, certificate))
  await refused(t, 'certificate_mismatch', () => confirmCertificate(x, { thumbprint }))
})

test('confirms a Token Binding ID', async (t) => {
  const tbh = sha256(providedId)
  t.notThrows(() => confirmTokenBinding(tbh, { providedId }))
  await refused(t, 'token_binding_missing', () => confirmTokenBinding(tbh, undefined))
  await refused(t, 'token_binding_mismatch', () => confirmTokenBinding(x, { providedId }))
})

test('verifies requests with certificate-bound and Token-Binding-bound tokens', async (t) => {
  const verifier = verifierWith()
  const mtls = bearerRequest(accessToken({ cnf: { 'x5t#S256': sha256(certificate) } }))
  t.deepEqual((await verifier.verify({ ...mtls, certificate })).methods, ['mtls'])
  await refused(t, 'certificate_missing', () => verifier.verify(mtls))
  const bound = bearerRequest(accessToken({ cnf: { tbh: sha256(providedId) } }))
  const tokenBinding = { providedId }
  t.deepEqual((await verifier.verify({ ...bound, tokenBinding })).methods, ['token-binding'])
  await refused(t, 'token_binding_missing', () => verifier.verify(bound))
})

test('takes no header for a certificate or a Token Binding', async (t) => {
  const der = certificate.toString('base64')
  const spoofed = ['Client-Cert', `:${der}:`, 'X-SSL-Cert', der, 'X-Forwarded-Client-Cert', der]
  const request = bearerRequest(accessToken({ cnf: { 'x5t#S256': sha256(certificate) } }))
  const headers = [...(request.headers as string[]), ...spoofed]
  await refused(t, 'certificate_missing', () => verifierWith().verify({ ...request, headers }))
})
