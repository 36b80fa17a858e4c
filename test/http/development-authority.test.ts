import 'reflect-metadata'
import { X509Certificate } from 'node:crypto'
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import { developmentCertificate } from '../../src/http/development-authority.ts'
import { ListenError } from '../../src/net/listen-error.ts'
import { useFolder } from '../support/folder.ts'

const root = useFolder(test)

let folders = 0
/** A folder that is not there yet. */
function newFolder() {
  folders += 1
  return path.join(root, String(folders), 'tls')
}

const day = 24 * 60 * 60 * 1000

async function authorityOf(folder: string) {
  return new X509Certificate(await readFile(path.join(folder, 'authority.pem')))
}

test('signs a certificate for loopback and the names it is given', async (t) => {
  const folder = newFolder()
  const { cert, authorityFile } = await developmentCertificate(folder, ['id.test', '10.0.0.1'])
  const certificate = new X509Certificate(cert)
  t.is(authorityFile, path.join(folder, 'authority.pem'))
  t.true(certificate.verify((await authorityOf(folder)).publicKey))
  for (const name of ['localhost', 'id.test']) t.is(certificate.checkHost(name), name)
  for (const ip of ['127.0.0.1', '::1', '10.0.0.1']) t.truthy(certificate.checkIP(ip), ip)
  t.is(certificate.checkHost('example.com'), undefined)
  t.false(certificate.ca)
})

test('keeps the authority over restarts, and makes a new certificate at each', async (t) => {
  const folder = newFolder()
  const first = await developmentCertificate(folder, [])
  const authority = await authorityOf(folder)
  const second = await developmentCertificate(folder, [])
  t.is((await authorityOf(folder)).fingerprint256, authority.fingerprint256)
  t.not(
    new X509Certificate(second.cert).fingerprint256,
    new X509Certificate(first.cert).fingerprint256,
  )
  t.true(new X509Certificate(second.cert).verify(authority.publicKey))
})

test('lets nobody else read the authority key, and does not give it away', async (t) => {
  const folder = newFolder()
  await developmentCertificate(folder, [])
  t.deepEqual((await readdir(folder)).sort(), ['authority-key.pem', 'authority.pem'])
  t.is((await stat(path.join(folder, 'authority-key.pem'))).mode & 0o777, 0o600)
  t.notRegex(await readFile(path.join(folder, 'authority.pem'), 'utf8'), /PRIVATE/)
})

test('has an authority that may sign certificates of servers only', async (t) => {
  const folder = newFolder()
  await developmentCertificate(folder, [])
  const authority = await authorityOf(folder)
  t.true(authority.ca)
  t.true(authority.verify(authority.publicKey))
})

test('renews an authority that would end before what it signs', async (t) => {
  const folder = newFolder()
  await developmentCertificate(folder, [], { now: () => Date.now() - 3600 * day })
  const old = await authorityOf(folder)
  t.true(old.validToDate.getTime() > Date.now())
  const { cert } = await developmentCertificate(folder, [])
  const renewed = await authorityOf(folder)
  t.not(renewed.fingerprint256, old.fingerprint256)
  t.true(new X509Certificate(cert).verify(renewed.publicKey))
  t.true(renewed.validToDate > new X509Certificate(cert).validToDate)
})

test('puts the certificate back when it was removed', async (t) => {
  const folder = newFolder()
  const { authorityFile } = await developmentCertificate(folder, [])
  const before = await readFile(authorityFile, 'utf8')
  await writeFile(authorityFile, '')
  await developmentCertificate(folder, [])
  t.is(await readFile(authorityFile, 'utf8'), before)
})

test('of many first starts at once all sign by the authority that stays', async (t) => {
  const folder = newFolder()
  const made = await Promise.all(
    Array.from({ length: 8 }, () => developmentCertificate(folder, [])),
  )
  const authority = await authorityOf(folder)
  for (const { cert } of made) t.true(new X509Certificate(cert).verify(authority.publicKey))
  t.deepEqual((await readdir(folder)).sort(), ['authority-key.pem', 'authority.pem'])
})

for (const [name, text] of [
  ['empty', ''],
  ['no PEM', 'what is this'],
  ['cut off', '-----BEGIN PRIVATE KEY-----\nMIGHAg\n-----END PRIVATE KEY-----\n'],
] as const) {
  test(`refuses an authority file that is ${name}`, async (t) => {
    const folder = newFolder()
    await mkdir(folder, { recursive: true })
    await writeFile(path.join(folder, 'authority-key.pem'), text)
    const error = await t.throwsAsync(developmentCertificate(folder, []), {
      instanceOf: ListenError,
    })
    t.is(error?.code, 'certificate_unusable')
    t.regex(error?.message ?? '', /authority-key\.pem/)
    t.is(await readFile(path.join(folder, 'authority-key.pem'), 'utf8'), text)
  })
}

test('says that the folder cannot be written', async (t) => {
  const file = path.join(root, 'file')
  await writeFile(file, '')
  const error = await t.throwsAsync(developmentCertificate(path.join(file, 'tls'), []), {
    instanceOf: ListenError,
  })
  t.is(error?.code, 'certificate_unusable')
  t.regex(error?.message ?? '', /HOLDFAST_DATA/)
})
