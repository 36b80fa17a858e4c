import { once } from 'node:events'
import { createServer } from 'node:http'
import path from 'node:path'
import test from 'ava'
import { freePort } from '../../src/net/free-port.ts'
import { holdfast } from '../support/cli.ts'
import { useTestDatabase } from '../support/database.ts'
import { useFolder } from '../support/folder.ts'

const cwd = useFolder(test)
const database = useTestDatabase(test, { migrated: false })
let port = ''

test.before(async () => {
  port = String(await freePort())
})

const env = () => {
  const url = new URL(database.url)
  url.searchParams.set('application_name', 'must-not-be-shown-3')
  return {
    HOLDFAST_SECRET: 'the secret that must not be shown, 1 of 3',
    HOLDFAST_SECRET_PREVIOUS: 'the secret that must not be shown, 2 of 3',
    DATABASE_URL: url.href,
    HOLDFAST_HOST: '0.0.0.0',
    HOLDFAST_PORT: port,
    HOLDFAST_TLS: 'off',
    HOLDFAST_TRUSTED_PROXIES: '10.0.0.1,10.0.0.2',
  }
}

test('shows each variable on a line, and no secret', async (t) => {
  const { code, stdout, stderr } = await holdfast({ cwd, env: env() }, ['config', 'check'])
  t.is(stderr, '')
  t.is(code, 0)
  t.regex(stdout, /^The configuration is right\.\n\n {2}HOLDFAST_ISSUER +http:\/\/localhost:\d+\n/)
  t.regex(stdout, /^ {2}HOLDFAST_DRAIN_SECONDS +0$/m)
  t.regex(stdout, /^ {2}HOLDFAST_KEY_ROTATION_DAYS +90$/m)
  t.regex(stdout, /^ {2}HOLDFAST_TRUSTED_PROXIES +10\.0\.0\.1,10\.0\.0\.2$/m)
  t.regex(stdout, /^ {2}HOLDFAST_METRICS +not set$/m)
  t.regex(stdout, /^ {2}DATABASE_URL +postgresql:\/\/[\w.:]+\/test_\w+$/m)
  t.regex(stdout, /^ {2}HOLDFAST_SECRET +set$/m)
  t.regex(stdout, /^Warning: HOLDFAST_HOST is 0\.0\.0\.0 and HOLDFAST_ISSUER is http:/m)
  t.notRegex(stdout, /[{}]|must.not.be.shown/)
})

test('shows the same as JSON', async (t) => {
  const { stdout } = await holdfast({ cwd, env: env() }, ['config', 'check', '--json'])
  const { warnings, variables } = JSON.parse(stdout)
  t.is(warnings.length, 1)
  t.like(variables, { HOLDFAST_PORT: port, HOLDFAST_SECRET: 'set', HOLDFAST_METRICS: null })
  t.notRegex(stdout, /must.not.be.shown/)
})

test('reports everything that keeps a server from starting at once', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const address = taken.address()
  const inUse = typeof address === 'object' ? String(address?.port) : ''
  const wrong = {
    HOLDFAST_DPOP_NONCES: 'perhaps',
    HOLDFAST_SECRET: 'abcd'.repeat(8),
    HOLDFAST_PORT: inUse,
    HOLDFAST_METRICS: `127.0.0.1:${inUse}`,
    HOLDFAST_MTLS_PORT: port,
    HOLDFAST_TLS_CERT_FILE: path.join(cwd, 'no-cert.pem'),
    HOLDFAST_TLS_KEY_FILE: path.join(cwd, 'no-key.pem'),
    HOLDFAST_CLIENT_CA_FILE: path.join(cwd, 'no-ca.pem'),
    HOLDFAST_DATA: '/dev/null/data',
    DATABASE_URL: 'postgresql://holdfast:must-not-be-shown@127.0.0.1:1/none',
  }
  const { code, stdout, stderr } = await holdfast({ cwd, env: wrong }, ['config', 'check'])
  t.is(code, 1)
  t.is(stdout, '')
  const [head, ...lines] = stderr.trimEnd().split('\n')
  const expected = [
    /^ {2}HOLDFAST_SECRET is weak/,
    /^ {2}HOLDFAST_DPOP_NONCES must be required or optional\.$/,
    /^ {2}HOLDFAST_METRICS must be at another port than HOLDFAST_PORT\.$/,
    /^ {2}HOLDFAST_TLS_CERT_FILE cannot be read \(ENOENT\): .*no-cert\.pem\.$/,
    /^ {2}HOLDFAST_TLS_KEY_FILE cannot be read \(ENOENT\): .*no-key\.pem\.$/,
    /^ {2}HOLDFAST_CLIENT_CA_FILE: .*no-ca\.pem cannot be read \(ENOENT\)\.$/,
    /^ {2}HOLDFAST_DATA cannot be written \(ENOTDIR\): \/dev\/null\/data\.$/,
    /^ {2}No PostgreSQL answers at 127\.0\.0\.1:1\/none .* Check DATABASE_URL/,
    new RegExp(`^  HOLDFAST_PORT: port ${inUse} on 127\\.0\\.0\\.1 is in use\\.`),
    new RegExp(`^  HOLDFAST_METRICS: port ${inUse} on 127\\.0\\.0\\.1 is in use\\.`),
  ]
  t.is(head, `holdfast: The configuration has ${expected.length} errors:`, stderr)
  for (const [at, line] of lines.entries()) t.regex(line, expected[at] ?? /^no line$/)
  t.notRegex(stderr, /must.not.be.shown|abcd/)
})
