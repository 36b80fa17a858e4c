import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import { ConfigError, parseConfig } from '../../packages/gate/config.ts'
import type { GateEvent } from '../../packages/gate/events.ts'
import { runProgram } from '../../packages/gate/program.ts'
import { runGate } from '../../packages/gate/running.ts'
import { useFolder } from '../support/folder.ts'
import { until } from '../support/until.ts'

const folder = useFolder(test)

const valid = `
issuer: { url: https://as.example }
signing: { keyFiles: [gate.pem] }
applications:
  - origin: https://api.example
    upstream: { url: 'http://127.0.0.1:1' }
`

/** The problems of a configuration, without the name of its file. */
function problemsOf(text: string): readonly string[] {
  try {
    parseConfig(text, 'g')
    return []
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.problems
  }
}

async function holdfastGate(...args: string[]) {
  let stdout = ''
  let stderr = ''
  const code = await runProgram(args, {
    write: (text) => {
      stdout += text
    },
    writeError: (text) => {
      stderr += text
    },
  })
  return { code, stdout, stderr }
}

test('fills defaults in', (t) => {
  const { limits, applications } = parseConfig(valid)
  t.is(limits.headerBytes, 16_384)
  t.is(applications[0]?.mode, 'sign')
  t.deepEqual(applications[0]?.paths, {
    encodedSlash: 'refuse',
    doubleSlash: 'refuse',
    semicolon: 'refuse',
  })
})

test('reads the configuration that ships', async (t) => {
  const { applications } = parseConfig(await readFile('docker/gate.yaml', 'utf8'))
  t.deepEqual(
    applications.map(({ mode }) => mode),
    ['sign', 'pass', 'plain', 'plain'],
  )
})

test('reads JSON as well', (t) => {
  const json = JSON.stringify({
    issuer: { url: 'https://as.example' },
    applications: [
      { origin: 'https://a.example', upstream: { url: 'http://127.0.0.1:1' }, mode: 'pass' },
    ],
  })
  t.is(parseConfig(json).applications[0]?.mode, 'pass')
})

test('names every problem with its place', (t) => {
  const problems = problemsOf(`issuer: { url: http://as.example }
limit: {}
applications:
  - origin: https://api.example/path
    upstream: { url: ftp://x }
    mode: bearer
    requestHeaders: [holdfast-identity]
    routes:
      - path: /a/../b
        acces: public
`)
  t.deepEqual(problems.map((each) => each.replace(/ .*/, '')).sort(), [
    'g:10:9:',
    'g:1:11:',
    'g:2:1:',
    'g:4:5:',
    'g:5:17:',
    'g:6:5:',
    'g:7:22:',
    'g:9:9:',
  ])
  t.true(problems.includes('g:2:1: limit is not known'))
  t.true(problems.some((each) => each.startsWith('g:9:9: applications[0].routes[0].path must be')))
})

for (const [title, change, expected] of [
  ['a file that is no YAML', 'applications: [', /^g:\d+:\d+: /],
  ['a setting that is there twice', `${valid}issuer: {}`, /unique/],
  ['a missing issuer', valid.replace(/^issuer.*$/m, ''), /issuer is missing/],
  ['a mode that signs without a key', valid.replace(/^signing.*$/m, ''), /mode needs signing/],
  [
    'plain identity headers over the network',
    valid.replace("127.0.0.1:1' }", "10.0.0.1' }\n    mode: plain"),
    /mode plain identity headers need/,
  ],
  [
    'plain HTTP on every address',
    `listen: { host: 0.0.0.0 }${valid}`,
    /listen.host needs tls, or trustedProxies/,
  ],
  [
    'forwarded certificates of anyone',
    `forwarded: { certificate: nginx }${valid}`,
    /trustedProxies/,
  ],
  [
    'another field for a format that has only one',
    `trustedProxies: [10.0.0.1]\nforwarded: { certificateHeader: x-cert }${valid}`,
    /certificateHeader is for certificate nginx, haproxy or aws-alb/,
  ],
  ['a network with too long a prefix', `trustedProxies: [10.0.0.0/33]${valid}`, /network/],
  ['replicas that do not see the same proofs', `replicas: 2${valid}`, /replicas needs replay/],
  ['two stores', `replay: { redis: 'redis://a', postgres: 'postgresql://a' }${valid}`, /either/],
  ['a store of another kind', `replay: { redis: 'http://a:secret@b' }${valid}`, /rediss:\/\/$/],
  [
    'assertions that are good for long',
    valid.replace('[gate.pem]', '[a], lifetimeS: 31'),
    /lifetimeS/,
  ],
  [
    'a header that only the gate writes',
    `${valid}    requestHeaders: [x-forwarded-for]\n`,
    /requestHeaders\[0\] must be/,
  ],
  [
    'the id that the gate gives a request',
    `${valid}    requestHeaders: [x-request-id]\n`,
    /requestHeaders\[0\] must be/,
  ],
  [
    'a public route with a scope',
    `${valid}    routes: [{ path: /a, access: public, scopes: [b] }]\n`,
    /public route/,
  ],
  [
    'a sign-in without a secret',
    `${valid}    openid: { clientId: app }\n`,
    /openid needs browsers/,
  ],
  ...(
    [
      ['a token of nobody', 'upstreamToken: true, mode: pass', /upstreamToken needs openid/],
      [
        'sessions that nobody signs in to',
        'routes: [{ path: /a, bound: true }]',
        /bound needs openid/,
      ],
      [
        'an upstream token that is sent with an assertion',
        'openid: { clientId: a }, upstreamToken: true',
        /upstreamToken needs mode: pass/,
      ],
      [
        'browsers that an application never hears of',
        'openid: { clientId: a }, mode: pass',
        /mode needs/,
      ],
      [
        'a sign-in without the scope openid',
        'openid: { clientId: a, scopes: [email] }',
        /openid.scopes must name openid/,
      ],
      [
        'sessions that are bound over http',
        "origin: 'http://localhost', openid: { clientId: a }, routes: [{ path: /a, bound: true }]",
        /bound needs an origin with https/,
      ],
      [
        'keys of pages over http',
        "origin: 'http://localhost', openid: { clientId: a, pageKey: true }",
        /openid.pageKey needs an origin with https/,
      ],
      [
        'a route for keys of pages that no page makes',
        'openid: { clientId: a }, routes: [{ path: /a, bound: page-key }]',
        /bound needs openid.pageKey/,
      ],
      [
        'a route that is bound to something else',
        'openid: { clientId: a }, routes: [{ path: /a, bound: cookie }]',
        /bound must be true, false or page-key/,
      ],
    ] as const
  ).map(
    ([title, settings, expected]) =>
      [
        title,
        `browsers: { secretFiles: [s] }\nissuer: { url: https://as.example }\nsigning: { keyFiles: [k] }
applications: [{ ${settings.includes('origin') ? '' : 'origin: https://a.example, '}upstream: { url: 'http://127.0.0.1:1' }, ${settings} }]`,
        expected,
      ] as const,
  ),
  ['one path twice', `${valid}    routes: [{ path: /a }, { path: /A }]\n`, /is there twice/],
] as const) {
  test(`refuses ${title}`, (t) => {
    const problems = problemsOf(change)
    t.is(problems.length, 1, problems.join('\n'))
    t.regex(problems[0] ?? '', expected)
  })
}

test('checks a file and those that it names', async (t) => {
  const here = path.join(folder, 'check')
  await mkdir(here)
  const file = path.join(here, 'gate.yaml')
  await writeFile(file, valid)
  const missing = await holdfastGate('check', '--config', file)
  t.is(missing.code, 1)
  t.regex(missing.stderr, /signing.keyFiles\[0\] cannot be read \(ENOENT\)/)

  const key = path.join(here, 'gate.pem')
  t.is((await holdfastGate('key', key)).code, 0)
  t.is((await stat(key)).mode & 0o777, 0o600)
  const { code, stdout } = await holdfastGate('check', '--config', file)
  t.is(code, 0)
  t.regex(stdout, /is valid: https:\/\/api.example \(sign\)/)
  const secret = path.join(here, 'secret')
  t.is((await holdfastGate('secret', secret)).code, 0)
  const { stdout: jwks } = await holdfastGate('client-key', path.join(here, 'client.pem'))
  t.deepEqual(Object.keys(JSON.parse(jwks).keys[0]).sort(), ['alg', 'crv', 'kty', 'use', 'x', 'y'])
  const browsers = (name: string) => `browsers: { secretFiles: [${name}] }${valid}
    openid: { clientId: app, clientKeyFile: ${name === 'secret' ? 'client.pem' : 'gate.pem'} }\n`
  await writeFile(file, browsers('secret'))
  t.is((await holdfastGate('check', '--config', file)).code, 0)
  await writeFile(path.join(here, 'short'), 'short')
  await writeFile(file, browsers('short'))
  const short = (await holdfastGate('check', '--config', file)).stderr
  t.regex(short, /secretFiles\[0\] cannot be used: it must have at least 32 bytes/)
  t.regex(short, /openid.clientKeyFile cannot be used: it must be an EC key on P-256/)
  await writeFile(file, valid)
  // A key is never written over.
  const before = await readFile(key, 'utf8')
  t.is((await holdfastGate('key', key)).code, 1)
  t.is(await readFile(key, 'utf8'), before)

  await writeFile(key, 'no key')
  t.regex((await holdfastGate('check', '-c', file)).stderr, /cannot be used/)
  t.is((await holdfastGate('no-such-command')).code, 2)
})

test('follows its file, and keeps what it has where the next one cannot be used', async (t) => {
  const here = path.join(folder, 'reload')
  await mkdir(here)
  const file = path.join(here, 'gate.yaml')
  await holdfastGate('key', path.join(here, 'gate.pem'))
  const settings = `listen: { port: 0 }\noperations: { port: 0 }${valid}`
  const route = (where: string) => `${settings}    routes: [{ path: ${where}, access: public }]\n`
  await writeFile(file, route('/a'))
  const events: GateEvent[] = []
  await using gate = await runGate(file, { onEvent: (event) => events.push(event) })
  const statusOf = async (target: string, port: number | undefined = gate.port) =>
    (await fetch(`http://127.0.0.1:${port}${target}`)).status
  // The host is not that of an application; what counts here is that the gate answers.
  t.is(await statusOf('/a'), 421)
  t.is(await statusOf('/readyz', gate.operationsPort), 200)
  t.is(await statusOf('/livez', gate.operationsPort), 200)
  t.is(await statusOf('/other', gate.operationsPort), 404)
  const metrics = await fetch(`http://127.0.0.1:${gate.operationsPort}/metrics`)
  const text = await metrics.text()
  // By the standard fetch sends a request once more that was answered by 421.
  t.regex(text, /^holdfast_gate_refused_total\{reason="unknown_host"\} 2$/m)
  t.regex(text, /^holdfast_gate_refused_total\{reason="dpop_replayed"\} 0$/m)

  await writeFile(file, route('/b').replace('https://api.example', `http://127.0.0.1:${gate.port}`))
  await until(async () => (await statusOf('/a')) === 401)
  t.is(await statusOf('/b'), 502)
  await writeFile(file, 'applications: []')
  await until(async () => events.some(({ type }) => type === 'reload_failed'))
  t.is(await statusOf('/a'), 401)
  await writeFile(file, route('/a').replace('listen: { port: 0 }', 'listen: { port: 1 }'))
  t.false(await gate.reload())
  const failed = events.findLast((event) => event.type === 'reload_failed')
  t.regex(failed?.problems.join() ?? '', /A change of listen needs a restart/)
})
