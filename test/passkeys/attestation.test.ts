import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import test from 'ava'
import * as x509 from '../../src/certificates/x509.ts'
import type { AttestationPolicy } from '../../src/passkeys/attestation.ts'
import { createChallenges } from '../../src/passkeys/challenge.ts'
import { createPasskeys } from '../../src/passkeys/passkeys.ts'
import { createAuthenticator, type TestAttestation } from '../support/authenticator.ts'
import {
  type CertificateRequest,
  createAuthority,
  daysFromNow,
  type TestAuthority,
  type TestCertificate,
} from '../support/certificates.ts'

const listed = 'cb69481e-8ff7-4039-93ec-0a2729a154a8'
const unlisted = 'cb69481e-8ff7-4039-93ec-0a2729a154a9'
const origin = 'https://id.example.com'
const account = { id: 'ada', email: 'ada@example.com' } as Parameters<
  ReturnType<typeof createPasskeys>['creationOptions']
>[0]
const by = { accountId: 'ada', sessionUid: 's', address: undefined, userAgent: undefined }

const bytesOf = (uuid: string) => Buffer.from(uuid.replaceAll('-', ''), 'hex')
const modelExtension = (uuid: string, head = [4, 16]) =>
  new x509.Extension('1.3.6.1.4.1.45724.1.1.4', false, new Uint8Array([...head, ...bytesOf(uuid)]))

const subject = 'C=SE,O=Maker,OU=Authenticator Attestation,CN=Model'

let root: TestAuthority
let maker: TestAuthority
let policy: AttestationPolicy

test.before(async () => {
  root = await createAuthority('CN=Root of the maker')
  maker = await root.intermediate({ subject: 'CN=Maker' })
  policy = { aaguids: [listed], roots: [root.certificate] }
})

const certify = (request: CertificateRequest = {}, authority = maker) =>
  authority.issue({ subject, extensions: [modelExtension(listed)], ...request })

const chained = (leaf: TestCertificate, ...rest: TestCertificate[]): TestAttestation => ({
  certificates: [leaf, ...rest].map(({ der }) => der),
  key: leaf.key,
})

/** What becomes of a new passkey with this attestation; by default of the listed model. */
async function register(
  attestation: TestAttestation | undefined,
  {
    aaguid = listed,
    limits = true,
    attested = policy,
    change = (text: string) => text,
    now = Date.now,
  } = {},
) {
  const added: { aaguid: string; attested: boolean }[] = []
  const passkeys = createPasskeys({
    table: {
      find: async () => undefined,
      use: async () => 'gone',
      listOf: async () => [],
      async add(passkey) {
        added.push(passkey)
        return 'id'
      },
      addByLink: async () => undefined,
    },
    challenges: createChallenges({ keys: () => [Buffer.alloc(32, 1)], now: Date.now }),
    party: { id: 'id.example.com', origin, attestation: limits ? attested : undefined },
    now,
  })
  const options = await passkeys.creationOptions(account, 'add')
  const { attestation: asked = '', challenge, rp, user } = options
  const authenticator = createAuthenticator(origin, {
    aaguid: bytesOf(aaguid),
    ...(attestation && { attestation }),
  })
  const made = authenticator.create({ challenge, rp: { id: rp.id ?? '' }, user })
  const outcome = await passkeys.register(change(made), 'add', { name: 'Key', by })
  return { asked, added: added.length, passkey: added[0], ...outcome }
}

test('adds a passkey of a listed model, which a root has certified', async (t) => {
  const { id, asked, passkey } = await register(chained(await certify(), maker))
  t.is(id, 'id')
  t.is(asked, 'direct')
  t.like(passkey, { aaguid: listed, attested: true })
})

test('finds a root that has certified the model itself, and one among several', async (t) => {
  const other = await createAuthority('CN=Another')
  const attested = { ...policy, roots: [other.certificate, root.certificate] }
  const direct = await certify({}, root)
  t.is((await register(chained(direct), { attested })).id, 'id')
  t.is((await register(chained(direct, root), { attested })).id, 'id')
  t.is((await register(chained(await certify(), maker, root), { attested })).id, 'id')
})

/** One thing that is wrong with an attestation, and the reason that the operator reads. */
const broken: Record<string, [() => Promise<TestAttestation | undefined>, string]> = {
  'of the kind none': [async () => undefined, 'not_attested'],
  'by the passkey itself': [async () => ({}), 'not_attested'],
  'of a format that names no model': [
    async () => ({ ...chained(await certify(), maker), format: 'fido-u2f' }),
    'format',
  ],
  'of a format that is unknown': [
    async () => ({ ...chained(await certify(), maker), format: 'compound' }),
    'format',
  ],
  'by another root of the same name': [
    async () => {
      const other = await createAuthority('CN=Root of the maker')
      const theirs = await other.intermediate({ subject: 'CN=Maker' })
      return chained(await certify({}, theirs), theirs, other)
    },
    'untrusted',
  ],
  'without the certificate in between': [async () => chained(await certify()), 'untrusted'],
  'with certificates in another order': [
    async () => {
      const below = await maker.intermediate({ subject: 'CN=Line' })
      return chained(await certify({}, below), maker, below)
    },
    'untrusted',
  ],
  'with more certificates than any maker has': [
    async () => chained(await certify(), ...Array.from({ length: 5 }, () => maker)),
    'untrusted',
  ],
  'with a certificate that has expired': [
    async () => chained(await certify({ notAfter: daysFromNow(-0.5) }), maker),
    'untrusted',
  ],
  'with a certificate that is not valid yet': [
    async () => chained(await certify({ notBefore: daysFromNow(1) }), maker),
    'untrusted',
  ],
  'by an authority that has expired': [
    async () => {
      const expired = await root.intermediate({ subject: 'CN=Maker', notAfter: daysFromNow(-0.5) })
      return chained(await certify({}, expired), expired)
    },
    'untrusted',
  ],
  'by a certificate that may not certify': [
    async () => {
      const leaf = await root.intermediate({ subject: 'CN=Maker', ca: false })
      return chained(await certify({}, leaf), leaf)
    },
    'untrusted',
  ],
  'below an authority that may have none below': [
    async () => {
      const short = await root.intermediate({ subject: 'CN=Short', pathLength: 0 })
      const below = await short.intermediate({ subject: 'CN=Below' })
      return chained(await certify({}, below), below, short)
    },
    'untrusted',
  ],
  'signed by SHA-1': [async () => chained(await certify({ hash: 'SHA-1' }), maker), 'untrusted'],
  'with a critical extension that is unknown': [
    async () => {
      const unknown = new x509.Extension('1.2.3.4', true, new Uint8Array([5, 0]))
      const extensions = [modelExtension(listed), unknown]
      return chained(await certify({ extensions }), maker)
    },
    'untrusted',
  ],
  'whose certificate names no model': [
    async () => chained(await certify({ extensions: [] }), maker),
    'model',
  ],
  'whose certificate names another model': [
    async () => chained(await certify({ extensions: [modelExtension(unlisted)] }), maker),
    'model',
  ],
  'whose certificate names a model in another form': [
    async () => chained(await certify({ extensions: [modelExtension(listed, [12, 16])] }), maker),
    'model',
  ],
}
for (const [title, [make, attestation]] of Object.entries(broken)) {
  test(`rejects an attestation ${title}`, async (t) => {
    const outcome = await register(await make())
    t.like(outcome, { id: undefined, reason: 'authenticator', attestation, added: 0 })
  })
}

test('rejects a certified model that is not listed', async (t) => {
  const leaf = await certify({ extensions: [modelExtension(unlisted)] })
  const outcome = await register(chained(leaf, maker), { aaguid: unlisted })
  t.like(outcome, { reason: 'authenticator', attestation: 'not_listed', added: 0 })
})

test('rejects a root that has expired', async (t) => {
  const long = await root.intermediate({ subject: 'CN=Maker', notAfter: daysFromNow(900) })
  const leaf = await certify({ notAfter: daysFromNow(900) }, long)
  const now = () => daysFromNow(400).getTime()
  const outcome = await register(chained(leaf, long), { now })
  t.like(outcome, { reason: 'authenticator', attestation: 'untrusted', added: 0 })
})

test('goes by the path length of a root', async (t) => {
  const short = await root.intermediate({ subject: 'CN=Short', pathLength: 0 })
  const below = await short.intermediate({ subject: 'CN=Below' })
  const attested = { ...policy, roots: [short.certificate] }
  t.is((await register(chained(await certify({}, short)), { attested })).id, 'id')
  const outcome = await register(chained(await certify({}, below), below), { attested })
  t.like(outcome, { reason: 'authenticator', attestation: 'untrusted', added: 0 })
})

test('rejects an attestation whose signature is by another key, or cut off', async (t) => {
  const [leaf, other] = [await certify(), await certify()]
  const outcome = await register({ ...chained(leaf, maker), key: other.key })
  t.like(outcome, { id: undefined, reason: 'response', added: 0 })
  const change = (text: string) => {
    const made = JSON.parse(text)
    made.response.attestationObject = made.response.attestationObject.slice(0, 40)
    return JSON.stringify(made)
  }
  const cut = await register(chained(leaf, maker), { change })
  t.like(cut, { id: undefined, reason: 'malformed', added: 0 })
})

test('reads no attestation, and asks no host that one names, where models are not limited', async (t) => {
  const asked: string[] = []
  const lists = createServer((request, response) => {
    asked.push(request.url ?? '')
    response.end()
  })
  await new Promise<void>((resolve) => lists.listen(0, '127.0.0.1', resolve))
  t.teardown(() => lists.close())
  const { port } = lists.address() as AddressInfo
  const extensions = [
    modelExtension(listed),
    new x509.CRLDistributionPointsExtension([`http://127.0.0.1:${port}/crl`]),
  ]
  const leaf = await certify({ extensions })
  for (const format of ['apple', 'android-key', 'packed', 'tpm', 'compound']) {
    const attestation = { ...chained(leaf, maker), format }
    for (const limits of [false, true]) {
      const { id, asked: conveyance, passkey } = await register(attestation, { limits })
      t.is(id, limits && format !== 'packed' ? undefined : 'id', format)
      t.is(conveyance, limits ? 'direct' : 'none')
      if (passkey) t.is(passkey.attested, limits)
    }
  }
  t.deepEqual(asked, [])
})
