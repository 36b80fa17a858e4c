import test from 'ava'
import { ConfigError, parseConfig } from '../../src/config/config.ts'

test('Token Binding is off unless it is switched on', (t) => {
  t.is(parseConfig({}).tokenBinding, 'off')
})

for (const mode of ['tls', 'tls13-draft'] as const) {
  test(`takes ${mode}`, (t) => {
    t.is(parseConfig({ HOLDFAST_TOKEN_BINDING: mode }).tokenBinding, mode)
  })

  test(`refuses ${mode} without TLS`, (t) => {
    const error = t.throws(
      () => parseConfig({ HOLDFAST_TOKEN_BINDING: mode, HOLDFAST_TLS: 'off' }),
      { instanceOf: ConfigError },
    )
    t.regex(error?.problems.join() ?? '', /^HOLDFAST_TOKEN_BINDING is .* it is proxy\.$/)
  })
}

test('takes the headers of proxies that are named', (t) => {
  const variables = { HOLDFAST_TOKEN_BINDING: 'proxy', HOLDFAST_TRUSTED_PROXIES: '192.0.2.7' }
  t.is(parseConfig(variables).tokenBinding, 'proxy')
})

test('refuses the headers of proxies that nobody named', (t) => {
  const error = t.throws(() => parseConfig({ HOLDFAST_TOKEN_BINDING: 'proxy' }), {
    instanceOf: ConfigError,
  })
  t.regex(error?.message ?? '', /^HOLDFAST_TRUSTED_PROXIES is missing/)
})

test('refuses a mode that it does not know', (t) => {
  t.throws(() => parseConfig({ HOLDFAST_TOKEN_BINDING: 'on' }), { instanceOf: ConfigError })
})
