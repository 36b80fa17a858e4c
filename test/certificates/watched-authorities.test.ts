import { mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { CertificateFileError } from '../../src/certificates/certificate-file-error.ts'
import { watchClientAuthorities } from '../../src/certificates/watched-authorities.ts'
import {
  createAuthority,
  daysFromNow,
  type TestAuthority,
  type TestCertificate,
} from '../support/certificates.ts'
import { replaceFile } from '../support/replace-file.ts'
import { until } from '../support/until.ts'

interface Watching {
  readonly told: string[]
  readonly clock: { now: number }
  readonly files: { authorityFile: string; revocationFile: string }
  check(certificate: TestCertificate): string | undefined
}

/** Watched files of one authority and its list, told of in a few words. */
async function watching(
  t: ExecutionContext,
  authority: TestAuthority,
  crl?: string,
): Promise<Watching> {
  const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-watched-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const files = {
    authorityFile: path.join(folder, 'ca.pem'),
    revocationFile: path.join(folder, 'crl.pem'),
  }
  await writeFile(files.authorityFile, authority.cert)
  await writeFile(files.revocationFile, crl ?? (await authority.crl()))
  const told: string[] = []
  const clock = { now: Date.now() }
  const authorities = await watchClientAuthorities(
    files,
    {
      onRead: (_, change) => told.push(change),
      onUnusable: ({ message }) => told.push(`unusable: ${message}`),
      onExpired: (at) => told.push(`expired: ${new Date(at).toISOString()}`),
    },
    { interval: 5, now: () => clock.now },
  )
  t.teardown(() => authorities[Symbol.dispose]())
  return {
    told,
    clock,
    files,
    check: ({ certificate, thumbprint }) =>
      authorities.check({ certificate, thumbprint, chain: [] }, Date.now()),
  }
}

test('a new list is used when it is there', async (t) => {
  const authority = await createAuthority()
  const client = await authority.issue()
  const { files, check, told } = await watching(t, authority)
  t.is(check(client), undefined)
  await replaceFile(files.revocationFile, await authority.crl([client]))
  await until(async () => check(client) === 'revoked')
  t.deepEqual(told, ['first', 'changed'])
})

test('a new authority is used, and the old one no more', async (t) => {
  const [old, next] = [await createAuthority('CN=Old'), await createAuthority('CN=Next')]
  const { files, check } = await watching(t, old)
  await replaceFile(files.authorityFile, `${old.cert}\n${next.cert}`)
  await replaceFile(files.revocationFile, `${await old.crl()}\n${await next.crl()}`)
  const renewed = await next.issue()
  await until(async () => check(renewed) === undefined)
  t.is(check(await old.issue()), undefined)
  await replaceFile(files.revocationFile, await next.crl())
  await replaceFile(files.authorityFile, next.cert)
  const late = await old.issue()
  await until(async () => check(late) === 'no_path_to_authority')
  t.is(check(renewed), undefined)
})

for (const [title, broken] of [
  ['is empty', ''],
  ['is cut off', '-----BEGIN X509 CRL-----\nMIIB'],
] as const) {
  test(`a list that ${title} is told of once, and the one before is used`, async (t) => {
    const authority = await createAuthority()
    const revoked = await authority.issue()
    const { files, check, told } = await watching(t, authority, await authority.crl([revoked]))
    await replaceFile(files.revocationFile, broken)
    await until(async () => told.length > 1)
    t.regex(told[1] ?? '', /^unusable: .*crl\.pem/)
    t.is(check(revoked), 'revoked')
    t.is(check(await authority.issue()), undefined)
    await replaceFile(files.revocationFile, await authority.crl())
    await until(async () => check(revoked) === undefined)
    t.is(told.filter((what) => what.startsWith('unusable')).length, 1)
  })
}

test('a file that goes away changes nothing but is told of', async (t) => {
  const authority = await createAuthority()
  const { files, check, told } = await watching(t, authority)
  await rm(files.authorityFile)
  await until(async () => told.length > 1)
  t.regex(told[1] ?? '', /^unusable: .*ca\.pem cannot be read \(ENOENT\)/)
  t.is(check(await authority.issue()), undefined)
})

test('a list of a stranger does not take the place of ours', async (t) => {
  const [authority, stranger] = [await createAuthority(), await createAuthority('CN=Stranger')]
  const revoked = await authority.issue()
  const { files, check, told } = await watching(t, authority, await authority.crl([revoked]))
  await replaceFile(files.revocationFile, await stranger.crl())
  await until(async () => told.length > 1)
  t.regex(told[1] ?? '', /CN=Stranger, which is not in HOLDFAST_CLIENT_CA_FILE/)
  t.is(check(revoked), 'revoked')
})

test('a link that leads elsewhere is a change', async (t) => {
  const authority = await createAuthority()
  const client = await authority.issue()
  const { files, check } = await watching(t, authority)
  const elsewhere = `${files.revocationFile}.next`
  await writeFile(elsewhere, await authority.crl([client]))
  await symlink(elsewhere, `${files.revocationFile}.link`)
  await rename(`${files.revocationFile}.link`, files.revocationFile)
  await until(async () => check(client) === 'revoked')
  t.pass()
})

test('a list that ends is told of once, at the moment it ends', async (t) => {
  const authority = await createAuthority()
  const nextUpdate = new Date(Math.floor(daysFromNow(1).getTime() / 1000) * 1000)
  const { told, clock, files, check } = await watching(
    t,
    authority,
    await authority.crl([], { nextUpdate }),
  )
  t.deepEqual(told, ['first'])
  clock.now = nextUpdate.getTime()
  await until(async () => told.length > 1)
  await replaceFile(
    files.revocationFile,
    await authority.crl([], { nextUpdate: daysFromNow(-0.5) }),
  )
  await until(async () => told.length > 3)
  t.deepEqual(told.slice(0, 3), ['first', `expired: ${nextUpdate.toISOString()}`, 'changed'])
  t.regex(told[3] ?? '', /^expired/)
  t.is(check(await authority.issue()), 'revocation_unknown')
})

test('files that cannot be used at first are an error', async (t) => {
  const ignore = { onRead() {}, onUnusable() {}, onExpired() {} }
  const files = { authorityFile: '/nowhere/ca.pem', revocationFile: undefined }
  await t.throwsAsync(watchClientAuthorities(files, ignore), { instanceOf: CertificateFileError })
})
