import { readFile } from 'node:fs/promises'
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { Server as NetServer, Socket } from 'node:net'
import path from 'node:path'
import type { Duplex } from 'node:stream'
import { createSecureContext, type TlsOptions } from 'node:tls'
import { equip } from '@holdfast/token-binding-tls'
import type { Config } from '../config/config.ts'
import { ListenError } from '../net/listen-error.ts'
import { asListenError, closeServer, listenAt } from './acceptors.ts'
import { developmentCertificate } from './development-authority.ts'
import {
  boundConnections,
  boundUnanswered,
  type UnansweredRequests,
} from './unanswered-requests.ts'

type ListenConfig = Pick<
  Config,
  'listen' | 'tls' | 'tlsCiphers' | 'dataFolder' | 'issuer' | 'tokenBinding'
>

type CertificateRequest = Pick<TlsOptions, 'requestCert' | 'rejectUnauthorized'>

export interface Listening extends AsyncDisposable {
  /** The development authority's certificate, when that is what the server's is from. */
  readonly authorityFile: string | undefined
}

/**
 * Listens for HTTPS, or for plain HTTP where that was asked for. Disposing stops accepting,
 * lets requests that were begun finish, within a bound, and then closes. Where clients are asked for certificates,
 * they may have any or none.
 *
 * @throws {@link ListenError}
 * @throws {TokenBindingTlsError} where Token Binding is configured and its native part is missing.
 */
export async function listen(
  handler: RequestListener,
  config: ListenConfig,
  {
    askForCertificates = false,
    isShared = false,
  }: {
    askForCertificates?: boolean
    /** Whether other processes of this node listen at the same port. */
    isShared?: boolean
  } = {},
): Promise<Listening> {
  // Of nobody's authority: which certificate is good for what is decided for each client.
  const request = askForCertificates ? { requestCert: true, rejectUnauthorized: false } : {}
  const requests = boundUnanswered(handler)
  const { server, authorityFile } = await makeServer(requests.listener, config, request)
  server.on('connect', refuseTunnel)
  const connections = connectionsOf(server)
  const { host, port } = config.listen
  const acceptors = await listenAt(server, { host, port }, { isShared }).catch((cause) => {
    throw asListenError(cause, host, port)
  })
  boundConnections(server, acceptors)
  return {
    authorityFile,
    [Symbol.asyncDispose]: () => close(server, acceptors, connections, requests),
  }
}

/** This is no proxy. Of itself Node would hang up without an answer. */
function refuseTunnel(_request: unknown, socket: Duplex): void {
  socket.on('error', () => {})
  socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n', () => socket.destroy())
}

/** Milliseconds that requests get to finish: a client that sends a byte a minute gets no more. */
const patience = 20_000

/** The connections of a server that are open. */
function connectionsOf(server: Server): ReadonlySet<Socket> {
  const connections = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    connections.add(socket)
    socket.once('close', () => connections.delete(socket))
  })
  return connections
}

/**
 * Closes a server when the last request that was begun has ended. Of itself Node would wait, for
 * minutes, for connections on which nobody has asked for anything: browsers open them ahead.
 */
async function close(
  server: Server,
  acceptors: readonly NetServer[],
  connections: ReadonlySet<Socket>,
  requests: UnansweredRequests,
): Promise<void> {
  const closed = Promise.all([server, ...acceptors].map(closeServer))
  const giveUp = setTimeout(() => server.closeAllConnections(), patience)
  // A connection that is kept can bring one more request while another one ends.
  await requests.allAnswered()
  for (const socket of connections) socket.destroySoon()
  await closed
  clearTimeout(giveUp)
}

async function makeServer(
  handler: RequestListener,
  { tls, tlsCiphers: ciphers, dataFolder, issuer, tokenBinding }: ListenConfig,
  request: CertificateRequest,
): Promise<{ server: Server; authorityFile: string | undefined }> {
  const createSecure = (pair: TlsOptions) => {
    const create = () => createHttpsServer({ ...pair, ...request, ciphers }, handler)
    const tls13Draft = tokenBinding === 'tls13-draft'
    return tls13Draft || tokenBinding === 'tls' ? equip(create, { tls13Draft }) : create()
  }
  switch (tls.mode) {
    case 'off':
      return { server: createHttpServer(handler), authorityFile: undefined }
    case 'files': {
      return { server: createSecure(await readCertificate(tls)), authorityFile: undefined }
    }
    case 'development': {
      const { authorityFile, ...pair } = await developmentCertificate(
        path.join(dataFolder, 'tls'),
        [new URL(issuer).hostname.replace(/^\[|\]$/g, '')],
      )
      return { server: createSecure(pair), authorityFile }
    }
  }
}

/**
 * Reads the certificate and the key that the configuration names.
 *
 * @throws {@link ListenError} `certificate_unusable`, naming each file that cannot be read.
 */
export async function readCertificate({
  certFile,
  keyFile,
}: Extract<Config['tls'], { mode: 'files' }>): Promise<{ cert: string; key: string }> {
  const [cert, key] = await Promise.allSettled([
    readPem('HOLDFAST_TLS_CERT_FILE', certFile),
    readPem('HOLDFAST_TLS_KEY_FILE', keyFile),
  ])
  if (cert.status === 'rejected' || key.status === 'rejected') {
    const reasons = [cert, key].flatMap((each) => (each.status === 'rejected' ? [each.reason] : []))
    const message = reasons.map((reason: Error) => reason.message).join('\n')
    throw new ListenError('certificate_unusable', message, { cause: reasons[0] })
  }
  const pair = { cert: cert.value, key: key.value }
  try {
    createSecureContext(pair)
  } catch (cause) {
    throw new ListenError(
      'certificate_unusable',
      `HOLDFAST_TLS_CERT_FILE and HOLDFAST_TLS_KEY_FILE cannot be used: ${(cause as Error).message}.`,
      { cause },
    )
  }
  return pair
}

async function readPem(variable: string, file: string): Promise<string> {
  return readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new ListenError(
      'certificate_unusable',
      `${variable} cannot be read (${cause.code}): ${file}.`,
      { cause },
    )
  })
}
