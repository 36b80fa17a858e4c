import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { freePort } from '../../../src/net/free-port.ts'
import { holdfast, serve } from '../../support/cli.ts'

/** A server as an operator starts it, with its default settings and a port for certificates. */
export interface OperatedServer extends AsyncDisposable {
  readonly issuer: string
  /** The certificate authority of its TLS certificate. */
  readonly authorityFile: string
  /** Runs a command of the operator, with this at its input, and gives what it prints as JSON. */
  command(args: readonly string[], stdin?: string): Promise<Record<string, string>>
}

/** @param folder where it keeps its data. */
export async function startServer(folder: string): Promise<OperatedServer> {
  await mkdir(folder, { mode: 0o755 })
  const environment = {
    cwd: folder,
    env: {
      HOLDFAST_PORT: String(await freePort()),
      HOLDFAST_MTLS_PORT: String(await freePort()),
      HOLDFAST_DATA: path.join(folder, 'data'),
      HOLDFAST_LOG_LEVEL: 'warn',
    },
  }
  const server = await serve(environment)
  return {
    issuer: server.printed('Issuer') ?? '',
    authorityFile: server.printed('Trust')?.replace('NODE_EXTRA_CA_CERTS=', '') ?? '',
    async command(args, stdin = '') {
      const { code, stdout, stderr } = await holdfast(environment, [...args, '--json'], { stdin })
      if (code !== 0) throw new Error(`holdfast ${args.join(' ')}: ${stderr}`)
      return JSON.parse(stdout)
    },
    async [Symbol.asyncDispose]() {
      await server.end('SIGTERM')
    },
  }
}
