/**
 * `npm run clients`: published OAuth and OpenID Connect libraries of several languages, installed
 * and driven against a server. `npm run clients -- NAME` runs one, several names several. Needs the package registries.
 */
import { randomUUID } from 'node:crypto'
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { drawProgressOn, showProgress } from '../../../src/commands/progress.ts'
import { freePort } from '../../../src/net/free-port.ts'
import { createBrowser } from '../../support/browser.ts'
import { selfSigned } from '../../support/certificates.ts'
import { startProgram } from '../../support/program.ts'
import { trust } from '../../support/trust.ts'
import { until } from '../../support/until.ts'
import { openChromium } from './chromium.ts'
import { install } from './install.ts'
import { type Library, libraries, versionOf } from './libraries.ts'
import { type OperatedServer, startServer } from './server.ts'
import { type Passed, type Person, useApplication } from './visitor.ts'

interface Context {
  readonly server: OperatedServer
  readonly person: Person
  readonly folder: string
}

/** Installs, registers, starts and drives one library. */
async function drive(library: Library, context: Context, passed: Passed): Promise<void> {
  const { server, person } = context
  const folder = path.join(context.folder, library.name)
  await mkdir(folder)
  const [file, ...args] = await install(library, folder)
  const port = String(await freePort())
  const base = `http://localhost:${port}`
  const certificate = library.tokens === 'mTLS' ? await writeCertificate(folder) : undefined
  const options = library.register.map((option) =>
    option.replace('BASE', base).replace(/^jwks\.json$/, path.join(folder, 'jwks.json')),
  )
  const client = await server.command(['clients', 'add', ...options])
  const log = path.join(folder, 'app.log')
  // Some programs run as another user.
  const authority = path.join(folder, 'authority.pem')
  await copyFile(server.authorityFile, authority)
  await using _program = startProgram(file, args, {
    folder,
    log,
    env: {
      HOME: process.env.HOME ?? '',
      ISSUER: server.issuer,
      CLIENT_ID: client.client_id ?? '',
      CLIENT_SECRET: client.client_secret ?? '',
      BASE: base,
      PORT: port,
      FOLDER: folder,
      API: api,
      // Each language has a variable of its own for what it trusts.
      NODE_EXTRA_CA_CERTS: authority,
      SSL_CERT_FILE: authority,
      REQUESTS_CA_BUNDLE: authority,
      ...certificate,
    },
  })
  try {
    await until(() => listens(base), 180_000)
    await using chromium = library.inBrowser ? await openChromium() : undefined
    const browser = chromium ?? createBrowser()
    await useApplication(browser, base, library.paths, person, passed)
    if (library.api !== undefined) {
      await useApi(server, base + library.api)
      passed('API')
    }
  } catch (error) {
    const output = (await readFile(log, 'utf8')).slice(-3000)
    throw new Error(`${(error as Error).message}\n${output}`, { cause: error })
  }
}

const api = 'https://api.example.com'

/** Calls an API with a token for it, and without one. */
async function useApi(server: OperatedServer, url: string): Promise<void> {
  const service = ['--grant', 'client_credentials', '--binding', 'bearer']
  const { client_id, client_secret } = await server.command(['clients', 'add', ...service])
  const asked = await fetch(`${server.issuer}/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa(`${client_id}:${client_secret}`)}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'read' }),
  })
  const { access_token } = (await asked.json()) as { access_token?: string }
  const { status } = await fetch(url, { headers: { authorization: `Bearer ${access_token}` } })
  const { status: without } = await fetch(url)
  if (status !== 200 || without !== 401) {
    throw new Error(`the API answers ${status} with a token and ${without} without one`)
  }
}

const listens = (url: string) =>
  fetch(url, { redirect: 'manual' }).then(
    () => true,
    () => false,
  )

/** A certificate that its own key has signed, and the JWK Set that it is registered by. */
async function writeCertificate(folder: string) {
  const { cert, key, certificate, der } = await selfSigned()
  const jwk = { ...certificate.publicKey.export({ format: 'jwk' }), x5c: [der.toString('base64')] }
  const files = {
    CERTIFICATE: path.join(folder, 'client.pem'),
    CERTIFICATE_KEY: path.join(folder, 'client-key.pem'),
  }
  await writeFile(files.CERTIFICATE, cert)
  await writeFile(files.CERTIFICATE_KEY, key)
  await writeFile(path.join(folder, 'jwks.json'), JSON.stringify({ keys: [jwk] }))
  return files
}

const wanted = process.argv.slice(2)
const chosen = libraries.filter(({ name }) => wanted.length === 0 || wanted.includes(name))
if (chosen.length === 0) {
  const names = libraries.map(({ name }) => name).join(', ')
  throw new Error(`There is no driver ${wanted.join(' ')}. There are ${names}.`)
}
drawProgressOn(process.stderr)
using progress = showProgress()
const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-clients-'))
// Root's PostgreSQL runs as another user, who must get in.
await chmod(folder, 0o755)
await using cleanUp = new AsyncDisposableStack()
cleanUp.defer(() => rm(folder, { recursive: true, force: true }))
progress.report('Starting the server', 0, chosen.length + 1)
const server = cleanUp.use(await startServer(path.join(folder, 'server')))
await trust(server)
const person: Person = { email: 'ada@example.com', password: randomUUID() }
await server.command(
  ['accounts', 'add', person.email, '--name', 'Ada', '--email-verified', '--password-stdin'],
  person.password,
)
await server.command(['resources', 'add', api, '--scope', 'read'])
const context = { server, person, folder }
for (const [at, library] of chosen.entries()) {
  progress.report(library.name, at + 1, chosen.length + 1)
  const steps: string[] = []
  const failure = await drive(library, context, (step) => steps.push(step)).catch(
    (error: Error) => error,
  )
  progress.rest()
  const needs = `clients add ${library.register.join(' ')}`
  const passed = `passed ${steps.join(', ') || 'nothing'}`
  process.stdout.write(
    `${library.name} ${versionOf(library)}  ${library.tokens}  ${passed}  needs: ${needs}\n`,
  )
  if (!failure) continue
  process.stdout.write(`  FAILED: ${failure.message.replaceAll('\n', '\n  ')}\n`)
  process.exitCode = 1
}
