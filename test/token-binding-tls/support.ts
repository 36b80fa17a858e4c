import 'reflect-metadata'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { type RequestOptions, request } from 'node:https'
import type { AddressInfo, LookupFunction } from 'node:net'
import type { Server, TLSSocket } from 'node:tls'
import * as x509 from '@peculiar/x509'
import type { ExecutionContext } from 'ava'
import { isAvailable, tokenBindingOf } from '../../packages/token-binding-tls/index.ts'
import {
  createTokenBindingVerifier,
  fieldValues,
  type TokenBindingProof,
  type TokenBindingVerifier,
} from '../../packages/verify/token-binding.ts'

/** Why tests that need the native part cannot run here; in CI that is a failure. */
export const skipped: string | undefined = missing(
  isAvailable(),
  'the native part is not built: npm run build:native',
)

export function missing(present: boolean, reason: string): string | undefined {
  if (present) return undefined
  if (process.env.CI === 'true') throw new Error(`CI must not skip these tests: ${reason}`)
  process.stderr.write(`SKIPPED test/token-binding-tls: ${reason}\n`)
  return reason
}

/** A self-signed certificate for every name that the tests use. */
export async function makeCertificate(): Promise<{ cert: string; key: string }> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const names = ['localhost', 'rp.example', 'login.idp.example', 'api.idp.example', '*.test']
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: 'CN=holdfast test',
    keys,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.SubjectAlternativeNameExtension([
        ...names.map((value) => ({ type: 'dns' as const, value })),
        { type: 'ip' as const, value: '127.0.0.1' },
      ]),
    ],
  })
  const pkcs8 = await crypto.subtle.exportKey('pkcs8', keys.privateKey)
  const body = Buffer.from(pkcs8).toString('base64')
  const key = `-----BEGIN PRIVATE KEY-----\n${body}\n-----END PRIVATE KEY-----\n`
  return { cert: certificate.toString('pem'), key }
}

export const certificate: { cert: string; key: string } = await makeCertificate()

export async function listen(t: ExecutionContext, server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const sockets = new Set<TLSSocket>()
  server.on('secureConnection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => {})
  })
  t.teardown(async () => {
    server.close()
    for (const socket of sockets) socket.destroy()
    if (server.listening) await once(server, 'close')
  })
  return (server.address() as AddressInfo).port
}

/** A place for sessions by id, without which Node resumes by ticket only; it answers late. */
export function keepSessions(server: Server): void {
  const sessions = new Map<string, Buffer>()
  server.on('newSession', (id: Buffer, data: Buffer, callback: () => void) => {
    sessions.set(id.toString('hex'), data)
    callback()
  })
  server.on('resumeSession', (id: Buffer, callback: (e: null, data: Buffer | null) => void) => {
    setImmediate(callback, null, sessions.get(id.toString('hex')) ?? null)
  })
}

/** Every name is this machine. */
export const lookup: LookupFunction = (_host, options, callback) => {
  if (options.all) callback(null, [{ address: '127.0.0.1', family: 4 }])
  else callback(null, '127.0.0.1', 4)
}

const verifiers = new WeakMap<object, TokenBindingVerifier>()

/** As a server would: what the connection negotiated, then the message against it. */
export function proofOf(incoming: {
  readonly socket: object
  readonly rawHeaders: readonly string[]
}): TokenBindingProof | undefined {
  const values = fieldValues(incoming.rawHeaders, 'sec-token-binding')
  const connection = tokenBindingOf(incoming.socket)
  if (connection === undefined) {
    const none = { negotiated: undefined, ekm: Buffer.alloc(32) }
    return createTokenBindingVerifier(none)(values)
  }
  const verify = verifiers.get(incoming.socket) ?? createTokenBindingVerifier(connection)
  verifiers.set(incoming.socket, verify)
  return verify(values)
}

export interface Answer {
  readonly status: number
  readonly response: IncomingMessage
  readonly body: string
}

export function fetch(url: string, options: RequestOptions, body = ''): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { lookup, ...options }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        text += chunk
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, response, body: text }))
      response.on('error', reject)
    })
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}

/** The answer of `echo`, parsed. */
export async function fetchProof(url: string, options: RequestOptions): Promise<Echo> {
  return JSON.parse((await fetch(url, options)).body)
}

export interface Echo {
  readonly negotiated: string | null
  readonly protocol: string
  readonly proof: TokenBindingProof | null
  readonly refused: string | null
}

/** Answers every request with what it has proven. */
export function echo(
  incoming: { readonly socket: object; readonly rawHeaders: readonly string[] },
  outgoing: { end(body: string): void },
): void {
  const connection = tokenBindingOf(incoming.socket)
  const protocol = (incoming.socket as TLSSocket).getProtocol()
  const facts = { negotiated: connection?.negotiated ?? null, protocol, proof: null, refused: null }
  try {
    outgoing.end(JSON.stringify({ ...facts, proof: proofOf(incoming) ?? null }))
  } catch (error) {
    outgoing.end(JSON.stringify({ ...facts, refused: (error as { code?: string }).code }))
  }
}
