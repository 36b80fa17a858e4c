import test from 'ava'
import { ConfigError, parseConfig } from '../../src/config/config.ts'

const secret = 'a secret of more than thirty-two characters'
const files: Readonly<Record<string, string>> = {
  '/run/secrets/url': 'postgresql://user:pass@db.example/holdfast\n',
  '/run/secrets/secret': `${secret}\n`,
  '/run/secrets/short': 'short',
  '/run/secrets/empty': '\n',
}

const readFile = (file: string) => {
  const text = files[file]
  if (text === undefined) throw Object.assign(new Error('no such file'), { code: 'ENOENT' })
  return text
}

test('secrets come from files, without the end of their line', (t) => {
  const config = parseConfig(
    { DATABASE_URL_FILE: '/run/secrets/url', HOLDFAST_SECRET_FILE: '/run/secrets/secret' },
    { readFile },
  )
  t.is(config.databaseUrl, 'postgresql://user:pass@db.example/holdfast')
  t.is(config.secret, secret)
})

for (const [title, env, problem] of [
  [
    'both are set',
    { HOLDFAST_SECRET: secret, HOLDFAST_SECRET_FILE: '/run/secrets/secret' },
    /^HOLDFAST_SECRET and HOLDFAST_SECRET_FILE are both set/,
  ],
  [
    'the file is not there',
    { DATABASE_URL_FILE: '/run/secrets/other' },
    /^DATABASE_URL_FILE cannot be read \(ENOENT\)/,
  ],
  [
    'the file is empty',
    { HOLDFAST_SECRET_FILE: '/run/secrets/empty' },
    /^HOLDFAST_SECRET_FILE is empty/,
  ],
  [
    'what it holds is wrong',
    { HOLDFAST_SECRET_FILE: '/run/secrets/short' },
    /^HOLDFAST_SECRET must/,
  ],
  ['the name is misspelt', { HOLDFAST_SECRETS_FILE: '/x' }, /^HOLDFAST_SECRETS_FILE is not/],
] as const) {
  test(`refuses a start when ${title}`, (t) => {
    const error = t.throws(() => parseConfig(env, { readFile }), { instanceOf: ConfigError })
    t.is(error?.problems.length, 1)
    t.regex(error?.problems[0] ?? '', problem)
    t.false(error?.message.includes(secret))
  })
}
