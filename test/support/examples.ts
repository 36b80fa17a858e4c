import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import { developmentCertificate } from '../../src/http/development-authority.ts'
import { freePort } from '../../src/net/free-port.ts'
import { fromSources } from './cli.ts'
import type { TestServer } from './server.ts'

const root = path.resolve(import.meta.dirname, '../..')

/** The programs of examples/, as people start them, with their API. */
export interface Examples extends AsyncDisposable {
  /** Where the API listens. */
  readonly api: string
  /** Starts a program, with nothing else in its environment than it needs and `more`. */
  start(program: string, more?: Record<string, string>): ChildProcess
}

/** @param folder where the programs run and find their certificates; in `PATH` as well. */
export async function startExamples(
  { issuer, storage }: Pick<TestServer, 'issuer' | 'storage'>,
  { folder, authorityFile }: { folder: string; authorityFile: string },
  environment: Record<string, string> = {},
): Promise<Examples> {
  const api = `https://localhost:${await freePort()}`
  const { cert, key } = await developmentCertificate(path.dirname(authorityFile), [])
  await writeFile(path.join(folder, 'api.pem'), cert)
  await writeFile(path.join(folder, 'api-key.pem'), key)
  await storage.resourceServers.insert({ identifier: api, name: 'Orders', scopes: ['read'] })
  const running: ChildProcess[] = []
  const start: Examples['start'] = (program, more) => {
    const file = path.join(root, 'examples', program)
    const [command, args] = file.endsWith('.sh')
      ? [file, []]
      : [process.execPath, [fromSources, file]]
    const child = spawn(command, args, {
      cwd: folder,
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        PATH: `${folder}:${process.env.PATH}`,
        ISSUER: issuer,
        API: api,
        NODE_EXTRA_CA_CERTS: authorityFile,
        CURL_CA_BUNDLE: authorityFile,
        ...environment,
        ...more,
      },
    })
    running.push(child)
    return child
  }
  await printed(start('api/main.js'), /The API listens/)
  return {
    api,
    start,
    async [Symbol.asyncDispose]() {
      for (const child of running) {
        if (child.exitCode === null && child.kill()) await once(child, 'exit')
      }
    },
  }
}

/** What a program prints until it ends. */
export const ended = ({ stdout }: ChildProcess) => text(stdout as NodeJS.ReadableStream)

/** What a program has printed by the time that it matches. */
export function printed({ stdout }: ChildProcess, pattern: RegExp): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  let output = ''
  stdout?.on('data', (chunk: Buffer) => {
    output += chunk
    if (pattern.test(output)) resolve(output)
  })
  stdout?.on('end', () => reject(new Error(`it ended: ${output}`)))
  return promise
}
