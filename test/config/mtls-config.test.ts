import test from 'ava'
import { ConfigError, parseConfig } from '../../src/config/config.ts'

const port = { HOLDFAST_MTLS_PORT: '9444' }
const proxied = {
  HOLDFAST_TLS: 'off',
  HOLDFAST_ISSUER: 'https://id.example.com',
  HOLDFAST_TRUSTED_PROXIES: '10.0.0.0/8, 192.0.2.7',
  HOLDFAST_CLIENT_CERT_FORMAT: 'nginx',
}

test('without variables there are no certificates and no trusted proxies', (t) => {
  const { mtls, trustedProxies } = parseConfig({})
  t.deepEqual(mtls, {
    port: undefined,
    origin: undefined,
    forwarded: undefined,
    authorityFile: undefined,
    revocationFile: undefined,
  })
  t.deepEqual(trustedProxies, [])
})

test('a port of its own has the host of the issuer', (t) => {
  const { mtls } = parseConfig({ ...port, HOLDFAST_ISSUER: 'https://id.example.com' })
  t.like(mtls, { port: 9444, origin: 'https://id.example.com:9444' })
})

test('takes every variable', (t) => {
  const { mtls, trustedProxies } = parseConfig({
    ...proxied,
    HOLDFAST_CLIENT_CERT_HEADER: 'SSL-Client-Cert',
    HOLDFAST_MTLS_ORIGIN: 'https://mtls.id.example.com',
    HOLDFAST_CLIENT_CA_FILE: '/etc/ca.pem',
    HOLDFAST_CLIENT_CRL_FILE: '/etc/crl.pem',
  })
  t.deepEqual(mtls, {
    port: undefined,
    origin: 'https://mtls.id.example.com',
    forwarded: { format: 'nginx', header: 'SSL-Client-Cert' },
    authorityFile: '/etc/ca.pem',
    revocationFile: '/etc/crl.pem',
  })
  t.deepEqual(trustedProxies, ['10.0.0.0/8', '192.0.2.7'])
})

for (const [title, name, env] of [
  [
    'a format without proxies',
    'HOLDFAST_TRUSTED_PROXIES',
    { HOLDFAST_CLIENT_CERT_FORMAT: 'nginx' },
  ],
  ['a network that is none', 'HOLDFAST_TRUSTED_PROXIES', { HOLDFAST_TRUSTED_PROXIES: 'proxy' }],
  [
    'an unknown format',
    'HOLDFAST_CLIENT_CERT_FORMAT',
    { ...proxied, HOLDFAST_CLIENT_CERT_FORMAT: 'x' },
  ],
  [
    'a header without a format',
    'HOLDFAST_CLIENT_CERT_HEADER',
    { HOLDFAST_CLIENT_CERT_HEADER: 'X' },
  ],
  [
    "another name for the standard's header",
    'HOLDFAST_CLIENT_CERT_HEADER',
    { ...proxied, HOLDFAST_CLIENT_CERT_FORMAT: 'rfc9440', HOLDFAST_CLIENT_CERT_HEADER: 'X' },
  ],
  [
    'a header that is none',
    'HOLDFAST_CLIENT_CERT_HEADER',
    { ...proxied, HOLDFAST_CLIENT_CERT_HEADER: 'a b' },
  ],
  ['a port without TLS', 'HOLDFAST_MTLS_PORT', { ...port, HOLDFAST_TLS: 'off' }],
  ['the port of browsers', 'HOLDFAST_MTLS_PORT', { HOLDFAST_MTLS_PORT: '9443' }],
  ['a port that is none', 'HOLDFAST_MTLS_PORT', { HOLDFAST_MTLS_PORT: '0' }],
  [
    'an origin without certificates',
    'HOLDFAST_MTLS_ORIGIN',
    { HOLDFAST_MTLS_ORIGIN: 'https://m.example' },
  ],
  [
    'an origin without TLS',
    'HOLDFAST_MTLS_ORIGIN',
    { ...port, HOLDFAST_MTLS_ORIGIN: 'http://m.example' },
  ],
  [
    'an origin with a path',
    'HOLDFAST_MTLS_ORIGIN',
    { ...port, HOLDFAST_MTLS_ORIGIN: 'https://m.example/' },
  ],
  [
    'the origin of browsers',
    'HOLDFAST_MTLS_ORIGIN',
    { ...proxied, HOLDFAST_MTLS_ORIGIN: 'https://id.example.com' },
  ],
  [
    'authorities without certificates',
    'HOLDFAST_CLIENT_CA_FILE',
    { HOLDFAST_CLIENT_CA_FILE: '/ca' },
  ],
  [
    'lists without authorities',
    'HOLDFAST_CLIENT_CA_FILE',
    { ...port, HOLDFAST_CLIENT_CRL_FILE: '/crl' },
  ],
] as const) {
  test(`refuses ${title}`, (t) => {
    const error = t.throws(() => parseConfig(env), { instanceOf: ConfigError })
    t.is(error?.problems.length, 1, error?.message)
    t.true(error?.message.startsWith(`${name} `), error?.message)
  })
}
