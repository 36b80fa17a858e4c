import { execFile, spawn } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { passkeyAcr } from '../../src/accounts/acr.ts'
import { developmentCertificate } from '../../src/http/development-authority.ts'
import type { Environment } from './environment.ts'
import { failed, stopped } from './gate-applications.ts'

/** `holdfast gate`, as an operator runs it. */
export interface GateProgram extends AsyncDisposable {
  /** What `gate check` says of the configuration. */
  check(): Promise<string>
  /** Resolves when it listens. */
  start(): Promise<void>
  /** SIGTERM, and what follows from it. */
  stop(): Promise<void>
}

/** What the configuration names. */
export interface GateSettings {
  readonly port: number
  readonly operationsPort: number
  readonly database: string
  readonly origins: Readonly<Record<'notes' | 'orders' | 'reports', string>>
  /** Where the gate takes the applications to be. */
  readonly upstreams: Readonly<Record<'notes' | 'orders' | 'reports', number>>
  /** Seconds for which a proof of the browser's key is good. */
  readonly windowS: number
}

const run = promisify(execFile)
const holdfast = ['bin/holdfast.cjs', 'gate']

/** Writes the configuration of a gate, and the files that it names. */
export async function prepareGate(
  {
    issuer,
    dataFolder,
    authorityFile,
  }: Pick<Environment, 'issuer' | 'dataFolder' | 'authorityFile'>,
  settings: GateSettings,
): Promise<GateProgram> {
  const folder = path.join(dataFolder, 'gate')
  await mkdir(folder)
  // Settings of a server that the person at the terminal runs are not those of the demo's.
  const env = { ...othersOf(process.env), NODE_EXTRA_CA_CERTS: authorityFile }
  const gate = (...args: string[]) =>
    run(process.execPath, [...holdfast, ...args], { env }).then(({ stdout }) => stdout.trim())
  const file = path.join(folder, 'gate.yaml')
  const names = Object.values(settings.origins).map((origin) => new URL(origin).hostname)
  const { cert, key } = await developmentCertificate(path.dirname(authorityFile), names)
  await Promise.all([
    writeFile(path.join(folder, 'tls.crt'), cert),
    writeFile(path.join(folder, 'tls.key'), key, { mode: 0o600 }),
    writeFile(file, configurationOf(issuer, settings)),
    gate('key', path.join(folder, 'signing.pem')),
    gate('secret', path.join(folder, 'browsers.secret')),
  ])

  let stop = () => Promise.resolve()
  return {
    check: () => gate('check', '--config', file),
    async start() {
      const child = spawn(process.execPath, [...holdfast, 'serve', '--config', file], {
        env,
        stdio: ['ignore', 'inherit', 'pipe'],
      })
      stop = () => stopped(child)
      const listening = new Promise<void>((resolve) => {
        createInterface(child.stderr).on('line', (line) => {
          if (line.includes('"listening"')) resolve()
        })
      })
      await Promise.race([listening, failed(child, 'the gate')])
    },
    stop: () => stop(),
    [Symbol.asyncDispose]: () => stop(),
  }
}

/** The whole configuration; everything else is as it is by default. */
const configurationOf = (
  issuer: string,
  { port, operationsPort, database, origins, upstreams, windowS }: GateSettings,
) => `
listen: { port: ${port} }
tls: { certFile: tls.crt, keyFile: tls.key }
operations: { port: ${operationsPort} }
issuer: { url: ${issuer} }
replay: { postgres: "${database}" }
browsers: { secretFiles: [browsers.secret] }
signing: { keyFiles: [signing.pem] }
applications:
  - origin: ${origins.notes}
    upstream: { url: http://127.0.0.1:${upstreams.notes} }
    mode: plain
    openid: { clientId: notes, scopes: [openid, profile, email, groups], proofS: ${windowS} }
    routes:
      - { path: /help, access: public }
      - { path: /bound, bound: true }
      - { path: /crew, groups: [crew] }
      - { path: /payroll, acrValues: [${passkeyAcr}] }
  - origin: ${origins.orders}
    upstream: { url: http://127.0.0.1:${upstreams.orders} }
    mode: sign
    openid: { clientId: orders, scopes: [openid, email], proofS: ${windowS} }
    routes:
      - { path: /admin, scopes: [admin] }
  - origin: ${origins.reports}
    upstream: { url: http://127.0.0.1:${upstreams.reports} }
    mode: pass
    upstreamToken: true
    openid: { clientId: reports, scopes: [openid, read], resource: ${origins.reports}, proofS: ${windowS} }
`

/** The variables of this process, but for those of a Holdfast. */
export const othersOf = (variables: NodeJS.ProcessEnv) =>
  Object.fromEntries(
    Object.entries(variables).filter(
      ([name]) => !name.startsWith('HOLDFAST_') && name !== 'DATABASE_URL',
    ),
  )
