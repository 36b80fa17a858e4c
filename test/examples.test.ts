// The programs of examples/, as people start them, against one server.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import test from 'ava'
import { developmentCertificate } from '../src/http/development-authority.ts'
import { freePort } from '../src/net/free-port.ts'
import { fromSources } from './support/cli.ts'
import { approve, deviceEnvironment, television } from './support/device-flow.ts'
import { createPerson } from './support/flow.ts'
import { useMtlsServer } from './support/mtls.ts'

const mtls = useMtlsServer(test, deviceEnvironment)
const root = path.resolve(import.meta.dirname, '..')
const running: ChildProcess[] = []
let environment: Record<string, string>

/** Starts a program of examples/ with nothing in its environment but what is said here. */
function start(program: string, more: Record<string, string> = {}): ChildProcess {
  const file = path.join(root, 'examples', program)
  const [command, args] = file.endsWith('.sh')
    ? [file, []]
    : [process.execPath, [fromSources, file]]
  const child = spawn(command, args, {
    cwd: mtls.folder,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { PATH: `${mtls.folder}:${process.env.PATH}`, ...environment, ...more },
  })
  running.push(child)
  return child
}

/** What it prints until it ends. */
const run = (...program: Parameters<typeof start>) => ended(start(...program))
const ended = ({ stdout }: ChildProcess) => text(stdout as NodeJS.ReadableStream)

/** What it has printed by the time that it matches. */
function printed({ stdout }: ChildProcess, pattern: RegExp): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  let output = ''
  stdout?.on('data', (chunk: Buffer) => {
    output += chunk
    if (pattern.test(output)) resolve(output)
  })
  stdout?.on('end', () => reject(new Error(`it ended: ${output}`)))
  return promise
}

test.before(async () => {
  const { server, folder } = mtls
  const api = `https://localhost:${await freePort()}`
  const { authorityFile = '' } = server
  const { cert, key } = await developmentCertificate(path.dirname(authorityFile), [])
  await writeFile(path.join(folder, 'api.pem'), cert)
  await writeFile(path.join(folder, 'api-key.pem'), key)
  await server.storage.resourceServers.insert({ identifier: api, name: 'Orders', scopes: ['read'] })
  const cli = `exec "${process.execPath}" ${fromSources} "${root}/src/cli.ts" "$@"`
  await writeFile(path.join(folder, 'holdfast'), `#!/bin/sh\n${cli}\n`)
  await chmod(path.join(folder, 'holdfast'), 0o755)
  const trusted = { NODE_EXTRA_CA_CERTS: authorityFile, CURL_CA_BUNDLE: authorityFile }
  environment = { ISSUER: server.issuer, API: api, ...trusted }
  await printed(start('api/main.js'), /The API listens/)
})

test.after.always(async () => {
  for (const child of running) {
    if (child.exitCode === null && child.kill()) await once(child, 'exit')
  }
})

async function addService(changes: Parameters<typeof mtls.server.addClient>[0] = {}) {
  const { client_id, client_secret } = await mtls.server.addClient({
    redirect_uris: [],
    response_types: [],
    grant_types: ['client_credentials'],
    token_endpoint_auth_method: 'client_secret_basic',
    ...changes,
  })
  return { CLIENT_ID: client_id, ...(client_secret && { CLIENT_SECRET: client_secret }) }
}

test('the relying party signs a person in and calls the API', async (t) => {
  const APP = `http://127.0.0.1:${await freePort()}`
  const { client_id } = await mtls.server.addClient()
  const app = start('relying-party/main.js', { APP, CLIENT_ID: client_id })
  await printed(app, /The application listens/)
  const person = createPerson(mtls.server)
  t.regex((await person.browser.visit(APP)).html, /Sign in/)
  const url = (await person.browser.visit(`${APP}/login`, { until: mtls.server.issuer })).url
  const arrived = await person.authorize({
    ...Object.fromEntries(url.searchParams),
    redirect_uri: `${APP}/callback`,
  })
  const page = await person.browser.visit(arrived)
  t.regex(page.html, /a harbour map.*"proven":\["dpop"\]/)
})

test('the machine client calls the API, and its token is refused as a bearer token', async (t) => {
  const output = await run('machine-client/main.js', await addService())
  t.regex(output, /^200 .*a harbour map.*\n401 Bearer error="invalid_token"/)
})

test('the mTLS client calls the API, and its token is refused without the certificate', async (t) => {
  const { cert, key } = await mtls.root.issue({ names: [{ type: 'dns', value: 'ledger.example' }] })
  await writeFile(path.join(mtls.folder, 'ledger.pem'), cert)
  await writeFile(path.join(mtls.folder, 'ledger-key.pem'), key)
  const client = await addService({
    token_endpoint_auth_method: 'tls_client_auth',
    tls_client_auth_san_dns: 'ledger.example',
    binding_method: 'mtls',
  })
  const output = await run('mtls-client/main.js', client)
  t.regex(output, /^200 .*"proven":\["mtls"\].*\n401 .*error="invalid_token"/)
})

test('the device is let in and calls the API', async (t) => {
  const { client_id } = await mtls.server.addClient(television)
  const device = start('device/main.js', { CLIENT_ID: client_id })
  const output = ended(device)
  const asked = await printed(device, /type \S+\n/)
  await approve(mtls.server, createPerson(mtls.server), /type (\S+)/.exec(asked)?.[1] ?? '')
  t.regex(await output, /\n200 .*"proven":\["dpop"\]/)
})

test('curl gets a token and calls the API, with proofs by holdfast proof', async (t) => {
  t.regex(await run('curl/run.sh', await addService()), /^\{"orders":\["a harbour map"\]/)
})
