import { X509Certificate } from 'node:crypto'
import test from 'ava'
import { currentCertificate } from '../../src/bindings/mtls.ts'
import { createAuthority } from '../support/certificates.ts'

const authority = await createAuthority()
const day = 24 * 60 * 60 * 1000

async function shownBy(keys?: { modulusLength: number; exponent: number[] }) {
  const { cert } = await authority.issue(
    keys && {
      keys: {
        name: 'RSASSA-PKCS1-v1_5',
        hash: 'SHA-256',
        modulusLength: keys.modulusLength,
        publicExponent: Uint8Array.from(keys.exponent),
      },
    },
  )
  const certificate = { certificate: new X509Certificate(cert), thumbprint: '', chain: [] }
  return { certificate, tokenBinding: undefined }
}

test('takes a certificate within its validity, and not outside', async (t) => {
  const shown = await shownBy()
  t.truthy(currentCertificate(shown, Date.now()))
  t.is(currentCertificate(shown, Date.now() - 400 * day), undefined)
  t.is(currentCertificate(shown, Date.now() + 400 * day), undefined)
})

test('takes no certificate for whose key others can sign', async (t) => {
  const strong = await shownBy({ modulusLength: 2048, exponent: [1, 0, 1] })
  t.truthy(currentCertificate(strong, Date.now()))
  const weak = [
    { modulusLength: 2048, exponent: [3] },
    { modulusLength: 1024, exponent: [1, 0, 1] },
  ]
  for (const keys of weak) t.is(currentCertificate(await shownBy(keys), Date.now()), undefined)
})
