import { sign, X509Certificate } from 'node:crypto'
import { mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { ClientCertificate } from '../../packages/verify/client-certificate.ts'
import { CertificateFileError } from '../../src/certificates/certificate-file-error.ts'
import { loadClientAuthorities } from '../../src/certificates/client-authorities.ts'
import {
  asDistinguishedName,
  parseDistinguishedName,
  sameName,
} from '../../src/certificates/distinguished-name.ts'
import {
  isSubjectValue,
  type SubjectProperty,
  subjectMatches,
} from '../../src/certificates/subject.ts'
import { watchClientAuthorities } from '../../src/certificates/watched-authorities.ts'
import * as x509 from '../../src/certificates/x509.ts'
import {
  createAuthority,
  daysFromNow,
  selfSigned,
  type TestAuthority,
  type TestCertificate,
} from '../support/certificates.ts'
import { replaceFile } from '../support/replace-file.ts'
import { until } from '../support/until.ts'

let folder: string
let root: TestAuthority
let stranger: TestAuthority
let files = 0

test.before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'holdfast-ca-'))
  root = await createAuthority()
  // Another authority that calls itself the same.
  stranger = await createAuthority()
})
test.after.always(() => rm(folder, { recursive: true, force: true }))

async function file(text: string): Promise<string> {
  files += 1
  const name = path.join(folder, `${files}.pem`)
  await writeFile(name, text)
  return name
}

const load = async (authorities = root.cert, crl?: string) =>
  loadClientAuthorities({
    authorityFile: await file(authorities),
    revocationFile: crl === undefined ? undefined : await file(crl),
  })

const presented = (
  { certificate, thumbprint }: TestCertificate,
  ...chain: TestCertificate[]
): ClientCertificate => ({
  certificate,
  thumbprint,
  chain: chain.map((each) => each.certificate),
})

test('trusts a certificate of a configured authority', async (t) => {
  t.is((await load()).check(presented(await root.issue()), Date.now()), undefined)
})

test('trusts a certificate by way of an intermediate', async (t) => {
  const intermediate = await root.intermediate({ pathLength: 0 })
  const client = await intermediate.issue()
  const authorities = await load()
  t.is(authorities.check(presented(client), Date.now()), 'no_path_to_authority')
  t.is(authorities.check(presented(client, intermediate), Date.now()), undefined)
  t.is(authorities.check(presented(client, stranger, intermediate, root), Date.now()), undefined)
})

test('trusts any of several authorities', async (t) => {
  const authorities = await load(`${stranger.cert}\n${root.cert}`)
  t.is(authorities.check(presented(await root.issue()), Date.now()), undefined)
  t.is(authorities.check(presented(await stranger.issue()), Date.now()), undefined)
})

test('an authority of the same name with another key is another authority', async (t) => {
  const client = await stranger.issue()
  t.is((await load()).check(presented(client), Date.now()), 'no_path_to_authority')
  t.is((await load()).check(presented(client, stranger), Date.now()), 'no_path_to_authority')
})

test('a self-signed certificate is of no authority', async (t) => {
  t.is((await load()).check(presented(await selfSigned()), Date.now()), 'no_path_to_authority')
})

test('the certificate of a client issues nothing', async (t) => {
  const client = await root.issue({ subject: 'CN=Test authority' })
  const forged = await stranger.issue()
  t.is((await load()).check(presented(forged, client), Date.now()), 'no_path_to_authority')
})

test('rejects an issuer without the CA flag, whatever its key usage', async (t) => {
  const pretender = await root.intermediate({ ca: false })
  const client = presented(await pretender.issue(), pretender)
  t.is((await load()).check(client, Date.now()), 'no_path_to_authority')
})

test('an expired certificate is refused, and one that is not valid yet', async (t) => {
  const authorities = await load()
  const client = presented(await root.issue())
  t.is(authorities.check(client, daysFromNow(31).getTime()), 'outside_validity')
  t.is(authorities.check(client, daysFromNow(-2).getTime()), 'outside_validity')
})

test('an intermediate that has expired leads nowhere', async (t) => {
  const intermediate = await root.intermediate({ notAfter: daysFromNow(-0.5) })
  const client = presented(await intermediate.issue(), intermediate)
  t.is((await load()).check(client, Date.now()), 'no_path_to_authority')
})

test('an authority that has expired leads nowhere', async (t) => {
  const client = presented(await root.issue({ notAfter: daysFromNow(500) }))
  t.is((await load()).check(client, daysFromNow(400).getTime()), 'no_path_to_authority')
})

test('more intermediates than an authority allows lead nowhere', async (t) => {
  const first = await root.intermediate({ pathLength: 0 })
  const second = await first.intermediate({ subject: 'CN=Second' })
  const client = presented(await second.issue(), second, first)
  t.is((await load()).check(client, Date.now()), 'no_path_to_authority')
})

test('rejects a certificate for servers as one of a client', async (t) => {
  const server = await root.issue({ usage: [x509.ExtendedKeyUsage.serverAuth] })
  t.is((await load()).check(presented(server), Date.now()), 'not_for_clients')
})

test('a critical extension that is not known here is not overlooked', async (t) => {
  const extension = new x509.Extension('1.2.3.4', true, new Uint8Array([5, 0]))
  const client = await root.issue({ extensions: [extension] })
  t.is((await load()).check(presented(client), Date.now()), 'not_for_clients')
  const intermediate = await root.intermediate({ extensions: [extension] })
  const below = presented(await intermediate.issue(), intermediate)
  t.is((await load()).check(below, Date.now()), 'no_path_to_authority')
})

test('certificates that all issued each other end', async (t) => {
  const others = await Promise.all(
    Array.from({ length: 7 }, () => stranger.intermediate({ subject: 'CN=Test authority' })),
  )
  const client = presented(await stranger.issue(), ...others)
  t.is((await load()).check(client, Date.now()), 'no_path_to_authority')
})

test('a revoked certificate is refused, and the others are not', async (t) => {
  const revoked = await root.issue()
  const authorities = await load(root.cert, await root.crl([revoked]))
  t.is(authorities.check(presented(revoked), Date.now()), 'revoked')
  t.is(authorities.check(presented(await root.issue()), Date.now()), undefined)
})

test('the client of a revoked intermediate is refused', async (t) => {
  const intermediate = await root.intermediate()
  const client = presented(await intermediate.issue(), intermediate)
  const lists = `${await root.crl([intermediate])}\n${await stranger.crl()}`
  const authorities = await load(`${root.cert}\n${stranger.cert}`, lists)
  t.is(authorities.check(client, Date.now()), 'revocation_unknown')
  const both = await load(
    `${root.cert}\n${intermediate.cert}`,
    `${await root.crl([intermediate])}\n${await intermediate.crl()}`,
  )
  t.is(both.check(client, Date.now()), undefined, 'an authority in the file is trusted by itself')
})

test('a list that has run out says nothing any more', async (t) => {
  const list = await root.crl([], { nextUpdate: daysFromNow(2) })
  const authorities = await load(root.cert, list)
  const client = presented(await root.issue())
  t.is(authorities.check(client, Date.now()), undefined)
  t.is(authorities.check(client, daysFromNow(3).getTime()), 'revocation_unknown')
})

test('an authority without a list cannot vouch where lists are configured', async (t) => {
  const authorities = await load(`${root.cert}\n${stranger.cert}`, await root.crl())
  t.is(authorities.check(presented(await stranger.issue()), Date.now()), 'revocation_unknown')
})

test('a list that no authority has signed is refused at start', async (t) => {
  const error = await t.throwsAsync(load(root.cert, await stranger.crl()), {
    instanceOf: CertificateFileError,
  })
  t.regex(error?.message ?? '', /not in HOLDFAST_CLIENT_CA_FILE/)
})

test('a delta list is refused at start', async (t) => {
  const baseCrlNumber = new x509.Extension('2.5.29.27', true, new Uint8Array([2, 1, 1]))
  const delta = await root.crl([], { extensions: [baseCrlNumber] })
  await t.throwsAsync(load(root.cert, delta), {
    instanceOf: CertificateFileError,
    message: /delta or partial/,
  })
})

test('files that hold something else are refused at start', async (t) => {
  const client = await root.issue()
  for (const text of ['', 'hello', root.key, client.cert]) {
    await t.throwsAsync(load(text), { instanceOf: CertificateFileError })
    await t.throwsAsync(load(root.cert, text), { instanceOf: CertificateFileError })
  }
  await t.throwsAsync(
    loadClientAuthorities({ authorityFile: path.join(folder, 'no'), revocationFile: undefined }),
    { message: /ENOENT/ },
  )
})

test('an intermediate that was seen once is known, until it is no longer good', async (t) => {
  const intermediate = await root.intermediate({ notAfter: daysFromNow(1) })
  const [first, second] = [await intermediate.issue(), await intermediate.issue()]
  const authorities = await load()
  t.is(authorities.check(presented(second), Date.now()), 'no_path_to_authority')
  t.is(authorities.check(presented(first, intermediate), Date.now()), undefined)
  t.is(authorities.check(presented(second), Date.now()), undefined)
  const later = daysFromNow(1.5).getTime()
  t.is(authorities.check(presented(second), later), 'no_path_to_authority')
})

test('what no authority has issued is never known', async (t) => {
  const strange = await stranger.intermediate()
  const [first, second] = [await strange.issue(), await strange.issue()]
  const known = new Map()
  const authorities = await loadClientAuthorities(
    { authorityFile: await file(root.cert), revocationFile: undefined },
    known,
  )
  t.is(authorities.check(presented(first, strange, stranger), Date.now()), 'no_path_to_authority')
  t.is(authorities.check(presented(second), Date.now()), 'no_path_to_authority')
  const client = await root.issue()
  t.is(authorities.check(presented(client, strange), Date.now()), undefined)
  t.is(known.size, 0)
})

const rsa = (modulusLength: number, exponent = [1, 0, 1], hash = 'SHA-256') => ({
  name: 'RSASSA-PKCS1-v1_5',
  modulusLength,
  publicExponent: Uint8Array.from(exponent),
  hash,
})

test('accepts RSA keys of 2048 bits in a chain', async (t) => {
  const authority = await createAuthority('CN=RSA', rsa(2048))
  const intermediate = await authority.intermediate({ keys: rsa(2048) })
  const client = await intermediate.issue({ keys: rsa(2048) })
  t.is((await load(authority.cert)).check(presented(client, intermediate), Date.now()), undefined)
})

for (const [what, weak] of [
  ['a signature by SHA-1', { hash: 'SHA-1' }],
  ['an RSA key of 1024 bits', { keys: rsa(1024) }],
  ['an RSA key with exponent 3', { keys: rsa(2048, [3]) }],
] as const) {
  test(`rejects ${what} of a client`, async (t) => {
    t.is((await load()).check(presented(await root.issue(weak)), Date.now()), 'weak_algorithm')
  })

  test(`rejects ${what} of an intermediate, and does not remember it`, async (t) => {
    const intermediate = await root.intermediate(weak)
    const client = await intermediate.issue()
    const authorities = await load()
    t.is(authorities.check(presented(client, intermediate), Date.now()), 'weak_algorithm')
    t.is(authorities.check(presented(client), Date.now()), 'no_path_to_authority')
  })

  test(`rejects ${what} of an intermediate that is not the last`, async (t) => {
    const upper = await root.intermediate({ ...weak, subject: 'CN=Upper' })
    const lower = await upper.intermediate({ subject: 'CN=Lower' })
    const client = await lower.issue()
    t.is((await load()).check(presented(client, lower, upper), Date.now()), 'weak_algorithm')
  })
}

test('rejects a signature by MD5', async (t) => {
  const authority = await createAuthority('CN=RSA', rsa(2048, [1, 0, 1], 'SHA-1'))
  const { der } = await authority.issue()
  const md5 = withMd5(der, authority.key)
  t.true(md5.verify(authority.certificate.publicKey))
  const client = { certificate: md5, thumbprint: '', chain: [] }
  t.is((await load(authority.cert)).check(client, Date.now()), 'weak_algorithm')
})

test('rejects what an authority of 1024 bits has issued', async (t) => {
  const authority = await createAuthority('CN=RSA', rsa(1024))
  const client = await authority.issue()
  t.is((await load(authority.cert)).check(presented(client), Date.now()), 'weak_algorithm')
})

/** A certificate signed by RSA with SHA-1, signed again with MD5: the names differ in one byte. */
function withMd5(der: Buffer, key: string): X509Certificate {
  const sha1 = Buffer.from('2a864886f70d010105', 'hex')
  const bytes = Buffer.from(der)
  for (let at = bytes.indexOf(sha1); at !== -1; at = bytes.indexOf(sha1, at)) bytes[at + 8] = 4
  // Both lengths take two bytes; the signature is the last 256.
  const signed = bytes.subarray(4, 8 + bytes.readUInt16BE(6))
  sign('md5', signed, key).copy(bytes, bytes.length - 256)
  return new X509Certificate(bytes)
}

test('of many intermediates the oldest are forgotten', async (t) => {
  const known = new Map()
  const authorities = await loadClientAuthorities(
    { authorityFile: await file(root.cert), revocationFile: undefined },
    known,
  )
  for (let count = 0; count < 34; count += 1) {
    const intermediate = await root.intermediate({ subject: `CN=${count}` })
    const client = await intermediate.issue()
    t.is(authorities.check(presented(client, intermediate), Date.now()), undefined)
  }
  t.is(known.size, 32)
})

/** CN=Ada App,OU=Payments,O=Example\, Inc.,C=SE as a certificate holds it. */
const name = asDistinguishedName([
  { C: ['SE'] },
  { O: ['Example, Inc.'] },
  { OU: ['Payments'] },
  { CN: ['Ada App'] },
])

for (const text of [
  'CN=Ada App,OU=Payments,O=Example\\, Inc.,C=SE',
  'cn=ada app, ou=PAYMENTS , o=Example\\, Inc., c=se',
  'CN=Ada  App,OU=Payments,O=Example\\2C Inc.,C=SE',
  '2.5.4.3=Ada App,2.5.4.11=Payments,2.5.4.10=Example\\, Inc.,2.5.4.6=SE',
]) {
  test(`is the name in the certificate: ${text}`, (t) => {
    t.true(sameName(parseDistinguishedName(text) ?? [], name))
  })
}

for (const [title, text] of [
  ['the order of the certificate', 'C=SE,O=Example\\, Inc.,OU=Payments,CN=Ada App'],
  ['a part too few', 'CN=Ada App,OU=Payments,O=Example\\, Inc.'],
  ['a part too many', 'CN=Ada App,OU=Payments,OU=x,O=Example\\, Inc.,C=SE'],
  ['another value', 'CN=Ada Apps,OU=Payments,O=Example\\, Inc.,C=SE'],
  ['another type', 'UID=Ada App,OU=Payments,O=Example\\, Inc.,C=SE'],
  ['one set instead of two names', 'CN=Ada App+OU=Payments,O=Example\\, Inc.,C=SE'],
] as const) {
  test(`is another name: ${title}`, (t) => {
    const parsed = parseDistinguishedName(text)
    t.truthy(parsed)
    t.false(sameName(parsed ?? [], name))
  })
}

for (const [what, text] of [
  ['spaces before a bad character', `CN=${' '.repeat(1_000_000)}"`],
  ['spaces inside a value', `CN=a${' '.repeat(1_000_000)}b`],
  ['spaces before the type', `${' '.repeat(1_000_000)}`],
] as const) {
  test(`reads ${what} in linear time`, (t) => {
    const name = parseDistinguishedName(text)
    t.deepEqual(name?.[0]?.[0]?.value, what === 'spaces inside a value' ? 'a b' : undefined)
  })
}

test('the members of a set have no order', (t) => {
  const set = asDistinguishedName([{ CN: ['a'], OU: ['b'] }])
  t.true(sameName(parseDistinguishedName('OU=b+CN=a') ?? [], set))
})

test('values are UTF-8, escaped or not, composed or not', (t) => {
  const lucic = asDistinguishedName([{ CN: ['Lučić'] }])
  for (const text of ['CN=Lučić', 'CN=Lu\\C4\\8Di\\C4\\87', 'CN=Luc\u030cic\u0301']) {
    t.true(sameName(parseDistinguishedName(text) ?? [], lucic), text)
  }
})

test('an escaped space belongs to the value, and means as much as any other', (t) => {
  t.true(
    sameName(
      parseDistinguishedName('CN=a\\ ') ?? [],
      parseDistinguishedName('CN=a') ?? ['x' as never],
    ),
  )
})

for (const text of [
  '',
  'garbage',
  'CN=',
  'CN=a,',
  'CN=a,,O=b',
  'CN=a+',
  'CN="quoted"',
  'CN=#0C0161',
  'CN=\\C4',
  'CN=a\\',
  'CN=a;O=b',
  'UNKNOWN=a',
]) {
  test(`is no name that can be registered: "${text}"`, (t) => {
    t.is(parseDistinguishedName(text), undefined)
  })
}

let client: TestCertificate

test.before(async () => {
  const authority = await createAuthority()
  client = await authority.issue({
    subject: 'C=SE, O=Example, CN=app',
    names: [
      { type: 'dns', value: 'App.example.com' },
      { type: 'dns', value: '*.wild.example.com' },
      { type: 'url', value: 'spiffe://example.com/app' },
      { type: 'ip', value: '192.0.2.7' },
      { type: 'ip', value: '2001:db8::7' },
      { type: 'email', value: 'App@Example.com' },
    ],
  })
})

const yes: [SubjectProperty, string][] = [
  ['tls_client_auth_subject_dn', 'CN=app,O=Example,C=SE'],
  ['tls_client_auth_san_dns', 'app.EXAMPLE.com'],
  ['tls_client_auth_san_uri', 'spiffe://example.com/app'],
  ['tls_client_auth_san_ip', '192.0.2.7'],
  ['tls_client_auth_san_ip', '2001:0DB8:0:0::7'],
  ['tls_client_auth_san_email', 'App@EXAMPLE.com'],
]

for (const [property, value] of yes) {
  test(`${property} ${value} is this certificate`, (t) => {
    t.true(isSubjectValue(property, value))
    t.true(subjectMatches(client.certificate, property, value))
  })
}

const no: [SubjectProperty, string][] = [
  ['tls_client_auth_subject_dn', 'CN=app,O=Example'],
  ['tls_client_auth_subject_dn', 'C=SE,O=Example,CN=app'],
  ['tls_client_auth_san_dns', 'example.com'],
  ['tls_client_auth_san_dns', 'any.wild.example.com'],
  ['tls_client_auth_san_uri', 'spiffe://example.com/App'],
  ['tls_client_auth_san_uri', 'spiffe://example.com/app/'],
  ['tls_client_auth_san_ip', '192.0.2.70'],
  ['tls_client_auth_san_ip', '::ffff:192.0.2.7'],
  ['tls_client_auth_san_ip', '2001:db8::8'],
  ['tls_client_auth_san_email', 'app@example.com'],
  ['tls_client_auth_san_email', 'Other@example.com'],
]

for (const [property, value] of no) {
  test(`${property} ${value} is another certificate`, (t) => {
    t.true(isSubjectValue(property, value))
    t.false(subjectMatches(client.certificate, property, value))
  })
}

test('the value of one kind does not match a name of another', (t) => {
  t.false(subjectMatches(client.certificate, 'tls_client_auth_san_uri', 'App.example.com'))
  t.false(subjectMatches(client.certificate, 'tls_client_auth_san_dns', 'spiffe://example.com/app'))
})

const never: [SubjectProperty, string][] = [
  ['tls_client_auth_subject_dn', 'app'],
  ['tls_client_auth_san_dns', 'https://app.example.com'],
  ['tls_client_auth_san_uri', 'app'],
  ['tls_client_auth_san_ip', '192.0.2.0/24'],
  ['tls_client_auth_san_email', 'example.com'],
]

for (const [property, value] of never) {
  test(`${property} ${value} cannot be registered and matches nothing`, (t) => {
    t.false(isSubjectValue(property, value))
    t.false(subjectMatches(client.certificate, property, value))
  })
}

interface Watching {
  readonly messages: string[]
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
  const messages: string[] = []
  const clock = { now: Date.now() }
  const authorities = await watchClientAuthorities(
    files,
    {
      onRead: (_, change) => messages.push(change),
      onUnusable: ({ message }) => messages.push(`unusable: ${message}`),
      onExpired: (at) => messages.push(`expired: ${new Date(at).toISOString()}`),
    },
    { interval: 5, now: () => clock.now },
  )
  t.teardown(() => authorities[Symbol.dispose]())
  return {
    messages,
    clock,
    files,
    check: ({ certificate, thumbprint }) =>
      authorities.check({ certificate, thumbprint, chain: [] }, Date.now()),
  }
}

test('a new list is used when it is there', async (t) => {
  const authority = await createAuthority()
  const client = await authority.issue()
  const { files, check, messages } = await watching(t, authority)
  t.is(check(client), undefined)
  await replaceFile(files.revocationFile, await authority.crl([client]))
  await until(async () => check(client) === 'revoked')
  t.deepEqual(messages, ['first', 'changed'])
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
  test(`reports once a list that ${title}, and uses the previous one`, async (t) => {
    const authority = await createAuthority()
    const revoked = await authority.issue()
    const { files, check, messages } = await watching(t, authority, await authority.crl([revoked]))
    await replaceFile(files.revocationFile, broken)
    await until(async () => messages.length > 1)
    t.regex(messages[1] ?? '', /^unusable: .*crl\.pem/)
    t.is(check(revoked), 'revoked')
    t.is(check(await authority.issue()), undefined)
    await replaceFile(files.revocationFile, await authority.crl())
    await until(async () => check(revoked) === undefined)
    t.is(messages.filter((what) => what.startsWith('unusable')).length, 1)
  })
}

test('keeps the previous lists when a file disappears, and reports it', async (t) => {
  const authority = await createAuthority()
  const { files, check, messages } = await watching(t, authority)
  await rm(files.authorityFile)
  await until(async () => messages.length > 1)
  t.regex(messages[1] ?? '', /^unusable: .*ca\.pem cannot be read \(ENOENT\)/)
  t.is(check(await authority.issue()), undefined)
})

test('a list of a stranger does not take the place of ours', async (t) => {
  const [authority, stranger] = [await createAuthority(), await createAuthority('CN=Stranger')]
  const revoked = await authority.issue()
  const { files, check, messages } = await watching(t, authority, await authority.crl([revoked]))
  await replaceFile(files.revocationFile, await stranger.crl())
  await until(async () => messages.length > 1)
  t.regex(messages[1] ?? '', /CN=Stranger, which is not in HOLDFAST_CLIENT_CA_FILE/)
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

test('reports the end of a list once, when it ends', async (t) => {
  const authority = await createAuthority()
  const nextUpdate = new Date(Math.floor(daysFromNow(1).getTime() / 1000) * 1000)
  const { messages, clock, files, check } = await watching(
    t,
    authority,
    await authority.crl([], { nextUpdate }),
  )
  t.deepEqual(messages, ['first'])
  clock.now = nextUpdate.getTime()
  await until(async () => messages.length > 1)
  await replaceFile(
    files.revocationFile,
    await authority.crl([], { nextUpdate: daysFromNow(-0.5) }),
  )
  await until(async () => messages.length > 3)
  t.deepEqual(messages.slice(0, 3), ['first', `expired: ${nextUpdate.toISOString()}`, 'changed'])
  t.regex(messages[3] ?? '', /^expired/)
  t.is(check(await authority.issue()), 'revocation_unknown')
})

test('files that cannot be used at first are an error', async (t) => {
  const ignore = { onRead() {}, onUnusable() {}, onExpired() {} }
  const files = { authorityFile: '/nowhere/ca.pem', revocationFile: undefined }
  await t.throwsAsync(watchClientAuthorities(files, ignore), { instanceOf: CertificateFileError })
})
