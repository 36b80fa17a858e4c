/**
 * `npm run test:frameworks`: the examples for Nest and Next as real applications, with the packed
 * library and the versions below from npm. Too large to be installed for `npm test`.
 */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import ts from 'typescript'
import { drawProgressOn, showProgress } from '../../src/commands/progress.ts'
import { freePort } from '../../src/net/free-port.ts'
import { until } from '../support/until.ts'
import { accessToken, dpopProof, issuer, jwks } from '../support/verify/fixtures.ts'
import { temporaryFolder } from '../support/verify/folder.ts'
import { npmInstall, packVerify, run } from '../support/verify/package.ts'

const examples = path.resolve(import.meta.dirname, '../../examples/verify')

/** Loaded into an application: the issuer of the examples answers in its process. */
const preload = `
const published = ${JSON.stringify({
  [`${issuer}/.well-known/oauth-authorization-server`]: { issuer, jwks_uri: `${issuer}/jwks` },
  [`${issuer}/jwks`]: jwks,
})}
const { fetch } = globalThis
globalThis.fetch = async (input, init) => {
  const url = String(input?.url ?? input)
  return url in published ? Response.json(published[url]) : fetch(input, init)
}
`

interface Framework {
  readonly name: string
  readonly packages: readonly string[]
  /** Writes the application. */
  readonly write: (folder: string) => Promise<unknown>
  readonly build?: readonly string[]
  readonly start: (port: string) => readonly string[]
}

const frameworks: readonly Framework[] = [
  {
    name: 'Nest',
    packages: [
      '@nestjs/core@12.5.1',
      '@nestjs/common@12.5.1',
      '@nestjs/platform-express@12.5.1',
      'reflect-metadata@0.2.2',
      'rxjs@7.8.2',
    ],
    async write(folder) {
      const source = await readFile(path.join(examples, 'nest-app.mts'), 'utf8')
      const { outputText } = ts.transpileModule(source, {
        compilerOptions: {
          experimentalDecorators: true,
          module: ts.ModuleKind.ESNext,
          target: ts.ScriptTarget.ES2023,
        },
      })
      await writeFile(path.join(folder, 'main.js'), outputText)
    },
    start: () => [process.execPath, '--import=./issuer.mjs', 'main.js'],
  },
  {
    name: 'Next',
    packages: ['next@16.4.6', 'react@19.3.1', 'react-dom@19.3.1'],
    async write(folder) {
      await mkdir(path.join(folder, 'app/notes'), { recursive: true })
      await copyFile(path.join(examples, 'next-route.js'), path.join(folder, 'app/notes/route.js'))
      // Next has a fetch of its own, which it sets before this.
      const register = "export async function register() { await import('./issuer.mjs') }"
      await writeFile(path.join(folder, 'instrumentation.js'), register)
    },
    build: ['npx', 'next', 'build'],
    start: (port) => ['npx', 'next', 'start', '--hostname=127.0.0.1', `--port=${port}`],
  },
]

/** Sends what every quick start must tell apart. */
async function checkAnswers(port: string): Promise<void> {
  const headersOf = (scope: string) => {
    const now = Math.floor(Date.now() / 1000)
    const token = accessToken({ iat: now, exp: now + 60, scope })
    return { authorization: `DPoP ${token}`, dpop: dpopProof(token, { iat: now }) }
  }
  const send = (headers: Record<string, string>) =>
    fetch(`http://127.0.0.1:${port}/notes`, { headers })
  const accepted = await send(headersOf('notes:read'))
  assert.equal(accepted.status, 200)
  assert.equal(((await accepted.json()) as { sub: string }).sub, 'alice')
  const { authorization } = headersOf('notes:read')
  assert.equal((await send({ authorization: authorization.replace('DPoP', 'Bearer') })).status, 401)
  assert.equal((await send(headersOf('other'))).status, 403)
}

async function answers(port: string, child: ChildProcess): Promise<boolean> {
  assert.equal(child.exitCode, null, 'the application has ended')
  return fetch(`http://127.0.0.1:${port}/notes`).then(
    () => true,
    () => false,
  )
}

drawProgressOn(process.stderr)
using progress = showProgress()
await using root = await temporaryFolder()
progress.report('Packing the library', 0, frameworks.length + 1)
const archive = await packVerify(root.path)
for (const [at, { name, packages, write, build, start }] of frameworks.entries()) {
  progress.report(name, at + 1, frameworks.length + 1)
  const folder = path.join(root.path, name.toLowerCase())
  await mkdir(folder)
  await writeFile(path.join(folder, 'package.json'), '{"type":"module","private":true}')
  await writeFile(path.join(folder, 'issuer.mjs'), preload)
  await npmInstall([archive, ...packages], folder)
  await write(folder)
  const port = String(await freePort())
  const env = { ...process.env, PORT: port, NEXT_TELEMETRY_DISABLED: '1', NODE_OPTIONS: '' }
  const [program, ...buildArgs] = build ?? []
  if (program) await run(program, buildArgs, { cwd: folder, env })
  const [file = '', ...args] = start(port)
  const child = spawn(file, args, {
    cwd: folder,
    env,
    stdio: ['ignore', 'ignore', 'inherit'],
    detached: true,
  })
  const ended = once(child, 'exit')
  try {
    await until(() => answers(port, child), 60_000)
    await checkAnswers(port)
  } finally {
    // npx starts a child of its own: the group ends whole.
    process.kill(-(child.pid ?? 0), 'SIGTERM')
    await ended
  }
  progress.rest()
  process.stdout.write(`${name}: ${packages[0]} guards its API\n`)
}
