import { readFile } from 'node:fs/promises'
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import path from 'node:path'
import type { Config } from '../config/config.ts'
import { developmentCertificate } from './development-authority.ts'

export type ListenErrorCode = 'address_in_use' | 'address_unusable' | 'certificate_unusable'

/** The server cannot listen as configured. The message is a sentence for the operator. */
export class ListenError extends Error {
  override name = 'ListenError'
  readonly code: ListenErrorCode

  constructor(code: ListenErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

export interface Listening extends AsyncDisposable {
  /** The development authority's certificate, when that is what the server's is from. */
  readonly authorityFile: string | undefined
}

/**
 * Listens for HTTPS, or for plain HTTP where that was asked for. Disposing stops accepting,
 * lets requests that were begun finish, within a bound, and then closes.
 *
 * @throws {@link ListenError}
 */
export async function listen(
  handler: RequestListener,
  { listen: { host, port }, tls, dataFolder, issuer }: Config,
): Promise<Listening> {
  const { server, authorityFile } = await makeServer(handler, tls, dataFolder, issuer)
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => reject(asListenError(cause, host, port)))
    server.listen(port, host, resolve)
  })
  return {
    authorityFile,
    [Symbol.asyncDispose]: () => finishRequests(server),
  }
}

/** Milliseconds that requests get to finish: a client that sends a byte a minute gets no more. */
const patience = 20_000

/** Stops accepting, lets requests that were begun finish, and closes each connection after its. */
async function finishRequests(server: Server): Promise<void> {
  const closed = new Promise((resolve) => server.close(resolve))
  // A connection that is kept alive becomes idle when its request has been answered.
  const sweep = setInterval(() => server.closeIdleConnections(), 50)
  const giveUp = setTimeout(() => server.closeAllConnections(), patience)
  await closed
  clearInterval(sweep)
  clearTimeout(giveUp)
}

async function makeServer(
  handler: RequestListener,
  tls: Config['tls'],
  dataFolder: string,
  issuer: string,
): Promise<{ server: Server; authorityFile: string | undefined }> {
  switch (tls.mode) {
    case 'off':
      return { server: createHttpServer(handler), authorityFile: undefined }
    case 'files': {
      const [cert, key] = await Promise.all([tls.certFile, tls.keyFile].map(readPem))
      try {
        return { server: createHttpsServer({ cert, key }, handler), authorityFile: undefined }
      } catch (cause) {
        throw new ListenError(
          'certificate_unusable',
          `HOLDFAST_TLS_CERT_FILE and HOLDFAST_TLS_KEY_FILE cannot be used: ${(cause as Error).message}.`,
          { cause },
        )
      }
    }
    case 'development': {
      const { authorityFile, ...pair } = await developmentCertificate(
        path.join(dataFolder, 'tls'),
        [new URL(issuer).hostname.replace(/^\[|\]$/g, '')],
      )
      return { server: createHttpsServer(pair, handler), authorityFile }
    }
  }
}

async function readPem(file: string): Promise<string> {
  return readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new ListenError('certificate_unusable', `${file} cannot be read (${cause.code}).`, {
      cause,
    })
  })
}

function asListenError(cause: NodeJS.ErrnoException, host: string, port: number): ListenError {
  return cause.code === 'EADDRINUSE'
    ? new ListenError(
        'address_in_use',
        `Port ${port} on ${host} is in use. Stop what uses it, or set HOLDFAST_PORT.`,
        { cause },
      )
    : new ListenError(
        'address_unusable',
        `Cannot listen on port ${port} of ${host} (${cause.code}). Check HOLDFAST_HOST and HOLDFAST_PORT.`,
        { cause },
      )
}
