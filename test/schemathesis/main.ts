/*
 * Has schemathesis (PyPI) call the admin API of a running server with what its OpenAPI document
 * allows and with what it does not, and look for answers that the document does not describe.
 *
 * npm run schemathesis -- [--venv <folder>] [options of `schemathesis run`]
 *
 * It needs Python 3.10 or later. schemathesis is installed from requirements.txt into a temporary
 * environment, or once into the folder that --venv names. It ends with the exit code of schemathesis.
 */
import { type SpawnOptions, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createOpenapiDocument } from '../../src/administration/openapi.ts'
import { operations } from '../../src/administration/operations.ts'
import { startTestServer } from '../support/server.ts'

const here = import.meta.dirname

async function run(program: string, args: string[], options: SpawnOptions = {}): Promise<number> {
  const child = spawn(program, args, { stdio: 'inherit', ...options })
  const [code] = await once(child, 'exit')
  return code ?? 1
}

async function main(args: string[]): Promise<number> {
  await using opened = new AsyncDisposableStack()
  const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-schemathesis-'))
  opened.defer(() => rm(folder, { recursive: true, force: true }))
  const [option, named, ...rest] = args
  const isNamed = option === '--venv' && named !== undefined
  const venv = path.resolve(isNamed ? named : path.join(folder, 'venv'))
  const python = path.join(venv, 'bin', 'python')
  if (!existsSync(path.join(venv, 'bin', 'schemathesis'))) {
    if ((await run('python3', ['-m', 'venv', venv])) !== 0) return 1
    const packages = path.join(here, 'requirements.txt')
    if ((await run(python, ['-m', 'pip', 'install', '-q', '-r', packages])) !== 0) return 1
  }
  const server = opened.use(await startTestServer({ HOLDFAST_ADMIN_API: 'on' }))
  const client = await server.addClient({
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    token_endpoint_auth_method: 'client_secret_basic',
    administration: 'write',
  })
  const document = path.join(folder, 'openapi.json')
  await writeFile(document, JSON.stringify(createOpenapiDocument(server.issuer, operations)))
  return await run(
    path.join(venv, 'bin', 'schemathesis'),
    [
      'run',
      document,
      ...['--url', `${server.issuer}/admin`],
      // Few texts are URIs, and it gives up where it has to throw most of its own away.
      '--suppress-health-check=filter_too_much',
      ...(isNamed ? rest : args),
    ],
    {
      // It keeps what it has found beside where it runs.
      cwd: folder,
      env: {
        ...process.env,
        SCHEMATHESIS_HOOKS: path.join(here, 'hooks.py'),
        HOLDFAST_ISSUER: server.issuer,
        HOLDFAST_CLIENT_ID: client.client_id,
        HOLDFAST_CLIENT_SECRET: client.client_secret,
      },
    },
  )
}

process.exitCode = await main(process.argv.slice(2))
