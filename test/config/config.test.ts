import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import {
  ConfigError,
  examineVariables,
  parseConfig,
  variableNames,
} from '../../src/config/config.ts'
import { keysVariables } from '../../src/config/keys-config.ts'
import { mailVariables } from '../../src/config/mail-config.ts'
import { mtlsVariables } from '../../src/config/mtls-config.ts'
import { standardWorkers } from '../../src/config/operations-config.ts'
import { configWarnings, proxiesVariables } from '../../src/config/proxies-config.ts'
import { secretFileNames } from '../../src/config/secret-files.ts'
import { tokenBindingVariables } from '../../src/config/token-binding-config.ts'
import { createAuthority, type TestAuthority } from '../support/certificates.ts'
import { useFolder } from '../support/folder.ts'

const rootsFile = path.join(useFolder(test), 'passkey-roots.pem')
let root: TestAuthority

test.before(async () => {
  root = await createAuthority()
  await writeFile(rootsFile, root.cert)
})

const secret = 'a secret of at least 32 characters'

const complete = {
  HOLDFAST_ISSUER: 'https://id.example.com',
  HOLDFAST_HOST: '0.0.0.0',
  HOLDFAST_PORT: '8443',
  HOLDFAST_PATH: '/holdfast',
  HOLDFAST_TLS: 'on',
  HOLDFAST_TLS_CERT_FILE: '/etc/holdfast/cert.pem',
  HOLDFAST_TLS_KEY_FILE: '/etc/holdfast/key.pem',
  HOLDFAST_DATA: '/var/lib/idp',
  HOLDFAST_PREPARED_STATEMENTS: 'off',
  DATABASE_URL: 'postgresql://holdfast:pass@db.example.com:5432/holdfast',
  HOLDFAST_SECRET: secret,
  HOLDFAST_DPOP_NONCES: 'required',
  HOLDFAST_KEY_OVERLAP_HOURS: '72',
  HOLDFAST_SESSION_PROOF_SECONDS: '300',
  HOLDFAST_PAGE_KEY: 'off',
  HOLDFAST_PROOF_WINDOW_SECONDS: '60',
  HOLDFAST_CLOCK_TOLERANCE_SECONDS: '20',
  HOLDFAST_PROFILE: 'default',
  HOLDFAST_TLS_CIPHERS: 'TLS_AES_128_GCM_SHA256',
  HOLDFAST_DANGEROUSLY_ACCEPT_ENDPOINTS_AS_AUDIENCE: 'on',
  HOLDFAST_SESSION_REFRESH_INITIATORS: 'app.example.com, *.example.org',
  HOLDFAST_REFRESH_REUSE_SECONDS: '10',
  HOLDFAST_SIGN_IN: 'passkey',
  HOLDFAST_USERNAMES: 'on',
  HOLDFAST_PASSKEY_RP_ID: 'example.com',
  HOLDFAST_PASSKEY_RELATED_ORIGINS: 'https://id.example.org, https://id.example.net',
  HOLDFAST_PASSKEY_AAGUIDS: '08987058-cadc-4b81-b6e1-30de50dcbe96',
  HOLDFAST_PASSKEY_ATTESTATION_ROOTS_FILE: rootsFile,
  HOLDFAST_ACCOUNT_SELF_SERVICE: 'name, export',
  HOLDFAST_GROUP_SIGN_IN: 'admins = passkey, on call=bound-session',
  HOLDFAST_SIGN_UP: 'closed',
  HOLDFAST_LOG_LEVEL: 'debug',
  HOLDFAST_ADMIN_API: 'on',
  HOLDFAST_DEVICE_FLOW: 'on',
  HOLDFAST_DEVICE_LIMIT: '7',
  HOLDFAST_USER_CODE_LIMIT: '8',
  HOLDFAST_REGISTRATION: 'open',
  HOLDFAST_OPEN_REGISTRATION_LIMIT: '7',
  HOLDFAST_CLIENT_ID_METADATA: 'agent.example, *.apps.example',
  HOLDFAST_DRAIN_SECONDS: '4',
  HOLDFAST_LOGIN_LIMIT: '5',
  HOLDFAST_LOGIN_NETWORK_LIMIT: '500',
  HOLDFAST_REFUSAL_LIMIT: '1000',
  HOLDFAST_AUDIT_RETENTION_DAYS: '400',
  HOLDFAST_AUDIT_TOKENS: 'each',
  HOLDFAST_AUTHORIZE_LIMIT: '2000',
  HOLDFAST_PAR_LIMIT: '3000',
  HOLDFAST_DEVICE_PAGE_LIMIT: '400',
  HOLDFAST_EDGE_REFUSAL_LIMIT: '70',
  HOLDFAST_PASSWORD_HASHES: '3',
  HOLDFAST_LONGEST_WAIT_MS: '250',
  HOLDFAST_WORKERS: '3',
  HOLDFAST_DATABASE_STANDBY_URL: 'postgresql://holdfast:pass@standby.example.com/holdfast',
  HOLDFAST_STANDBY_LAG_SECONDS: '5',
  HOLDFAST_DATABASE_CONNECTIONS: '20',
  HOLDFAST_METRICS: '[::1]:9464',
}

/** Those of a node where nothing is configured. */
const workers = standardWorkers()
const ciphersByDefault = [
  'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384',
].join(':')

/** These variables have test files of their own. */
const noCertificates = {
  port: undefined,
  origin: undefined,
  forwarded: undefined,
  authorityFile: undefined,
  revocationFile: undefined,
}
const keys = { rotation: 90 * 86_400_000, publish: 86_400_000, poll: 15_000 }

function problems(t: ExecutionContext, env: Record<string, string>): readonly string[] {
  return t.throws(() => parseConfig(env), { instanceOf: ConfigError })?.problems ?? []
}

/** Breaks one variable of a complete configuration; the one problem must name it. */
function onlyProblem(t: ExecutionContext, changes: Record<string, string>, name: string): string {
  const found = problems(t, { ...complete, ...changes })
  t.is(found.length, 1, found.join('\n'))
  t.true(found[0]?.startsWith(`${name} `), found[0])
  t.true(found[0]?.endsWith('.'))
  return found[0] ?? ''
}

test('needs no variable at all', (t) => {
  t.deepEqual(parseConfig({}), {
    issuer: 'https://localhost:9443',
    arrivalPath: '',
    listen: { host: '127.0.0.1', port: 9443 },
    tls: { mode: 'development' },
    tlsCiphers: ciphersByDefault,
    mail: undefined,
    mtls: noCertificates,
    tokenBinding: 'off',
    trustedProxies: [],
    allowsTlsOffWithoutTrustedProxies: false,
    dataFolder: path.resolve('data'),
    databaseUrl: undefined,
    standby: undefined,
    preparedStatements: true,
    secret: undefined,
    previousSecret: undefined,
    keys,
    dpopNonces: 'optional',
    refreshReuseSeconds: 0,
    keyOverlapHours: undefined,
    proofWindowS: 300,
    protocol: { profile: undefined, clockToleranceS: 10, acceptsEndpointAudiences: false },
    selfService: [],
    signUp: { mode: 'closed' },
    sessionProofLifetime: 600,
    pageKey: true,
    sessionRefreshInitiators: [],
    passkeys: {
      signIn: 'passkey-or-password',
      usernames: false,
      groupAcrs: [],
      rpId: 'localhost',
      relatedOrigins: [],
      attestation: undefined,
    },
    logLevel: 'info',
    operations: {
      workers,
      connectionsPerWorker: workers === 1 ? 10 : 5,
      metrics: undefined,
      adminApi: false,
      deviceFlow: false,
      deviceLimit: 60,
      userCodeLimit: 20,
      drainSeconds: 0,
      auditTokens: 'count',
      auditRetentionDays: undefined,
      tracing: false,
      loginLimit: 10,
      loginNetworkLimit: 100,
      refusalLimit: 120,
      authorizeLimit: 600,
      parLimit: 600,
      devicePageLimit: 300,
      edgeRefusalLimit: 60,
      passwordHashes: 2,
      longestWaitMs: 400,
      registration: false,
      openRegistration: false,
      openRegistrationLimit: 20,
      clientDocuments: undefined,
    },
  })
})

test('takes every variable', (t) => {
  const ofOthers = {
    ...mailVariables,
    ...mtlsVariables,
    ...proxiesVariables,
    ...tokenBindingVariables,
    ...keysVariables,
  }
  const names = Object.keys({ ...complete, ...ofOthers, HOLDFAST_SECRET_PREVIOUS: '' })
  t.deepEqual(names.sort(), [...variableNames].sort())
  const config = parseConfig(complete)
  const { roots = [] } = config.passkeys.attestation ?? {}
  t.deepEqual(
    roots.map(({ fingerprint256 }) => fingerprint256),
    [root.certificate.fingerprint256],
  )
  t.deepEqual(config, {
    issuer: 'https://id.example.com',
    arrivalPath: '/holdfast',
    listen: { host: '0.0.0.0', port: 8443 },
    tls: { mode: 'files', certFile: '/etc/holdfast/cert.pem', keyFile: '/etc/holdfast/key.pem' },
    tlsCiphers: 'TLS_AES_128_GCM_SHA256',
    mail: undefined,
    mtls: noCertificates,
    tokenBinding: 'off',
    trustedProxies: [],
    allowsTlsOffWithoutTrustedProxies: false,
    dataFolder: path.resolve('/var/lib/idp'),
    databaseUrl: 'postgresql://holdfast:pass@db.example.com:5432/holdfast',
    standby: {
      url: 'postgresql://holdfast:pass@standby.example.com/holdfast',
      mostBehindMs: 5000,
    },
    preparedStatements: false,
    secret,
    previousSecret: undefined,
    keys,
    dpopNonces: 'required',
    refreshReuseSeconds: 10,
    keyOverlapHours: 72,
    proofWindowS: 60,
    protocol: { profile: undefined, clockToleranceS: 20, acceptsEndpointAudiences: true },
    selfService: ['name', 'export'],
    signUp: { mode: 'closed' },
    sessionProofLifetime: 300,
    pageKey: false,
    sessionRefreshInitiators: ['app.example.com', '*.example.org'],
    passkeys: {
      signIn: 'passkey',
      usernames: true,
      groupAcrs: [
        ['admins', 'urn:holdfast:acr:passkey'],
        ['on call', 'urn:holdfast:acr:bound-session'],
      ],
      rpId: 'example.com',
      relatedOrigins: ['https://id.example.org', 'https://id.example.net'],
      attestation: {
        aaguids: ['08987058-cadc-4b81-b6e1-30de50dcbe96'],
        roots,
      },
    },
    logLevel: 'debug',
    operations: {
      workers: 3,
      connectionsPerWorker: 6,
      metrics: { host: '::1', port: 9464 },
      adminApi: true,
      deviceFlow: true,
      deviceLimit: 7,
      userCodeLimit: 8,
      registration: true,
      openRegistration: true,
      openRegistrationLimit: 7,
      clientDocuments: { domains: ['agent.example', '*.apps.example'] },
      drainSeconds: 4,
      auditTokens: 'each',
      auditRetentionDays: 400,
      tracing: false,
      loginLimit: 5,
      loginNetworkLimit: 500,
      refusalLimit: 1000,
      authorizeLimit: 2000,
      parLimit: 3000,
      devicePageLimit: 400,
      edgeRefusalLimit: 70,
      passwordHashes: 3,
      longestWaitMs: 250,
    },
  })
})

for (const text of ['9464', 'localhost', '127.0.0.1:0', '127.0.0.1:9464/metrics', 'http://x:1']) {
  test(`refuses ${text} as the address of metrics`, (t) => {
    onlyProblem(t, { HOLDFAST_METRICS: text }, 'HOLDFAST_METRICS')
  })
}

for (const value of ['-1', '61', '1.5', 'long']) {
  test(`refuses ${value} as HOLDFAST_DRAIN_SECONDS`, (t) => {
    onlyProblem(t, { HOLDFAST_DRAIN_SECONDS: value }, 'HOLDFAST_DRAIN_SECONDS')
  })
}

for (const name of ['HOLDFAST_LOGIN_LIMIT', 'HOLDFAST_REFUSAL_LIMIT']) {
  for (const value of ['0', '-1', '1.5', 'many', '1000000']) {
    test(`refuses ${value} as ${name}`, (t) => onlyProblem(t, { [name]: value }, name) && t.pass())
  }
}

for (const value of ['https://app.example.com', 'app.example.com:8443', 'app.*', 'a b', ',']) {
  const name = 'HOLDFAST_SESSION_REFRESH_INITIATORS'
  test(`refuses "${value}" as hosts of applications`, (t) =>
    onlyProblem(t, { [name]: value }, name))
}

for (const value of ['yes', 'ON', 'https://agent.example', 'agent.example/x', '*', 'onn', '*.']) {
  const name = 'HOLDFAST_CLIENT_ID_METADATA'
  test(`refuses "${value}" as hosts of documents`, (t) => onlyProblem(t, { [name]: value }, name))
}

test('cannot be changed afterwards', (t) => {
  t.true(Object.isFrozen(parseConfig({})))
})

test('takes an empty variable for one that is not set', (t) => {
  const empty = Object.fromEntries(variableNames.map((name) => [name, '']))
  t.deepEqual(parseConfig(empty), parseConfig({}))
})

test('leaves the variables of others alone', (t) => {
  t.deepEqual(parseConfig({ PATH: '/bin', HOLD: 'x', MY_HOLDFAST_PORT: '1' }), parseConfig({}))
})

test('names the port in the default issuer', (t) => {
  t.is(parseConfig({ HOLDFAST_PORT: '8443' }).issuer, 'https://localhost:8443')
})

test('has an http issuer by default when TLS is off', (t) => {
  const { issuer, tls } = parseConfig({ HOLDFAST_TLS: 'off' })
  t.is(issuer, 'http://localhost:9443')
  t.deepEqual(tls, { mode: 'off' })
})

test('makes the data folder absolute', (t) => {
  t.is(parseConfig({ HOLDFAST_DATA: 'some/where' }).dataFolder, path.resolve('some/where'))
})

test('reports five mistakes at once, each by the name of its variable', (t) => {
  const found = problems(t, {
    HOLDFAST_PORT: 'https',
    HOLDFAST_TLS: 'yes',
    DATABASE_URL: 'mysql://localhost/holdfast',
    HOLDFAST_SECRET: 'short',
    HOLDFAST_ISSUER: 'https://id.example.com/',
  })
  t.deepEqual(found.map((text) => text.split(' ')[0]).sort(), [
    'DATABASE_URL',
    'HOLDFAST_ISSUER',
    'HOLDFAST_PORT',
    'HOLDFAST_SECRET',
    'HOLDFAST_TLS',
  ])
})

test('reports misspelt variables together with mistakes and contradictions', (t) => {
  const found = problems(t, {
    HOLDFAST_DPOP_NONCE: 'required',
    HOLDFAST_LOG_LEVEL: 'loud',
    HOLDFAST_TLS_CERT_FILE: 'cert.pem',
  })
  t.deepEqual(found.map((text) => text.split(' ')[0]).sort(), [
    'HOLDFAST_DPOP_NONCE',
    'HOLDFAST_LOG_LEVEL',
    'HOLDFAST_TLS_KEY_FILE',
  ])
})

test('carries all problems in the message too', (t) => {
  const error = t.throws(() => parseConfig({ HOLDFAST_PORT: '0', HOLDFAST_TLS: 'x' }))
  t.regex(error?.message ?? '', /HOLDFAST_PORT .*\nHOLDFAST_TLS /)
})

for (const port of ['0', '65536', '-1', '1.5', '0x50', ' 80', '123456', 'https']) {
  test(`refuses the port ${JSON.stringify(port)}`, (t) => {
    onlyProblem(t, { HOLDFAST_PORT: port }, 'HOLDFAST_PORT')
  })
}

for (const port of ['1', '65535']) {
  test(`takes the port ${port}`, (t) => {
    t.is(parseConfig({ HOLDFAST_PORT: port }).listen.port, Number(port))
  })
}

for (const host of ['id.example.com', '127.0.0.1:80', '[::1]', '256.0.0.1', 'localhost ']) {
  test(`refuses to listen on ${JSON.stringify(host)}`, (t) => {
    onlyProblem(t, { HOLDFAST_HOST: host }, 'HOLDFAST_HOST')
  })
}

for (const host of ['localhost', '::', '::1', '10.0.0.1']) {
  test(`listens on ${host}`, (t) => {
    t.is(parseConfig({ HOLDFAST_HOST: host }).listen.host, host)
  })
}

for (const name of ['HOLDFAST_TLS', 'HOLDFAST_DPOP_NONCES', 'HOLDFAST_LOG_LEVEL']) {
  test(`refuses a value that ${name} does not have`, (t) => {
    onlyProblem(t, { [name]: 'maybe' }, name)
  })
}

test('refuses a secret that is too short, and does not repeat it', (t) => {
  const problem = onlyProblem(t, { HOLDFAST_SECRET: 'x'.repeat(31) }, 'HOLDFAST_SECRET')
  t.false(problem.includes('xxx'))
})

for (const url of ['localhost', 'http://localhost/db', 'postgresql//localhost', 'postgres']) {
  test(`refuses the database URL ${url}`, (t) => {
    onlyProblem(t, { DATABASE_URL: url }, 'DATABASE_URL')
  })
}

for (const password of ['hun#ter', 'hun?ter', 'hun/ter', '12/ter', '12#ter', '12?ter']) {
  test(`refuses a database URL whose password has an unescaped character: ${password}`, (t) => {
    const url = `postgresql://holdfast:${password}@localhost:5432/holdfast`
    const problem = onlyProblem(t, { DATABASE_URL: url }, 'DATABASE_URL')
    t.false(problem.includes('ter'))
  })
}

test('refuses a database URL with a stray percent sign', (t) => {
  const url = 'postgresql://holdfast:hun%ter@localhost:5432/holdfast'
  const problem = onlyProblem(t, { DATABASE_URL: url }, 'DATABASE_URL')
  t.false(problem.includes('hun'))
})

for (const url of [
  'postgres://localhost/holdfast',
  'postgresql://holdfast:p%40ss@10.0.0.1/holdfast?sslmode=verify-full',
  'postgresql:///holdfast',
]) {
  test(`takes the database URL ${url}`, (t) => {
    t.is(parseConfig({ DATABASE_URL: url }).databaseUrl, url)
  })
}

test('refuses a misspelt variable, even an empty one', (t) => {
  onlyProblem(t, { HOLDFAST_DPOP_NONCE: '' }, 'HOLDFAST_DPOP_NONCE')
})

test('refuses a certificate file without its key file', (t) => {
  onlyProblem(t, { HOLDFAST_TLS_KEY_FILE: '' }, 'HOLDFAST_TLS_KEY_FILE')
})

test('refuses a key file without its certificate file', (t) => {
  onlyProblem(t, { HOLDFAST_TLS_CERT_FILE: '' }, 'HOLDFAST_TLS_CERT_FILE')
})

test('refuses certificate files when TLS is off', (t) => {
  const off = { HOLDFAST_TLS: 'off', HOLDFAST_TRUSTED_PROXIES: '10.0.0.1' }
  onlyProblem(t, off, 'HOLDFAST_TLS')
})

for (const issuer of [
  'id.example.com',
  'ftp://id.example.com',
  'https://',
  'https://id.example.com/',
  'https://id.example.com/tenant/',
  'https://id.example.com//tenant',
  'https://id.example.com/a/../b',
  'https://id.example.com/.well-known',
  'https://id.example.com/t%65nant',
  'https://id.example.com/tenant?x=1',
  'https://id.example.com?x=1',
  'https://id.example.com#top',
  'https://id.example.com:443',
  'https://ID.example.com',
  'https://ada@id.example.com',
  'http://id.example.com',
]) {
  test(`refuses the issuer ${issuer}`, (t) => {
    onlyProblem(t, { HOLDFAST_ISSUER: issuer }, 'HOLDFAST_ISSUER')
  })
}

test('says what the issuer should have been', (t) => {
  for (const [issuer, better] of [
    ['https://ID.example.com', 'https://id.example.com'],
    ['https://id.example.com/', 'https://id.example.com'],
    ['https://id.example.com/auth/', 'https://id.example.com/auth'],
  ] as const) {
    const problem = onlyProblem(t, { HOLDFAST_ISSUER: issuer }, 'HOLDFAST_ISSUER')
    t.true(problem.endsWith(` ${better}.`), problem)
  }
})

test('requests to an issuer with a path arrive at that path, unless a proxy rewrites it', (t) => {
  const arrivalPath = (changes: Record<string, string>) =>
    parseConfig({ HOLDFAST_ISSUER: 'https://id.example.com/t/a-1', ...changes }).arrivalPath
  t.is(arrivalPath({}), '/t/a-1')
  t.is(arrivalPath({ HOLDFAST_PATH: '/' }), '')
  t.is(arrivalPath({ HOLDFAST_PATH: '/inside' }), '/inside')
})

for (const path of ['auth', '/auth/', '//auth', '/../auth', '/auth?', 'https://id.example.com/a']) {
  test(`refuses ${path} as the path of requests`, (t) => {
    onlyProblem(t, { HOLDFAST_PATH: path }, 'HOLDFAST_PATH')
  })
}

test('refuses an http issuer of loopback while TLS is on', (t) => {
  onlyProblem(t, { HOLDFAST_ISSUER: 'http://localhost:9443' }, 'HOLDFAST_ISSUER')
})

for (const issuer of ['http://localhost:9443', 'http://127.0.0.1', 'http://[::1]:8080']) {
  test(`takes the issuer ${issuer} when TLS is off`, (t) => {
    t.is(parseConfig({ HOLDFAST_ISSUER: issuer, HOLDFAST_TLS: 'off' }).issuer, issuer)
  })
}

const behindProxy = { HOLDFAST_ISSUER: 'https://id.example.com', HOLDFAST_TLS: 'off' }
const allowed = { HOLDFAST_ALLOW_TLS_OFF_WITHOUT_TRUSTED_PROXIES: 'on' }

test('takes an https issuer when TLS is off, for a proxy in front that is named', (t) => {
  const config = parseConfig({ ...behindProxy, HOLDFAST_TRUSTED_PROXIES: '10.0.0.1' })
  t.is(config.issuer, 'https://id.example.com')
  t.deepEqual(configWarnings(config), [])
})

test('refuses a public issuer without TLS and without a trusted proxy', (t) => {
  const [problem] = problems(t, behindProxy)
  t.regex(problem ?? '', /^HOLDFAST_TRUSTED_PROXIES is missing while HOLDFAST_TLS is off/)
})

test('takes it where that is allowed by name, and warns', (t) => {
  const config = parseConfig({ ...behindProxy, ...allowed })
  t.true(config.allowsTlsOffWithoutTrustedProxies)
  t.regex(configWarnings(config)[0] ?? '', /HOLDFAST_TRUSTED_PROXIES is empty/)
})

test('warns of a public issuer that only this machine can reach', (t) => {
  const { HOLDFAST_ISSUER } = behindProxy
  t.is(configWarnings(parseConfig({ HOLDFAST_ISSUER })).length, 1)
  t.deepEqual(configWarnings(parseConfig({ HOLDFAST_ISSUER, HOLDFAST_HOST: '0.0.0.0' })), [])
  t.deepEqual(configWarnings(parseConfig({ HOLDFAST_TLS: 'off' })), [])
  const [warning] = configWarnings(parseConfig({ HOLDFAST_HOST: '0.0.0.0' }))
  t.regex(warning ?? '', /^HOLDFAST_HOST is 0\.0\.0\.0 and HOLDFAST_ISSUER is https:\/\/localhost/)
})

test('.env.example lists every variable, with its default', async (t) => {
  const text = await readFile(new URL('../../.env.example', import.meta.url), 'utf8')
  const lines = [...text.matchAll(/^# ([A-Z_]+)=(.*)$/gm)].map(([, name, value]) => [name, value])
  t.deepEqual(lines.map(([name]) => name).sort(), [...variableNames, ...secretFileNames].sort())
  t.deepEqual(parseConfig(Object.fromEntries(lines)), parseConfig({}))
})
const previous = 'the secret that it was before this one'

function soleProblem(t: ExecutionContext, env: Record<string, string>, name: string): string {
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
    soleProblem(t, { [name]: value }, name)
  })
}

test('refuses to publish keys for longer than they sign', (t) => {
  const given = { HOLDFAST_KEY_ROTATION_DAYS: '1', HOLDFAST_KEY_PUBLISH_HOURS: '25' }
  soleProblem(t, given, 'HOLDFAST_KEY_PUBLISH_HOURS')
})

test('refuses a previous secret that is short, and does not repeat it', (t) => {
  const given = { HOLDFAST_SECRET: secret, HOLDFAST_SECRET_PREVIOUS: 'x'.repeat(31) }
  t.false(soleProblem(t, given, 'HOLDFAST_SECRET_PREVIOUS').includes('xxx'))
})

test('refuses a previous secret that is the present one', (t) => {
  const given = { HOLDFAST_SECRET: secret, HOLDFAST_SECRET_PREVIOUS: secret }
  t.false(soleProblem(t, given, 'HOLDFAST_SECRET_PREVIOUS').includes(secret))
})

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

test('takes every variable of client certificates', (t) => {
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
  ['a malformed network', 'HOLDFAST_TRUSTED_PROXIES', { HOLDFAST_TRUSTED_PROXIES: 'proxy' }],
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
    'a malformed header name',
    'HOLDFAST_CLIENT_CERT_HEADER',
    { ...proxied, HOLDFAST_CLIENT_CERT_HEADER: 'a b' },
  ],
  ['a port without TLS', 'HOLDFAST_MTLS_PORT', { ...port, HOLDFAST_TLS: 'off' }],
  ['the port of browsers', 'HOLDFAST_MTLS_PORT', { HOLDFAST_MTLS_PORT: '9443' }],
  ['a malformed port', 'HOLDFAST_MTLS_PORT', { HOLDFAST_MTLS_PORT: '0' }],
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

test('as many workers as there are cores and memory for, four at most', (t) => {
  const megabytes = (count: number) => count * 1024 * 1024
  const machine = { platform: 'linux', cores: 8, memoryBytes: megabytes(8192) }
  t.is(standardWorkers(machine), 4)
  t.is(standardWorkers({ ...machine, cores: 2 }), 2)
  t.is(standardWorkers({ ...machine, memoryBytes: megabytes(768) }), 2)
  t.is(standardWorkers({ ...machine, memoryBytes: megabytes(100) }), 1)
  t.is(standardWorkers({ ...machine, platform: 'darwin' }), 1)
  t.deepEqual(problems(t, { HOLDFAST_WORKERS: '65' }), [
    'HOLDFAST_WORKERS must be a number from 1 to 64.',
  ])
  t.deepEqual(problems(t, { HOLDFAST_WORKERS: '4', HOLDFAST_DATABASE_CONNECTIONS: '3' }), [
    'HOLDFAST_DATABASE_CONNECTIONS must be at least one for each of the 4 workers.',
  ])
})

for (const [name, values] of Object.entries({
  HOLDFAST_SIGN_IN: ['password', 'Passkey'],
  HOLDFAST_USERNAMES: ['yes'],
  HOLDFAST_GROUP_SIGN_IN: [
    'admins',
    'admins=password',
    'admins=passkey,',
    '=passkey',
    'a=b=passkey',
  ],
  HOLDFAST_ACCOUNT_SELF_SERVICE: ['picture', 'name locale', 'name,'],
  HOLDFAST_SIGN_UP: [
    'open',
    'domains',
    'domains:',
    'domains:example',
    'domains:a.example,',
    'x.example',
  ],
  HOLDFAST_PASSKEY_RP_ID: ['127.0.0.1', 'https://example.com', 'Example.com'],
  HOLDFAST_PASSKEY_RELATED_ORIGINS: ['https://id.example.org/', 'http://id.example.org', 'x'],
  HOLDFAST_PASSKEY_AAGUIDS: [
    '08987058',
    '08987058-CADC-4b81-b6e1-30de50dcbe96',
    '00000000-0000-0000-0000-000000000000',
    ',',
  ],
})) {
  test(`refuses ${name} that is misspelt`, (t) => {
    for (const value of values) onlyProblem(t, { [name]: value }, name)
  })
}

test('has no passkeys for an issuer with an address, and does not require them there', (t) => {
  const env = { HOLDFAST_ISSUER: 'https://192.0.2.7' }
  t.is(parseConfig(env).passkeys.rpId, undefined)
  t.regex(problems(t, { ...env, HOLDFAST_SIGN_IN: 'passkey' })[0] ?? '', /^HOLDFAST_SIGN_IN /)
})

test('needs roots for a list of passkey models, and a list for roots', (t) => {
  const { HOLDFAST_PASSKEY_AAGUIDS: aaguids } = complete
  const list = { HOLDFAST_PASSKEY_AAGUIDS: aaguids }
  const roots = { HOLDFAST_PASSKEY_ATTESTATION_ROOTS_FILE: rootsFile }
  t.is(parseConfig({ ...list, ...roots }).passkeys.attestation?.roots.length, 1)
  t.regex(problems(t, list).join(), /^HOLDFAST_PASSKEY_ATTESTATION_ROOTS_FILE is missing: [^,]+$/)
  t.regex(problems(t, roots).join(), /^HOLDFAST_PASSKEY_AAGUIDS is missing: [^,]+$/)
})

test('refuses a file of passkey roots that is missing, empty, damaged or not of authorities', async (t) => {
  const { cert: leaf } = await root.issue()
  const files: Record<string, [string | undefined, RegExp]> = {
    'missing.pem': [undefined, /^\S+ cannot be read \(ENOENT\): .*missing\.pem\.$/],
    'empty.pem': ['', /^\S+ must name a PEM file of certificates of authorities/],
    'key.pem': [root.key, /^\S+ must name a PEM file of certificates of authorities/],
    'leaf.pem': [root.cert + leaf, /^\S+ must name a PEM file of certificates of authorities/],
    'damaged.pem': [root.cert.replace(/\n.{8}/, '\nAAAAAAAA'), /has a certificate that cannot be/],
  }
  for (const [name, [text, expected]] of Object.entries(files)) {
    const file = path.join(path.dirname(rootsFile), name)
    if (text !== undefined) await writeFile(file, text)
    const variable = 'HOLDFAST_PASSKEY_ATTESTATION_ROOTS_FILE'
    t.regex(onlyProblem(t, { [variable]: file }, variable), expected)
    t.is(problems(t, { ...complete, [variable]: file, HOLDFAST_SIGN_IN: 'x' }).length, 2)
  }
})

test('reads who may sign up, with domains in their canonical form, and needs mail for it', (t) => {
  t.deepEqual(parseConfig({}).signUp, { mode: 'closed' })
  const at = (HoldfastSignUp: string) =>
    parseConfig({ ...mail, HOLDFAST_SIGN_UP: HoldfastSignUp }).signUp
  t.deepEqual(at('invitation'), { mode: 'invitation' })
  const domains = ['example.com', 'xn--bcher-kva.example']
  t.deepEqual(at('domains: Example.com,BÜCHER.example,example.com'), { mode: 'domains', domains })
  soleProblem(t, { HOLDFAST_SIGN_UP: 'invitation' }, 'HOLDFAST_SMTP_URL')
})

const mail = {
  HOLDFAST_SMTP_URL: 'smtps://holdfast%40example.com:a%2Fb@smtp.example.com',
  HOLDFAST_MAIL_FROM: 'Example <no-reply@example.com>',
}

test('sends mail by TLS, and takes user and password apart', (t) => {
  t.deepEqual(parseConfig(mail).mail, {
    host: 'smtp.example.com',
    port: 465,
    isImplicitTls: true,
    requiresTls: true,
    login: { user: 'holdfast@example.com', password: 'a/b' },
    from: { name: 'Example', address: 'no-reply@example.com' },
  })
  const at = (url: string, changes = {}) =>
    parseConfig({ ...mail, HOLDFAST_SMTP_URL: url, ...changes }).mail
  t.like(at('smtp://smtp.example.com'), { port: 587, isImplicitTls: false, requiresTls: true })
  t.like(at('smtp://[::1]:1025'), { host: '::1', port: 1025, requiresTls: false })
  t.false(at('smtp://mail', { HOLDFAST_ALLOW_SMTP_WITHOUT_TLS: 'on' })?.requiresTls)
})

for (const [name, value] of [
  ['HOLDFAST_SMTP_URL', 'https://smtp.example.com'],
  ['HOLDFAST_SMTP_URL', 'smtp://user@smtp.example.com'],
  ['HOLDFAST_SMTP_URL', 'smtp://user:hunter%zz@smtp.example.com'],
  ['HOLDFAST_SMTP_URL', 'smtp://user:hunter/2@smtp.example.com'],
  ['HOLDFAST_MAIL_FROM', 'Example'],
  ['HOLDFAST_MAIL_FROM', 'a@example.com, b@example.com'],
  ['HOLDFAST_MAIL_FROM', 'Example\r\nBcc: <eve@example.com>'],
] as const) {
  test(`rejects ${name}=${JSON.stringify(value)}`, (t) => {
    t.false(soleProblem(t, { ...mail, [name]: value }, name).includes('hunter'))
  })
}

test('rejects half of what mail needs, and shows no password of it', (t) => {
  const { HOLDFAST_SMTP_URL, HOLDFAST_MAIL_FROM } = mail
  soleProblem(t, { HOLDFAST_SMTP_URL }, 'HOLDFAST_MAIL_FROM')
  soleProblem(t, { HOLDFAST_MAIL_FROM }, 'HOLDFAST_SMTP_URL')
  t.is(examineVariables(mail).shown.HOLDFAST_SMTP_URL, 'smtps://smtp.example.com')
})
