// The programs of examples/, as people start them, against one server.
import { chmod, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import { freePort } from '../src/net/free-port.ts'
import { fromSources } from './support/cli.ts'
import { approve, deviceEnvironment, television } from './support/device-flow.ts'
import { type Examples, ended, printed, startExamples } from './support/examples.ts'
import { createPerson } from './support/flow.ts'
import { useMtlsServer } from './support/mtls.ts'

const mtls = useMtlsServer(test, deviceEnvironment)
const root = path.resolve(import.meta.dirname, '..')
let examples: Examples

test.before(async () => {
  const { server, folder } = mtls
  const cli = `exec "${process.execPath}" ${fromSources} "${root}/src/cli.ts" "$@"`
  await writeFile(path.join(folder, 'holdfast'), `#!/bin/sh\n${cli}\n`)
  await chmod(path.join(folder, 'holdfast'), 0o755)
  examples = await startExamples(server, { folder, authorityFile: server.authorityFile ?? '' })
})

test.after.always(() => examples?.[Symbol.asyncDispose]())

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
  const appUrl = `http://127.0.0.1:${await freePort()}`
  const { client_id } = await mtls.server.addClient()
  const app = examples.start('relying-party/main.js', { APP: appUrl, CLIENT_ID: client_id })
  await printed(app, /The application listens/)
  const person = createPerson(mtls.server)
  t.regex((await person.browser.visit(appUrl)).html, /Sign in/)
  const url = (await person.browser.visit(`${appUrl}/login`, { until: mtls.server.issuer })).url
  const arrived = await person.authorize({
    ...Object.fromEntries(url.searchParams),
    redirect_uri: `${appUrl}/callback`,
  })
  const page = await person.browser.visit(arrived)
  t.regex(page.html, /a harbour map.*"proven":\["dpop"\]/)
})

test('the machine client calls the API, and its token is refused as a bearer token', async (t) => {
  const output = await ended(examples.start('machine-client/main.js', await addService()))
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
  const output = await ended(examples.start('mtls-client/main.js', client))
  t.regex(output, /^200 .*"proven":\["mtls"\].*\n401 .*error="invalid_token"/)
})

test('the device is let in and calls the API', async (t) => {
  const { client_id } = await mtls.server.addClient(television)
  const device = examples.start('device/main.js', { CLIENT_ID: client_id })
  const output = ended(device)
  const asked = await printed(device, /type \S+\n/)
  await approve(mtls.server, createPerson(mtls.server), /type (\S+)/.exec(asked)?.[1] ?? '')
  t.regex(await output, /\n200 .*"proven":\["dpop"\]/)
})

test('curl gets a token and calls the API, with proofs by holdfast proof', async (t) => {
  t.regex(
    await ended(examples.start('curl/run.sh', await addService())),
    /^\{"orders":\["a harbour map"\]/,
  )
})
