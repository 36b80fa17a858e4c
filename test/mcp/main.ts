/**
 * `npm run conformance:mcp`: the conformance tests of the Model Context Protocol for authorization
 * servers and DPoP, and the official SDKs as agents that know nothing but an address, against a server
 * that is started here. Needs the package registry; packages are kept in a folder for the next time.
 */
import { spawn } from 'node:child_process'
import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { ExtendedKeyUsage } from '../../src/certificates/x509.ts'
import { freePort } from '../../src/net/free-port.ts'
import { createGuardedFetch } from '../../src/net/guarded-fetch.ts'
import { agentDocument } from '../support/agents.ts'
import { createAuthority } from '../support/certificates.ts'
import { createPerson } from '../support/flow.ts'
import { startTestServer } from '../support/server.ts'
import { npmInstall } from '../support/verify/package.ts'
import { startMcpServer } from './mcp-server.ts'

const packages = {
  '@modelcontextprotocol/conformance': '0.2.0-alpha.12',
  '@modelcontextprotocol/sdk': '1.32.2',
  '@modelcontextprotocol/client': '2.4.0',
  '@modelcontextprotocol/server': '2.4.0',
  jose: '6.2.18',
}
const callback = 'http://localhost:3118/callback'

/** A folder with the packages in these versions, which the next run finds. */
async function installed(): Promise<string> {
  const folder = path.join(tmpdir(), 'holdfast-conformance-mcp')
  const wanted = Object.entries(packages).map(([name, version]) => `${name}@${version}`)
  await mkdir(folder, { recursive: true })
  const marker = path.join(folder, 'installed')
  const before = await readFile(marker, 'utf8').catch(() => '')
  if (before !== wanted.join('\n')) {
    await writeFile(path.join(folder, 'package.json'), '{"type":"module","private":true}')
    await npmInstall(wanted, folder)
    await writeFile(marker, wanted.join('\n'))
  }
  await cp(path.join(import.meta.dirname, 'programs'), folder, { recursive: true })
  return folder
}

/** The host of a document that describes the agents, and a fetch that finds it. */
async function startDocumentHost() {
  const authority = await createAuthority()
  const { cert, key } = await authority.issue({
    names: [{ type: 'dns', value: 'agent.example' }],
    usage: [ExtendedKeyUsage.serverAuth],
  })
  const port = await freePort()
  const url = `https://agent.example:${port}/oauth/client.json`
  const document = agentDocument(url, { client_name: 'Agent', redirect_uris: [callback] })
  const server = createServer({ cert, key }, (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json', etag: '"1"' })
    response.end(JSON.stringify(document))
  })
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  const guardedFetch = createGuardedFetch({
    resolve: async () => ['127.0.0.1'],
    development: { addresses: ['127.0.0.1'], ca: authority.cert },
  })
  return {
    url,
    guardedFetch,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
    },
  }
}

let failed = 0

function say(isPassed: boolean, what: string, detail = ''): void {
  if (!isPassed) failed += 1
  process.stdout.write(`${isPassed ? 'passed' : 'FAILED'}  ${what}${detail && `\n${detail}`}\n`)
}

const folder = await installed()
await using documentHost = await startDocumentHost()
await using server = await startTestServer(
  { HOLDFAST_CLIENT_ID_METADATA: 'on', HOLDFAST_REGISTRATION: 'open' },
  { guardedFetch: documentHost.guardedFetch },
)
await using mcp = await startMcpServer({ port: await freePort(), issuer: server.issuer, folder })
const scopes = ['mcp:tools']
await server.storage.resourceServers.insert({
  identifier: mcp.resource,
  name: 'Notes',
  scopes,
  openScopes: scopes,
})

/** Runs an agent, with somebody at the browser. */
async function runAgent(program: string, env: Record<string, string>) {
  const child = spawn(process.execPath, [program, mcp.resource], {
    cwd: folder,
    env: { PATH: process.env.PATH ?? '', REDIRECT_URI: callback, ...env },
    timeout: 120_000,
  })
  const said: string[] = []
  child.stderr.on('data', (data) => said.push(String(data)))
  let done: Record<string, string> | undefined
  for await (const line of createInterface(child.stdout)) {
    if (line.startsWith('OPEN ')) {
      const query = new URL(line.slice(5)).searchParams
      const parameters = { ...Object.fromEntries(query), redirect_uri: callback }
      const back = await createPerson(server).authorize(parameters)
      child.stdin.write(`${back.href}\n`)
    } else if (line.startsWith('DONE ')) done = JSON.parse(line.slice(5))
    else said.push(line)
  }
  return { done, said: said.join('\n') }
}

const agents = {
  'client-2.js': '@modelcontextprotocol/client',
  'sdk-1.js': '@modelcontextprotocol/sdk',
} as const
for (const [program, name] of Object.entries(agents) as [keyof typeof agents, string][]) {
  for (const way of ['document', 'registration'] as const) {
    const env = way === 'document' ? { CLIENT_METADATA_URL: documentHost.url } : {}
    const { done, said } = await runAgent(program, env)
    const isPassed =
      done !== undefined &&
      (done.clientId === documentHost.url) === (way === 'document') &&
      done.resource === mcp.resource &&
      done.challenge === 'S256' &&
      done.tokenType?.toLowerCase() === 'dpop' &&
      done.text === `You are ${done.clientId}` &&
      !/invalid oauth error response/i.test(said)
    const version = packages[agents[program]]
    const steps = 'discovery, PKCE, resource, DPoP, tool call'
    say(
      isPassed,
      `${name} ${version}, by ${way}: ${steps}`,
      isPassed ? '' : `${said}\n${JSON.stringify(done)}`,
    )
  }
}

/** Runs scenarios of the conformance tests, and says what has come of each check. */
async function conform(kind: string, args: readonly string[], person?: (line: string) => void) {
  const file = path.join(folder, 'node_modules/@modelcontextprotocol/conformance/dist/index.js')
  const child = spawn(process.execPath, [file, kind, ...args], {
    cwd: folder,
    env: { PATH: process.env.PATH ?? '', PERSON: 'none' },
    timeout: 120_000,
  })
  const lines: string[] = []
  child.stderr.on('data', (data) => lines.push(String(data)))
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve))
  for await (const line of createInterface(child.stdout)) {
    lines.push(line)
    person?.(line)
  }
  return { code: await ended, output: lines.join('\n') }
}

/** What the conformance tests have written of a scenario, the last one at the end. */
async function checksOf(scenario: string): Promise<string> {
  const files = await readdir(path.join(folder, 'results'), { recursive: true })
  const found = files
    .filter((name) => name.includes(scenario) && name.endsWith('checks.json'))
    .sort()
  return found.length > 0 ? readFile(path.join(folder, 'results', found.at(-1) ?? ''), 'utf8') : ''
}

const conformancePort = await freePort()
const { client_id } = await server.addClient({
  // The scenario knows no DPoP and names no scope.
  binding_method: 'bearer',
  redirect_uris: [`http://127.0.0.1:${conformancePort}/callback`],
  default_scope: scopes.join(' '),
})
const open = (line: string) => {
  const [address] = /^http\S+\/authorize\?\S+$/.exec(line.trim()) ?? []
  if (!address) return
  const parameters = Object.fromEntries(new URL(address).searchParams)
  createPerson(server)
    .authorize(parameters)
    .then((back) => fetch(back))
    .catch((error) => process.stderr.write(`${error}\n`))
}
const ofServer = ['authorization-server-metadata-endpoint', 'authorization-code-grant']
const settings = ['--url', server.issuer, '--client-id', client_id, '--resource', mcp.resource]
const { code, output } = await conform(
  'authorization',
  [...settings, '--port', String(conformancePort), '--output-dir', path.join(folder, 'results')],
  open,
)
for (const scenario of ofServer) {
  const [line = ''] = output.match(new RegExp(`^.*${scenario}: \\d+ passed.*$`, 'm')) ?? []
  const isPassed = code === 0 && / 0 failed/.test(line) && !/ 0 passed/.test(line)
  say(isPassed, `conformance: ${scenario}`, isPassed ? '' : output + (await checksOf(scenario)))
}
for (const scenario of ['auth/dpop', 'auth/dpop-nonce']) {
  const command = `${process.execPath} client-2.js`
  const { code, output } = await conform('client', ['--command', command, '--scenario', scenario])
  say(
    code === 0,
    `conformance: ${scenario} (a client by the official SDK)`,
    code === 0 ? '' : output,
  )
}
process.exitCode = failed === 0 ? 0 : 1
