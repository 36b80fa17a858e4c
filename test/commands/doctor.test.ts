import anyTest, { type ExecutionContext } from 'ava'
import { freePort } from '../../src/net/free-port.ts'
import { holdfast } from '../support/cli.ts'
import { useFolder } from '../support/folder.ts'
import { useMtlsServer } from '../support/mtls.ts'

const test = anyTest
const cwd = useFolder(test)
const mtls = useMtlsServer(test)

/** The shell of an operator who trusts the server, with its database or without. */
const shell = ({ database = true } = {}) => ({
  cwd,
  env: {
    NODE_EXTRA_CA_CERTS: mtls.server.authorityFile ?? '',
    HOLDFAST_TLS: 'off',
    HOLDFAST_SECRET: 'a secret of at least 32 characters',
    DATABASE_URL: database ? mtls.server.databaseUrl : 'postgresql://localhost:1/none',
  },
})

const everything = [
  'the deployment is reached',
  'the public address is the configured one',
  "the client's address arrives",
  'a DPoP proof arrives as it was sent',
  'two DPoP headers arrive as two',
  'claims of a client are removed',
  'metadata is where clients look for it',
  'certificates are announced',
  'a certificate arrives',
  'claims of a client are removed where certificates are asked for',
  'a certificate does not stand beside a claim',
  'browsers are not asked for one',
]

test('says of each thing that it is well, and ends with 0', async (t) => {
  const { code, stdout, stderr } = await holdfast(shell(), ['doctor', '--url', mtls.server.issuer])
  t.is(stderr, '')
  t.deepEqual(
    stdout.trimEnd().split('\n'),
    everything.map((check) => `✓ ${check}`),
  )
  t.is(code, 0)
})

test('examines HOLDFAST_ISSUER without --url', async (t) => {
  const { cwd, env } = shell()
  const { code, stdout } = await holdfast(
    { cwd, env: { ...env, HOLDFAST_TLS: 'on', HOLDFAST_ISSUER: mtls.server.issuer } },
    ['doctor'],
  )
  t.is(stdout.trimEnd().split('\n').length, everything.length)
  t.is(code, 0)
  const plain = await holdfast(shell(), ['doctor'])
  t.regex(plain.stderr, /^holdfast: HOLDFAST_ISSUER must be https .*it is http:/)
  t.is(plain.code, 2)
})

test('says it as JSON', async (t) => {
  const args = ['doctor', '--url', mtls.server.issuer, '--json']
  const { code, stdout } = await holdfast(shell(), args)
  t.deepEqual(
    JSON.parse(stdout),
    everything.map((check) => ({ check, outcome: 'well' })),
  )
  t.is(code, 0)
})

test('a code from the machine with the database does on one without, once', async (t) => {
  const { stdout } = await holdfast(shell(), ['doctor', 'code'])
  const [code = '', words] = stdout.split('\n')
  t.regex(code, /^[\w-]{43}$/)
  t.regex(words ?? '', /one examination in the next ten minutes/)
  const examine = () =>
    holdfast(shell({ database: false }), ['doctor', '--url', mtls.server.issuer, '--code', code])
  t.is((await examine()).code, 0)
  const again = await examine()
  t.is(again.code, 1)
  t.regex(again.stdout, /answered 404: the code is not one of this server or has expired/)
})

for (const args of [
  ['code', '--json'],
  ['--json', 'code'],
]) {
  test(`a code is JSON when it is asked for: doctor ${args.join(' ')}`, async (t) => {
    const { stdout } = await holdfast(shell(), ['doctor', ...args])
    t.regex(JSON.parse(stdout).code, /^[\w-]{43}$/)
  })
}

function wrong(
  t: ExecutionContext,
  { code, stdout, stderr }: Awaited<ReturnType<typeof holdfast>>,
) {
  t.is(code, 1)
  t.regex(stderr, /^holdfast: 1 of \d+ things (is|are) wrong\.\n$/)
  return stdout
}

test('says what is wrong in words, and ends with 1', async (t) => {
  const nobody = `https://localhost:${await freePort()}`
  const args = ['doctor', '--url', nobody]
  t.is(
    wrong(t, await holdfast(shell(), args)),
    `✗ the deployment is reached\n    ${nobody} cannot be reached (ECONNREFUSED).\n`,
  )
  const [found] = JSON.parse(wrong(t, await holdfast(shell(), [...args, '--json'])))
  t.like(found, { check: 'the deployment is reached', outcome: 'wrong' })
})

test('names an untrusted certificate, and where to name its authority', async (t) => {
  const { env } = shell()
  const stranger = { cwd, env: { ...env, NODE_EXTRA_CA_CERTS: '' } }
  const stdout = wrong(t, await holdfast(stranger, ['doctor', '--url', mtls.server.issuer]))
  t.regex(
    stdout,
    /cannot be reached \(\w*(SELF_SIGNED|UNABLE_TO_VERIFY|UNABLE_TO_GET)\w*\)\. .*NODE_EXTRA_CA_CERTS/,
  )
})

for (const url of [
  'http://localhost',
  'https://localhost/',
  'https://localhost/a/?x',
  'localhost',
]) {
  test(`rejects --url ${url}`, async (t) => {
    const { code, stdout, stderr } = await holdfast(shell(), ['doctor', '--url', url])
    t.is(code, 2)
    t.is(stdout, '')
    t.is(
      stderr.split('\n')[0],
      'holdfast: --url must be the https issuer, such as https://id.example.com.',
    )
  })
}
