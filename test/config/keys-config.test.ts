import test, { type ExecutionContext } from 'ava'
import { ConfigError, parseConfig } from '../../src/config/config.ts'

const secret = 'a secret of at least 32 characters'
const previous = 'the secret that it was before this one'

function onlyProblem(t: ExecutionContext, env: Record<string, string>, name: string): string {
  const problems = t.throws(() => parseConfig(env), { instanceOf: ConfigError })?.problems ?? []
  t.is(problems.length, 1, problems.join('\n'))
  t.true(problems[0]?.startsWith(`${name} `), problems[0])
  return problems[0] ?? ''
}

test('takes days, hours and seconds', (t) => {
  const { keys } = parseConfig({
    HOLDFAST_KEY_ROTATION_DAYS: '30',
    HOLDFAST_KEY_PUBLISH_HOURS: '48',
    HOLDFAST_KEY_POLL_SECONDS: '5',
  })
  t.deepEqual(keys, { rotation: 2_592_000_000, publish: 172_800_000, poll: 5000 })
})

test('0 days is never, however long keys are published', (t) => {
  const { keys } = parseConfig({
    HOLDFAST_KEY_ROTATION_DAYS: '0',
    HOLDFAST_KEY_PUBLISH_HOURS: '720',
  })
  t.is(keys.rotation, Number.POSITIVE_INFINITY)
})

test('takes the previous secret, from a file as well', (t) => {
  const given = { HOLDFAST_SECRET: secret, HOLDFAST_SECRET_PREVIOUS: previous }
  t.is(parseConfig(given).previousSecret, previous)
  const files = { HOLDFAST_SECRET: secret, HOLDFAST_SECRET_PREVIOUS_FILE: '/run/secrets/previous' }
  t.is(parseConfig(files, { readFile: () => `${previous}\n` }).previousSecret, previous)
})

for (const [name, value] of [
  ['HOLDFAST_KEY_ROTATION_DAYS', '-1'],
  ['HOLDFAST_KEY_ROTATION_DAYS', '3651'],
  ['HOLDFAST_KEY_PUBLISH_HOURS', '1'],
  ['HOLDFAST_KEY_PUBLISH_HOURS', '721'],
  ['HOLDFAST_KEY_POLL_SECONDS', '0'],
  ['HOLDFAST_KEY_POLL_SECONDS', '301'],
  ['HOLDFAST_KEY_POLL_SECONDS', 'often'],
] as const) {
  test(`refuses ${value} as ${name}`, (t) => {
    onlyProblem(t, { [name]: value }, name)
  })
}

test('refuses to publish keys for longer than they sign', (t) => {
  const given = { HOLDFAST_KEY_ROTATION_DAYS: '1', HOLDFAST_KEY_PUBLISH_HOURS: '25' }
  onlyProblem(t, given, 'HOLDFAST_KEY_PUBLISH_HOURS')
})

test('refuses a previous secret that is short, and does not repeat it', (t) => {
  const given = { HOLDFAST_SECRET: secret, HOLDFAST_SECRET_PREVIOUS: 'x'.repeat(31) }
  t.false(onlyProblem(t, given, 'HOLDFAST_SECRET_PREVIOUS').includes('xxx'))
})

test('refuses a previous secret that is the present one', (t) => {
  const given = { HOLDFAST_SECRET: secret, HOLDFAST_SECRET_PREVIOUS: secret }
  t.false(onlyProblem(t, given, 'HOLDFAST_SECRET_PREVIOUS').includes(secret))
})
