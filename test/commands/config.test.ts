import test from 'ava'
import { holdfast } from '../support/cli.ts'
import { useFolder } from '../support/folder.ts'

const cwd = useFolder(test)
const secrets = {
  HOLDFAST_SECRET: 'the secret that must not be shown, 1 of 3',
  HOLDFAST_SECRET_PREVIOUS: 'the secret that must not be shown, 2 of 3',
  DATABASE_URL: 'postgresql://holdfast:must-not-be-shown-3@db.example.com:5433/holdfast',
}
const env = {
  ...secrets,
  HOLDFAST_ISSUER: 'https://id.example.com',
  HOLDFAST_TLS: 'off',
  HOLDFAST_TRUSTED_PROXIES: '10.0.0.1,10.0.0.2',
}

test('shows each setting on a line, and no secret', async (t) => {
  const { code, stdout, stderr } = await holdfast({ cwd, env }, ['config', 'check'])
  t.is(stderr, '')
  t.is(code, 0)
  t.regex(stdout, /^The configuration is right\.\n\n {2}issuer +https:\/\/id\.example\.com\n/)
  t.regex(stdout, /^ {2}operations\.drainSeconds +0$/m)
  t.regex(stdout, /^ {2}keys\.rotationDays +90$/m)
  t.regex(stdout, /^ {2}trustedProxies +10\.0\.0\.1 10\.0\.0\.2$/m)
  t.regex(stdout, /^ {2}database +db\.example\.com:5433\/holdfast$/m)
  t.regex(stdout, /^ {2}secret +set$/m)
  t.notRegex(stdout, /[{}]|must.not.be.shown/)
})

test('shows the same as JSON', async (t) => {
  const { stdout } = await holdfast({ cwd, env }, ['config', 'check', '--json'])
  t.like(JSON.parse(stdout), { issuer: env.HOLDFAST_ISSUER, secret: 'set', previousSecret: 'set' })
  t.notRegex(stdout, /must.not.be.shown/)
})

test('says what is wrong', async (t) => {
  const wrong = { ...env, HOLDFAST_TLS: 'perhaps' }
  const { code, stdout, stderr } = await holdfast({ cwd, env: wrong }, ['config', 'check'])
  t.is(code, 1)
  t.is(stdout, '')
  t.is(stderr, 'holdfast: HOLDFAST_TLS must be on or off.\n')
})
