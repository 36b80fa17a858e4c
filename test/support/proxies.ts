import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import { get } from 'node:https'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import type { TestFn } from 'ava'
import type { CertificateHeaderFormat } from '../../packages/verify/client-certificate.ts'
import { developmentCertificate } from '../../src/http/development-authority.ts'
import { freePort } from '../../src/net/free-port.ts'
import type { TestAuthority } from './certificates.ts'
import { until } from './until.ts'

const run = promisify(execFile)

export type ProxyName = 'nginx' | 'haproxy' | 'envoy' | 'caddy' | 'traefik'

/** The format in which each writes the certificate, as it ships. */
export const formatOf = {
  nginx: 'nginx',
  haproxy: 'rfc9440',
  envoy: 'envoy',
  caddy: 'rfc9440',
  traefik: 'haproxy',
} as const

const howToInstall = {
  nginx: 'apt-get install nginx',
  haproxy: 'apt-get install haproxy',
  envoy: 'as .ci/run does',
  caddy: 'apt-get install caddy',
  traefik: 'docs/gate.md says how it was tested',
}

export interface RunningProxy extends AsyncDisposable {
  readonly publicOrigin: string
  readonly mtlsOrigin: string
  /** The authority of the proxy's own certificate, PEM. */
  readonly ca: string
}

export interface ProxyOptions {
  /** The ports of loopback that requests are sent on to: of HAProxy there may be several. */
  readonly upstream: number | readonly number[]
  /** Of clients, PEM; for the proxies that want to know one. */
  readonly authority: TestAuthority
  /** Names of the certificate, beside localhost. */
  readonly names?: readonly string[]
  readonly ports?: { public: number; mtls: number }
  /** The path that clients write, and what the proxy makes of it; by default there is none. */
  readonly paths?: { public: string; upstream: string }
  /** The header by which the certificate goes on, where the shipped one is not meant. */
  readonly format?: CertificateHeaderFormat
  /** Where the configuration is, and what else it reads: by default that of the server. */
  readonly templates?: {
    readonly folder: string
    readonly variables: Record<string, string>
    /** Of Envoy, where it is not `envoy.yaml.template`. */
    readonly file?: string
  }
  /** Breaks the shipped configuration, for those who are to notice. */
  readonly edit?: (configuration: string) => string
}

/** Runs tests where a proxy is installed. Elsewhere they are skipped loudly, and in CI they fail. */
export function testWith<Context>(
  test: TestFn<Context>,
  proxy: ProxyName,
): TestFn<Context> | TestFn<Context>['skip'] {
  if (isInstalled(proxy)) return test
  const message = `${proxy} is not installed: its tests are skipped (${howToInstall[proxy]})`
  // No package of Debian or PyPI has Traefik.
  if (process.env.CI && proxy !== 'traefik') throw new Error(message)
  process.stderr.write(`\n!!! ${message}\n\n`)
  return test.skip
}

export function isInstalled(proxy: ProxyName): boolean {
  return binaryOf(proxy) !== undefined
}

function binaryOf(proxy: ProxyName): string | undefined {
  const path = (process.env.PATH ?? '').split(':').filter(Boolean)
  const folders = ['/usr/sbin', '/usr/bin', '/usr/local/bin', ...path]
  return folders.map((folder) => `${folder}/${proxy}`).find((file) => existsSync(file))
}

/** Starts a proxy with the configuration that ships in docker/. */
export async function startProxy(name: ProxyName, options: ProxyOptions): Promise<RunningProxy> {
  await using opened = new AsyncDisposableStack()
  const folder = await mkdtemp(path.join(tmpdir(), `holdfast-${name}-`))
  opened.defer(() => rm(folder, { recursive: true, force: true }))
  const ports = options.ports ?? { public: await freePort(), mtls: await freePort() }
  const { cert, key, authorityFile } = await developmentCertificate(folder, options.names ?? [])
  const file = async (base: string, text: string) => {
    const target = path.join(folder, base)
    await writeFile(target, text)
    return target
  }
  const [upstream = 0, ...more] = [options.upstream].flat()
  const variables = {
    HOLDFAST_UPSTREAM: `127.0.0.1:${upstream}`,
    UPSTREAM_HOST: '127.0.0.1',
    UPSTREAM_PORT: String(upstream),
    LISTEN_ADDRESS: '127.0.0.1',
    PUBLIC_NAME: 'localhost',
    PUBLIC_PATH: options.paths?.public ?? '',
    UPSTREAM_PATH: options.paths?.upstream ?? '',
    PUBLIC_PORT: String(ports.public),
    PUBLIC_BIND: `127.0.0.1:${ports.public}`,
    MTLS_NAME: 'localhost',
    MTLS_PORT: String(ports.mtls),
    MTLS_BIND: `127.0.0.1:${ports.mtls}`,
    TLS_CERT_FILE: await file('cert.pem', cert),
    TLS_KEY_FILE: await file('key.pem', key),
    TLS_PEM_FILE: await file('both.pem', `${cert}\n${key}`),
    CLIENT_CA_FILE: await file('clients.pem', options.authority.cert),
    ...options.templates?.variables,
  }
  opened.use(
    await startOf[name]({
      folder,
      templates: options.templates?.folder ?? 'docker',
      envoyFile: options.templates?.file ?? 'envoy.yaml.template',
      variables,
      file,
      format: options.format,
      edit: (configuration) => withServers(options.edit?.(configuration) ?? configuration, more),
    }),
  )
  const running = opened.move()
  return {
    publicOrigin: `https://localhost:${ports.public}`,
    mtlsOrigin: `https://localhost:${ports.mtls}`,
    ca: await readFile(authorityFile, 'utf8'),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  }
}

/** Writes the lines of HAProxy's first server once more for each other one. */
function withServers(configuration: string, ports: readonly number[]): string {
  return configuration.replace(/(^ +server .*\n)+/gm, (lines) =>
    ports.reduce(
      (all, port, at) =>
        all +
        lines
          .replaceAll('holdfast-1', `holdfast-${at + 2}`)
          .replace(/"\$\{HOLDFAST_UPSTREAM\}"/g, `127.0.0.1:${port}`),
      lines,
    ),
  )
}

interface Start {
  readonly folder: string
  readonly templates: string
  readonly envoyFile: string
  readonly variables: Record<string, string>
  readonly format: CertificateHeaderFormat | undefined
  edit(configuration: string): string
  file(base: string, text: string): Promise<string>
}

/** The image's envsubst, and a main file with everything in one folder. */
async function startNginx({
  folder,
  templates,
  variables,
  file,
  edit,
}: Start): Promise<AsyncDisposable> {
  const template = await readFile(`${templates}/nginx.conf.template`, 'utf8')
  // In a container nginx listens on all addresses; here on loopback only.
  const onLoopback = (name: string) => variables[name.replace('_PORT', '_BIND')]
  const servers = edit(template).replace(/\$\{(\w+)\}/g, (_, name) => onLoopback(name) ?? '')
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (kind) => `${kind}_temp_path ${folder}/${kind};`,
  )
  const main = await file(
    'nginx.conf',
    `${process.getuid?.() === 0 ? 'user root;' : ''}
     pid ${folder}/pid;
     error_log ${folder}/error.log;
     events {}
     http { access_log off; ${temporary.join(' ')} ${servers} }`,
  )
  // Ends when it listens, and goes on in the background.
  await run(binaryOf('nginx') ?? '', ['-c', main, '-p', folder])
  return stopping(path.join(folder, 'pid'))
}

async function startHaproxy({
  folder,
  templates,
  variables,
  file,
  format,
  edit,
}: Start): Promise<AsyncDisposable> {
  const shipped = await readFile(`${templates}/haproxy.cfg`, 'utf8')
  const config =
    format === 'haproxy'
      ? shipped.replace(
          'set-header Client-Cert ":%[var(txn.certificate)]:"',
          'set-header X-SSL-Client-DER %[var(txn.certificate)]',
        )
      : shipped
  const pid = path.join(folder, 'pid')
  const main = await file('haproxy.cfg', edit(config))
  await run(binaryOf('haproxy') ?? '', ['-D', '-p', pid, '-f', main], {
    env: { ...process.env, ...variables },
  })
  return stopping(pid)
}

async function startEnvoy({
  folder,
  templates,
  envoyFile,
  variables,
  file,
  edit,
}: Start): Promise<AsyncDisposable> {
  const template = await readFile(`${templates}/${envoyFile}`, 'utf8')
  const config = edit(template).replace(/\$\{(\w+)\}/g, (_, name) => variables[name] ?? '')
  const main = await file('envoy.yaml', config)
  const options = ['--disable-hot-restart', '--concurrency', '1', '--log-level', 'error']
  const log = path.join(folder, 'envoy.log')
  const child = spawn(
    binaryOf('envoy') ?? '',
    ['--config-path', main, ...options, '--log-path', log],
    { stdio: 'ignore' },
  )
  return listening(child, log, variables)
}

/** Caddy reads the variables itself. What it keeps of its own goes into the folder. */
async function startCaddy({
  folder,
  templates,
  variables,
  file,
  edit,
}: Start): Promise<AsyncDisposable> {
  const main = await file('Caddyfile', edit(await readFile(`${templates}/Caddyfile`, 'utf8')))
  const log = path.join(folder, 'caddy.log')
  await using output = await open(log, 'w')
  const child = spawn(
    binaryOf('caddy') ?? '',
    ['run', '--config', main, '--adapter', 'caddyfile'],
    { stdio: ['ignore', output.fd, output.fd], env: { ...variables, HOME: folder } },
  )
  return listening(child, log, variables)
}

/** Two files: what Traefik reads once, and what it could read again. */
async function startTraefik({
  folder,
  templates,
  variables,
  file,
  edit,
}: Start): Promise<AsyncDisposable> {
  const fill = async (name: string, more: Record<string, string> = {}) => {
    const template = await readFile(`${templates}/${name}.template`, 'utf8')
    const all: Record<string, string> = { ...variables, ...more }
    return file(
      name,
      edit(template).replace(/\$\{(\w+)\}/g, (_, key) => all[key] ?? ''),
    )
  }
  const dynamic = await fill('traefik-dynamic.yaml')
  const main = await fill('traefik.yaml', { TRAEFIK_DYNAMIC: dynamic })
  const log = path.join(folder, 'traefik.log')
  await using output = await open(log, 'w')
  const child = spawn(binaryOf('traefik') ?? '', [`--configFile=${main}`], {
    stdio: ['ignore', output.fd, output.fd],
    env: { HOME: folder },
  })
  const running = await listening(child, log, variables)
  // It listens before it has read the second file.
  await until(async () => (await statusOf(Number(variables.PUBLIC_PORT))) !== 404)
  return running
}

function statusOf(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const options = { port, host: '127.0.0.1', rejectUnauthorized: false, agent: false }
    const asked = get(options, (answer) => {
      answer.resume()
      resolve(answer.statusCode)
    })
    asked.once('error', () => resolve(404))
  })
}

const startOf = {
  nginx: startNginx,
  haproxy: startHaproxy,
  envoy: startEnvoy,
  caddy: startCaddy,
  traefik: startTraefik,
} as const

/** Waits for a proxy in the foreground, which ends with its handle. */
async function listening(
  child: ChildProcess,
  log: string,
  ports: Record<string, string>,
): Promise<AsyncDisposable> {
  const ended = once(child, 'exit')
  const running = {
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM')
      await ended
    },
  }
  try {
    await until(async () => {
      if (child.exitCode !== null) throw new Error(await readFile(log, 'utf8'))
      return (await accepts(Number(ports.PUBLIC_PORT))) && (await accepts(Number(ports.MTLS_PORT)))
    })
  } catch (error) {
    await running[Symbol.asyncDispose]()
    throw error
  }
  return running
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('error', () => resolve(false))
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
  })
}

async function stopping(pidFile: string): Promise<AsyncDisposable> {
  const pid = Number(await readFile(pidFile, 'utf8'))
  return {
    async [Symbol.asyncDispose]() {
      process.kill(pid, 'SIGTERM')
    },
  }
}
